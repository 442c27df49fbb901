"""Which catalogs of a directory are those of a language, by their names."""

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora
from keras_mtl.data.corpora.catalog_files import find_catalogs


def _add(directory, *names, language=""):
    """Writes catalogs whose one translation is the name of the file."""
    for name in names:
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        header = f'"Language: {language}\\n"\n' if language else ""
        path.write_text(
            'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n'
            f'{header}\nmsgid "text {name}"\nmsgstr "{name}"\n'
        )


def _found(directory, wanted):
    return {
        file.path.removeprefix(f"{directory}/"): file.domain
        for file in find_catalogs(str(directory), wanted)
    }


def _reader(directory, source="en", target="fr", **options):
    return corpora.create_reader("gettext", source, target, {"folders": str(directory), **options})


def _read(directory, target="fr", **options):
    return sorted(pair.target for pair in _reader(directory, target=target, **options))


@pytest.mark.parametrize(
    ("name", "wanted", "domain"),
    [
        ("fr/LC_MESSAGES/app.po", "fr", "*/LC_MESSAGES/app"),
        ("fr_FR/LC_MESSAGES/app.po", "fr", "*/LC_MESSAGES/app"),
        ("fr/LC_TIME/app.po", "fr", "*/LC_TIME/app"),
        ("usr/lib/ast/LC_MESSAGES/app.po", "ast", "usr/lib/*/LC_MESSAGES/app"),
        ("lang/fr.UTF-8/app.po", "fr", "lang/*/app"),
        ("lang/cs.cp1250/app.po", "cs", "lang/*/app"),
        ("ca@valencia/app.po", "ca", "*/app"),
        ("zh-Hans/app.po", "zh", "*/app"),
        ("src/lib/po/fr.po", "fr", "src/lib/po/*"),
        ("po/pt-br.po", "pt-BR", "po/*"),
        ("po/ast.po", "ast", "po/*"),
        ("po/iw.po", "he", "po/*"),
        ("po/fra.po", "fr", "po/*"),
        ("po/fr.core.po", "fr", "po/*.core"),
        ("po/fr_CA.core.po", "fr", "po/*.core"),
        ("messages.fr.po", "fr", "messages.*"),
        ("app-1.2.pt_BR.po", "pt", "app-1.2.*"),
        ("app-fr.po", "fr", "app-*"),
        ("app_fr.po", "fr", "app_*"),
        ("my-app-fr.po", "fr", "my-app-*"),
        ("my_app_pt_BR.po", "pt", "my_app_*"),
        ("app-zh-Hant-TW.po", "zh", "app-*"),
        ("app-sr@latin.po", "sr", "app-*"),
        ("app-es_419.po", "es", "app-*"),
        # Not the language "my" or "app" of France.
        ("my-fr.po", "fr", "my-*"),
        ("app-fr/x.po", "fr", None),
        # What only looks like the language.
        ("messages.po", "es", None),
        ("node-de-bug.po", "de", None),
        ("app_pt_BR.po", "br", None),
        ("my-app-fr.po", "my", None),
        ("fr/LC_MESSAGES/foo-no.po", "no", None),
        ("ast/LC_MESSAGES/foo-no.po", "no", None),
        ("sr@latin/LC_MESSAGES/no.po", "no", None),
        ("fr/LC_MESSAGES/de.example.App.po", "de", None),
        ("fr/id.po", "id", None),
        ("de/app-fr.po", "fr", None),
        ("french.po", "fr", None),
        ("fr.txt", "fr", None),
    ],
)
def test_names(tmp_path, name, wanted, domain):
    _add(tmp_path, name)
    assert _found(tmp_path, wanted) == ({} if domain is None else {name: domain})


@pytest.mark.parametrize(
    ("name", "language", "wanted", "is_found"),
    [
        ("foo-no.po", "", "no", True),
        ("foo-no.po", "nb_NO", "no", True),
        ("foo-no.po", "en", "no", True),  # As in the template.
        ("foo-no.po", "de", "no", False),
        ("app-id.po", "fr", "id", False),
        ("os/fr.po", "fr", "fr", True),
        ("os/fr.po", "fr", "os", False),
        ("fr/id.po", "fr", "fr", True),
        ("fr/id.po", "fr", "id", False),
        ("fr/id.po", "id", "id", True),
        ("de/app-fr.po", "fr", "fr", True),
        ("de/app-fr.po", "fr", "de", False),
        ("de.example.fr.po", "fr", "fr", True),
        ("de.example.fr.po", "fr", "de", False),
        # A name that leaves no doubt counts more than a header that was copied.
        ("po/fr.po", "es", "fr", True),
        ("fr/LC_MESSAGES/app.po", "es", "fr", True),
    ],
)
def test_the_header_decides_what_a_name_leaves_open(tmp_path, name, language, wanted, is_found):
    _add(tmp_path, name, language=language)
    assert bool(_found(tmp_path, wanted)) == is_found


def test_catalogs_are_listed_in_order_and_links_once(tmp_path):
    _add(tmp_path, "fr/LC_MESSAGES/zeta.po", "fr/LC_MESSAGES/alpha.po", "more/fr/alpha.po")
    (tmp_path / "fr/LC_MESSAGES/other.po").symlink_to(tmp_path / "fr/LC_MESSAGES/zeta.po")
    (tmp_path / "fr/LC_MESSAGES/none.po").symlink_to(tmp_path / "nothing.po")
    assert [file.domain for file in find_catalogs(str(tmp_path), "fr")] == [
        "*/LC_MESSAGES/alpha",
        "*/LC_MESSAGES/other",
        "more/*/alpha",
    ]


def test_no_catalog_of_a_domain_is_lost(tmp_path):
    names = [
        "po/fr.core.po",
        "po/fr.po",
        "po/fr.ui.po",
        "po/ui-fr.po",
        "po/ui.fr.po",
        "po/ui_fr.po",
    ]
    _add(tmp_path, *names, "po/de.core.po", "po/de.ui.po")
    assert _read(tmp_path) == names
    # One domain in two spellings: both are read.
    _add(tmp_path, "po/FR.po")
    assert _read(tmp_path) == ["po/FR.po", *names]


def test_domains_are_joined_in_every_layout(tmp_path):
    for name in ("po/{}.core.po", "po/{}.ui.po", "app-{}.po", "messages.{}.po"):
        for language in ("fr", "de"):
            path = tmp_path / name.format(language)
            path.parent.mkdir(exist_ok=True)
            path.write_text(f'msgid "one"\nmsgstr "{name.format(language)}"\n')
    pairs = [(pair.source, pair.target) for pair in _reader(tmp_path, "fr", "de")]
    assert sorted(pairs) == [
        ("app-fr.po", "app-de.po"),
        ("messages.fr.po", "messages.de.po"),
        ("po/fr.core.po", "po/de.core.po"),
        ("po/fr.ui.po", "po/de.ui.po"),
    ]


def test_the_best_region_is_read_and_the_others_are_named(tmp_path):
    _add(tmp_path, "pt/a.po", "pt_BR/a.po", "pt_BR/b.po", "pt_PT/c.po")
    reader = _reader(tmp_path, target="pt")
    stream = corpora.read_pairs(reader)
    assert [pair.target for pair in stream] == ["pt/a.po"]
    assert stream.report() == [
        "reader 'gettext' reads catalogs of pt for 'pt'; catalogs of pt_BR (2), pt_PT (1) are not "
        "read; target_locale chooses others"
    ]
    assert _read(tmp_path, "pt-BR") == ["pt_BR/a.po", "pt_BR/b.po"]
    chosen = {"target_locale": ["pt", "pt-br", "pt_PT"]}
    assert _read(tmp_path, "pt", **chosen) == ["pt/a.po", "pt_BR/b.po", "pt_PT/c.po"]
    assert _reader(tmp_path, target="pt", **chosen).notes == []


def test_another_region_is_read_if_there_is_nothing_else(tmp_path):
    _add(tmp_path, "fr_CA/a.po")
    reader = _reader(tmp_path)
    assert [pair.target for pair in reader] == ["fr_CA/a.po"]
    assert reader.notes == [
        "reader 'gettext' reads catalogs of fr_CA for 'fr'; target_locale chooses others"
    ]
    _add(tmp_path, "fr_BE/a.po")
    with pytest.raises(errors.DataError, match=r"fr_BE \(1\), fr_CA \(1\), but they are for sev"):
        _reader(tmp_path)
    with pytest.raises(errors.DataError, match=r"fr_CA \(1\), but none of them fits"):
        _reader(tmp_path, target="fr-CH")
    _add(tmp_path, "fr_FR/a.po")
    assert _read(tmp_path) == ["fr_FR/a.po"]
    _add(tmp_path, "fr/b.po")
    assert _read(tmp_path) == ["fr/b.po"]
    assert _read(tmp_path, "fr-CH") == ["fr/b.po"]


@pytest.mark.parametrize(
    ("target", "read"),
    [
        ("zh", ["zh-Hans/a.po", "zh_CN/a.po"]),
        ("zh-CN", ["zh-Hans/a.po", "zh_CN/a.po"]),
        ("zh-TW", ["zh_TW/a.po"]),
        ("zh-Hant", ["zh_TW/a.po"]),
        ("sr", ["sr/a.po"]),
        ("sr-Latn", ["sr@latin/a.po"]),
        ("nb", ["nb/a.po", "no/a.po"]),
        ("no", ["nb/a.po", "no/a.po"]),
        ("nn", ["nn_NO/a.po"]),
        ("ca", ["ca/a.po"]),
        ("ca-valencia", ["ca@valencia/a.po"]),
        ("fra", ["fr/a.po"]),
    ],
)
def test_scripts_and_variants_are_not_mixed_and_synonyms_are_the_same(tmp_path, target, read):
    for locale in [
        "zh-Hans",
        "zh_CN",
        "zh_TW",
        "sr",
        "sr@latin",
        "nb",
        "no",
        "nn_NO",
        "ca",
        "ca@valencia",
        "fr",
    ]:
        _add(tmp_path, f"{locale}/a.po")
    assert _read(tmp_path, target) == read


def test_a_script_that_is_missing_is_an_error_that_names_the_others(tmp_path):
    _add(tmp_path, "po/zh_CN.po")
    there = r"there are catalogs of zh_CN \(1\), but none of them fits"
    with pytest.raises(errors.DataError, match=rf"of zh-TW .*; {there}; .* with target_locale"):
        _reader(tmp_path, target="zh-TW")


@pytest.mark.parametrize(("source", "target"), [("en", "EN"), ("en", "en-US"), ("fr", "FR")])
def test_one_language_in_two_spellings_is_refused(tmp_path, source, target):
    _add(tmp_path, "fr.po")
    with pytest.raises(errors.ConfigError, match=f"'{source}' and target '{target}' are the same"):
        _reader(tmp_path, source, target)


@pytest.mark.parametrize("english", ["en", "EN", "eng", "en-US"])
def test_the_msgid_is_english(tmp_path, english):
    _add(tmp_path, "fr.po", "en_US.po")
    assert [pair.source for pair in _reader(tmp_path, english, "fr")] == ["text fr.po"]
    named = _reader(tmp_path, english, "fr", source_locale="en_US")
    assert named.paths() == [str(tmp_path / "en_US.po"), str(tmp_path / "fr.po")]


def test_exclude_takes_names_with_and_without_the_language(tmp_path):
    _add(tmp_path, "iso_3166-fr.po", "fr.core.po", "fr.ui.po", "fr/iso_3166.po")
    assert _read(tmp_path, exclude="iso_3166*") == ["fr.core.po", "fr.ui.po"]
    assert _read(tmp_path, exclude=["iso*", "fr.core"]) == ["fr.ui.po"]
    assert _read(tmp_path, exclude=["iso*", "[*].core"]) == ["fr.ui.po"]
