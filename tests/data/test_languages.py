"""Language codes: parsing, synonyms, scripts and regions, ranking."""

import doctest
import subprocess
import sys

import pytest

from keras_mtl.data import languages
from keras_mtl.data.languages import Fit


@pytest.mark.parametrize(
    ("code", "canonical"),
    [
        ("fr", "fr"),
        (" FR ", "fr"),
        ("pt-br", "pt-BR"),
        ("pt_BR", "pt-BR"),
        ("PT-BR", "pt-BR"),
        ("de_DE.UTF-8", "de-DE"),
        ("de_DE.UTF-8@euro", "de-DE"),
        ("de_DE@euro", "de-DE"),
        ("zh-hant-tw", "zh-Hant-TW"),
        ("ZH_HANT", "zh-Hant"),
        ("zh-CHS", "zh-Hans"),
        ("zh-cht", "zh-Hant"),
        ("sr@latin", "sr-Latn"),
        ("sr_RS@latin", "sr-Latn-RS"),
        ("sr@Latn", "sr-Latn"),
        ("sr-SP-Latn", "sr-Latn-SP"),
        ("uz@cyrillic", "uz-Cyrl"),
        ("ca@valencia", "ca-valencia"),
        ("ca-ES-valencia", "ca-ES-valencia"),
        ("es-419", "es-419"),
        ("iw", "he"),
        ("in_ID", "id-ID"),
        ("ji", "yi"),
        ("nb-NO", "no-NO"),
        ("nob", "no"),
        ("eng", "en"),
        ("ENG-US", "en-US"),
        ("fra", "fr"),
        ("fre", "fr"),
        ("ger", "de"),
        ("zho", "zh"),
        ("chi", "zh"),
        ("cmn-Hans", "zh-Hans"),
        ("zh-cmn-Hant", "zh-Hant"),
        ("zh-yue", "yue"),
        ("sh", "sr-Latn"),
        ("en-UK", "en-GB"),
        ("en-USA", "en-US"),
        ("de-DE-1996", "de-DE-1996"),
        ("en-US-u-ca-gregory", "en-US"),
        ("en-x-piglatin", "en-x-piglatin"),
        ("gsw", "gsw"),
    ],
)
def test_codes_are_brought_into_one_form(code, canonical):
    assert languages.canonical(code) == canonical


@pytest.mark.parametrize("code", ["", "C", "*all*", "english", "e", "e1", "en-", "fr/x", "中文"])
def test_what_is_not_a_code(code):
    assert languages.parse(code) is None
    assert languages.canonical(code) is None
    assert not languages.is_known(code)


@pytest.mark.parametrize(
    ("code", "known"),
    [("en", True), ("gsw-CH", True), ("ui", False), ("FR", True), ("core", False)],
)
def test_known_languages(code, known):
    assert languages.is_known(code) is known


@pytest.mark.parametrize(
    ("wanted", "found", "fit"),
    [
        ("en", "EN", Fit.EXACT),
        ("en", "eng", Fit.EXACT),
        ("en", "en-US", Fit.LIKELY_REGION),
        ("en", "EN_gb", Fit.OTHER_REGION),
        ("en-US", "en", Fit.LIKELY_REGION),
        ("en-GB", "en", Fit.OTHER_REGION),
        ("en-GB", "en-US", None),
        ("en-GB", "en_UK", Fit.EXACT),
        ("en", "enm", None),
        ("he", "iw", Fit.EXACT),
        ("iw", "he-IL", Fit.LIKELY_REGION),
        ("no", "nb", Fit.EXACT),
        ("nb", "no-NO", Fit.LIKELY_REGION),
        ("no", "nn", None),
        ("id", "in", Fit.EXACT),
        ("yi", "ji", Fit.EXACT),
        ("zh", "zh-CN", Fit.EXACT),
        ("zh-Hans", "zh_CN", Fit.EXACT),
        ("zh-CN", "zh-Hans", Fit.EXACT),
        ("zh-TW", "zh-Hant", Fit.EXACT),
        ("zh-TW", "zh-Hant-TW", Fit.EXACT),
        ("zh-Hant", "zh-HK", Fit.OTHER_REGION),
        ("zh-TW", "zh-HK", None),
        ("zh", "zh-TW", None),
        ("zh", "zh-Hant", None),
        ("zh-TW", "zh", None),
        ("zh", "zh-SG", Fit.OTHER_REGION),
        ("sr", "sr-Cyrl", Fit.EXACT),
        ("sr", "sr-RS", Fit.LIKELY_REGION),
        ("sr", "sr-Latn", None),
        ("sr-Latn", "sr", None),
        ("sr-Latn", "sr@latin", Fit.EXACT),
        ("sr-Latn", "sh", Fit.EXACT),
        ("sr-Latn", "sr-Latn-RS", Fit.LIKELY_REGION),
        ("sr", "sr-ME", None),
        ("uz", "uz@cyrillic", None),
        ("ca", "ca@valencia", None),
        ("ca-valencia", "ca@valencia", Fit.EXACT),
        ("ca-valencia", "ca", None),
        ("Pig_Latin!", "pig-latin!", Fit.EXACT),
        ("english", "en", None),
    ],
)
def test_fit(wanted, found, fit):
    assert languages.fit(wanted, found) is fit


def test_the_best_code_wins_whatever_the_order():
    for available in (["zh-TW", "zh-HK", "zh-CN"], ["zh-CN", "zh-HK", "zh-TW"]):
        assert languages.match("zh", available) == "zh-CN"
        assert languages.match("zh-Hant", available) == "zh-TW"
    assert languages.match("pt", ["pt-PT", "pt-BR", "pt"]) == "pt"
    assert languages.match("pt", ["pt-PT", "pt-BR"]) == "pt-BR"
    assert languages.match("pt", ["pt-AO", "pt-PT"]) == "pt-AO"
    assert languages.match("zh", ["zh-TW", "zh-Hant"]) is None
    assert languages.match("fr", []) is None


def test_a_wanted_region_leaves_codes_without_a_region_when_it_is_there():
    assert languages.fitting("pt-PT", ["pt", "pt_PT", "pt-pt"]) == ["pt_PT", "pt-pt"]
    assert languages.fitting("pt-PT", ["pt", "pt-BR"]) == ["pt"]
    assert languages.fitting("en", ["en-GB", "en-US", "de", "en"]) == ["en", "en-US", "en-GB"]


def test_near_codes_are_of_the_same_language():
    available = ["zh-CN", "zh-TW", "en", "yue"]
    assert languages.near("zh-TW", available) == ["zh-CN"]
    assert languages.near("de", available) == []
    assert languages.near("?", available) == []


def test_docstring_examples():
    assert doctest.testmod(languages).failed == 0


def test_importing_needs_neither_tensorflow_nor_locale_data():
    program = (
        "import sys; from keras_mtl.data import languages; languages.parse('pt-BR');"
        "assert not {'tensorflow', 'numpy', 'babel.dates'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
