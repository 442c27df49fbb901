"""TMX: languages, inline markup, constant memory, damaged and hostile files."""

import gzip
import tracemalloc

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora
from keras_mtl.data.corpora import tmx

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n<tmx version="1.4"><header srclang="en"/><body>\n'
_TAIL = "</body></tmx>\n"


def _unit(**texts):
    variants = "".join(
        f'<tuv xml:lang="{code.replace("_", "-")}"><seg>{text}</seg></tuv>'
        for code, text in texts.items()
    )
    return f"<tu>{variants}</tu>\n"


def _read(tmp_path, text, **options):
    path = tmp_path / "m.tmx"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    options["file"] = str(path)
    return corpora.read_pairs(corpora.create_reader("tmx", "en", "fr", options))


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


def test_other_encodings(tmp_path):
    text = _HEAD.replace("UTF-8", "UTF-16") + _unit(en="a", fr="é") + _TAIL
    assert [p.target for p in _read(tmp_path, text.encode("utf-16"))] == ["é"]


def test_language_options_and_their_absence(tmp_path):
    text = _HEAD + _unit(eng="a", fra="b") + _TAIL
    with pytest.raises(errors.DataError, match="none of 1 units has both 'en' and 'fr'"):
        list(_read(tmp_path, text))
    assert len(list(_read(tmp_path, text, source_language="eng", target_language="fra"))) == 1


@pytest.mark.parametrize(
    ("wanted", "found", "matches"),
    [
        ("en", "en-US", True),
        ("en", "EN_us", True),
        ("en-GB", "en", True),
        ("en-GB", "en-US", False),
        ("en", "enm", False),
        ("pt", "pt-BR", True),
    ],
)
def test_language_matches(wanted, found, matches):
    assert tmx.language_matches(wanted, found) is matches


def test_entity_expansion_is_refused(tmp_path):
    bomb = '<!DOCTYPE tmx [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
    text = _HEAD.replace("<tmx", bomb + "<tmx") + _unit(en="&b;", fr="x") + _TAIL
    with pytest.raises(errors.DataError, match="declares the entity 'a'"):
        list(_read(tmp_path, text))


def test_a_doctype_alone_is_fine(tmp_path):
    text = _HEAD.replace("<tmx", '<!DOCTYPE tmx SYSTEM "tmx14.dtd"><tmx') + _unit(en="a", fr="b")
    assert len(list(_read(tmp_path, text + _TAIL))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_HEAD + _unit(en="a", fr="b"), r"m\.tmx:4: not well-formed XML"),
        (_HEAD + "<tu></body>", r"m\.tmx:3: not well-formed XML"),
        ("<html/>", "root element is <html>"),
        ("", "not well-formed"),
        (gzip.compress((_HEAD + _unit(en="a", fr="b") * 99).encode())[:-9], "damaged gzip"),
    ],
)
def test_damage_is_named(tmp_path, text, message):
    with pytest.raises(errors.DataError, match=message):
        list(_read(tmp_path, text))


def test_memory_does_not_grow_with_the_file(tmp_path):
    text = _HEAD + _unit(en="a sentence " * 10, fr="une phrase " * 10) * 4000 + _TAIL
    stream = _read(tmp_path, text)
    tracemalloc.start()
    count = sum(1 for _ in stream)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 4000
    assert peak < 600_000 < len(text)
