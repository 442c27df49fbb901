"""TMX: language codes, whole files, memory. For damage, see test_corpora_tmx_damage.py."""

import gzip
import tracemalloc

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><header srclang="en"/><body>\n'
_TAIL = "</body></tmx>\n"


def _unit(*variants, **texts):
    pairs = [*variants, *((code.replace("_", "-"), text) for code, text in texts.items())]
    return (
        "<tu>"
        + "".join(f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>' for code, text in pairs)
        + "</tu>\n"
    )


def _read(tmp_path, text, source="en", target="fr", **options):
    path = tmp_path / "m.tmx"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    options["file"] = str(path)
    return corpora.read_pairs(corpora.create_reader("tmx", source, target, options))


def _targets(*args, **options):
    return [pair.target for pair in _read(*args, **options)]


def test_pairs_languages_and_inline_markup(tmp_path):
    text = (
        _HEAD
        + _unit(
            en_US="Press <bpt i='1'>{\\b</bpt>OK<ept i='1'>}</ept> &amp; <hi>wait</hi>.", FR="OK"
        )
        + _unit(de="Hallo", en="Hello")
        + _unit(en_GB="colour", en="color", fr_CA="char", fr="couleur")
        + _TAIL
    )
    stream = _read(tmp_path, text)
    assert [(p.source, p.target, p.line) for p in stream] == [
        ("Press OK & wait.", "OK", 3),
        ("color", "couleur", 5),
    ]
    assert stream.dropped == {"no such language": 1}


def test_gzip_namespace_and_old_lang_attribute(tmp_path):
    text = (
        '<tmx xmlns="http://www.lisa.org/tmx14"><body><tu><tuv lang="EN"><seg>a</seg></tuv>'
        '<tuv lang="fr"><seg>b</seg></tuv></tu></body></tmx>'
    )
    assert [p.source for p in _read(tmp_path, gzip.compress(text.encode()))] == ["a"]


def test_namespace_prefix_and_attributes_with_brackets(tmp_path):
    text = (
        '<t:tmx xmlns:t="urn:x"><t:body><t:tu><t:tuv note="a>b" xml:lang="en"><t:seg>a</t:seg>'
        "</t:tuv><t:tuv note='\"' xml:lang='fr'><t:seg>b</t:seg></t:tuv></t:tu></t:body></t:tmx>"
    )
    assert _targets(tmp_path, text) == ["b"]


def test_several_files(tmp_path):
    for number in (1, 2):
        text = _HEAD + _unit(en=f"{number}", fr=f"n{number}") + _TAIL
        (tmp_path / f"{number}.tmx").write_text(text)
    options = {"file": str(tmp_path / "*.tmx")}
    reader = corpora.create_reader("tmx", "en", "fr", options)
    assert [p.target for p in corpora.read_pairs(reader)] == ["n1", "n2"]
    assert reader.paths() == [str(tmp_path / "1.tmx"), str(tmp_path / "2.tmx")]


# Language codes.


def test_an_empty_variant_gives_way_to_a_full_one(tmp_path):
    text = _HEAD + _unit(("en", "Yes"), ("fr", ""), ("fr", " "), ("fr", "Oui")) + _TAIL
    assert _targets(tmp_path, text) == ["Oui"]
    text = _HEAD + _unit(("en", "Yes"), ("fr", ""), ("fr-CA", "Oui"), ("fr-FR", "  ")) + _TAIL
    assert _targets(tmp_path, text) == ["Oui"]


def test_empty_variants_only_are_left_to_cleaning(tmp_path):
    assert _targets(tmp_path, _HEAD + _unit(en="Yes", fr="") + _TAIL) == [""]


def test_of_two_regions_the_same_one_wins_in_every_unit(tmp_path):
    text = (
        _HEAD
        + _unit(en="color", pt_PT="cor (PT)", pt_BR="cor (BR)")
        + _unit(en="bus", pt_BR="ônibus", pt_PT="autocarro")
        + _TAIL
    )
    assert _targets(tmp_path, text, target="pt") == ["cor (BR)", "ônibus"]
    assert _targets(tmp_path, text, target="pt-PT") == ["cor (PT)", "autocarro"]


def test_scripts_are_never_mixed(tmp_path):
    units = [
        _unit(("en", "mouse"), ("zh-TW", "滑鼠"), ("zh-CN", "鼠标")),
        _unit(("en", "file"), ("zh-CN", "文件"), ("zh-TW", "檔案")),
        _unit(("en", "data"), ("zh-TW", "資料")),
    ]
    text = _HEAD + "".join(units) + _TAIL
    stream = _read(tmp_path, text, target="zh")
    assert [p.target for p in stream] == ["鼠标", "文件"]
    assert stream.dropped == {"no such language": 1}
    assert _targets(tmp_path, text, target="zh-Hant") == ["滑鼠", "檔案", "資料"]
    text = _HEAD + _unit(("en", "yes"), ("sr", "да"), ("sr-Latn", "da")) + _TAIL
    assert _targets(tmp_path, text, target="sr-Latn") == ["da"]
    assert _targets(tmp_path, text, target="sr") == ["да"]


@pytest.mark.parametrize(
    ("wanted", "code"), [("sr-Latn", "sr"), ("sr", "sr-Latn"), ("zh", "zh-TW"), ("zh-TW", "zh-CN")]
)
def test_another_script_is_not_taken_for_one_that_is_missing(tmp_path, wanted, code):
    text = _HEAD + _unit(("en", "yes"), (code, "x")) + _TAIL
    with pytest.raises(
        errors.DataError, match=rf"no variant is in '{wanted}'; .* en \(1\), {code} \(1\)"
    ):
        _targets(tmp_path, text, target=wanted)


@pytest.mark.parametrize(
    ("wanted", "code"),
    [
        ("he", "iw"),
        ("nb", "NO"),
        ("id", "in-ID"),
        ("zh-Hans", "zh_CN"),
        ("fr", "FRE"),
        ("fr", "fra"),
    ],
)
def test_synonyms(tmp_path, wanted, code):
    assert _targets(tmp_path, _HEAD + _unit(("eng", "a"), (code, "b")) + _TAIL, target=wanted) == [
        "b"
    ]


def test_a_region_that_the_file_has_excludes_codes_without_one(tmp_path):
    text = _HEAD + _unit(en="a", pt="BR?") + _unit(en="b", pt_PT="PT") + _TAIL
    assert _targets(tmp_path, text, target="pt-PT") == ["PT"]


def test_a_variant_belongs_to_one_side(tmp_path):
    text = _HEAD + _unit(en_US="color", en_GB="colour") + _unit(en_GB="lorry") + _TAIL
    stream = _read(tmp_path, text, source="en", target="en-GB")
    assert [(p.source, p.target) for p in stream] == [("color", "colour")]


def test_a_list_of_languages_in_order_of_preference(tmp_path):
    text = _HEAD + _unit(("en", "a"), ("zh-HK", "香港")) + _unit(en="b", zh_TW="臺灣") + _TAIL
    codes = ["zh-TW", "zh-HK"]
    assert _targets(tmp_path, text, target="zh", target_language=codes) == ["香港", "臺灣"]


def test_missing_languages_list_those_of_the_file(tmp_path):
    text = _HEAD + _unit(en="a", zh_TW="b") * 3 + _unit(en="a", de="b") + _TAIL
    with pytest.raises(
        errors.DataError, match=r"m\.tmx: no variant is in 'zh'; .* en \(4\), zh-TW"
    ) as e:
        list(_read(tmp_path, text, target="zh"))
    assert "zh-TW (3), de (1)" in str(e.value)
    assert "target_language" in str(e.value)
    assert "for example 'zh-TW'" in str(e.value)


def test_languages_that_never_meet_in_a_unit(tmp_path):
    text = _HEAD + _unit(en="a", de="b") + _unit(fr="a", de="b") + _TAIL
    with pytest.raises(errors.DataError, match=r"none of 2 units has both .* de \(2\)"):
        list(_read(tmp_path, text))


def test_units_in_a_comment_are_not_read(tmp_path):
    text = (
        _HEAD
        + "<!-- old: "
        + _unit(en="old", fr="vieux")
        + "-->"
        + _unit(en="a", fr="b")
        + "<!--"
        + _unit(en="old", fr="vieux") * 3000
        + "-->"
        + _TAIL
    )
    stream = _read(tmp_path, text)
    assert [p.target for p in stream] == ["b"]
    assert stream.bad == 0


def test_end_tags_in_comments_and_cdata_of_a_unit(tmp_path):
    unit = "<tu><!-- </tu> --><tuv lang='en'><seg><![CDATA[</tu> & <tu >]]></seg></tuv>"
    text = _HEAD + unit + "<tuv lang='fr'><seg>b</seg></tuv></tu>" + _TAIL
    stream = _read(tmp_path, text)
    assert [p.source for p in stream] == ["</tu> & <tu >"]
    assert stream.bad == 0


def test_memory_does_not_grow_with_the_file(tmp_path):
    text = _HEAD + _unit(en="a sentence " * 10, fr="une phrase " * 10) * 8000 + _TAIL
    stream = _read(tmp_path, text)
    tracemalloc.start()
    count = sum(1 for _ in stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 8000
    assert peak < 1_200_000 < len(text) / 2


def test_reading_twice_gives_the_same(tmp_path):
    stream = _read(tmp_path, _HEAD + _unit(en="a", fr="b") * 3 + _unit(en="a") + _TAIL)
    assert list(stream) == list(stream)
    assert stream.dropped == {"no such language": 1}
