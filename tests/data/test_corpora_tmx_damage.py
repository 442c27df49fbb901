"""TMX: entities, encodings, damaged and hostile files."""

import codecs
import contextlib
import gzip
import random
import time
import tracemalloc

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora
from keras_mtl.data.corpora import tmx_units, xml_encoding

_DECLARATION = '<?xml version="1.0" encoding="UTF-8"?>\n'
_HEAD = _DECLARATION + '<tmx version="1.4"><header srclang="en"/><body>\n'
_TAIL = "</body></tmx>\n"


def _unit(source, target):
    return (
        f'<tu>\n<tuv xml:lang="en"><seg>{source}</seg></tuv>\n'
        f'<tuv xml:lang="fr"><seg>{target}</seg></tuv>\n</tu>\n'
    )


def _read(tmp_path, text, max_bad_lines=1.0):
    path = tmp_path / "m.tmx"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    reader = corpora.create_reader("tmx", "en", "fr", {"file": str(path)})
    return corpora.read_pairs(reader, max_bad_lines)


def _result(tmp_path, text):
    """Returns the targets and what is reported, without the path."""
    stream = _read(tmp_path, text)
    targets = [pair.target for pair in stream]
    assert stream.bad == len(stream.report()) < 6
    return targets, [line.partition("m.tmx:")[2] for line in stream.report()]


# Entities.


def test_entities_of_html_resolve(tmp_path):
    for doctype in ("", '<!DOCTYPE tmx SYSTEM "tmx14.dtd">', "<!DOCTYPE tmx>"):
        text = _HEAD.replace("<tmx", f"{doctype}<tmx")
        text += _unit("a &amp; b", "caf&eacute; du&nbsp;coin&hellip; &lt;&#233;&#xe9;&gt;") + _TAIL
        assert _result(tmp_path, text) == (["café du\u00a0coin… <éé>"], [])


def test_an_unknown_entity_is_an_error_with_its_line(tmp_path):
    for doctype in ("", '<!DOCTYPE tmx SYSTEM "tmx14.dtd">'):
        text = _HEAD.replace("<tmx", f"{doctype}<tmx")
        text += _unit("a", "b") + _unit("x", "&company; y") + _unit("c", "d") + _TAIL
        targets, report = _result(tmp_path, text)
        assert targets == ["b", "d"]
        assert report == ["7: unknown entity &company; (line 9)"]
        with pytest.raises(errors.DataError, match=r"m\.tmx:3: unknown entity &company;"):
            list(_read(tmp_path, _HEAD + _unit("x", "&company;") + _TAIL, max_bad_lines=0.01))


def test_an_unknown_entity_outside_segments_harms_nothing(tmp_path):
    text = _HEAD + _unit("a", "b").replace("<tuv", "<note>&company;</note><tuv", 1) + _TAIL
    assert _result(tmp_path, text) == (["b"], [])


def test_declared_entities(tmp_path):
    doctype = (
        '<!DOCTYPE tmx [<!ENTITY company "Acme &#169;"><!ENTITY % html SYSTEM "x.ent">%html;]>'
    )
    text = _HEAD.replace("<tmx", doctype + "<tmx")
    text += _unit("a", "&company;, caf&eacute;") + _unit("\x01", "") + _unit("a", "&company;")
    assert _result(tmp_path, text + _TAIL)[0] == ["Acme ©, café", "Acme ©"]


def test_files_outside_are_never_read(tmp_path):
    (tmp_path / "secret").write_text("secret")
    doctype = f'<!DOCTYPE tmx [<!ENTITY a SYSTEM "file://{tmp_path}/secret">]>'
    text = _HEAD.replace("<tmx", doctype + "<tmx") + _unit("a", "b") + _unit("a", "&a;") + _TAIL
    targets, report = _result(tmp_path, text)
    assert targets == ["b"]
    assert "unknown entity &a;" in report[0]


def test_entity_expansion_is_refused(tmp_path):
    bomb = '<!DOCTYPE tmx [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>'
    text = _HEAD.replace("<tmx", bomb + "<tmx") + _unit("&b;", "x") + _TAIL
    with pytest.raises(errors.DataError, match=r"m\.tmx:2: declares the entity 'b'"):
        list(_read(tmp_path, text))
    bomb = f'<!DOCTYPE tmx [<!ENTITY a "{"ha" * 1000}">]>'
    with pytest.raises(errors.DataError, match="declares the entity 'a'"):
        list(_read(tmp_path, _HEAD.replace("<tmx", bomb + "<tmx") + _TAIL))


# Damage: each costs one unit.


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (_unit("R&D", "x"), "an & that does not begin an entity; write &amp; (line 8)"),
        (_unit("a & b", "x"), "an & that does not begin an entity; write &amp; (line 8)"),
        (_unit("a", "R&D;"), "unknown entity &D; (line 9)"),
        (_unit("a\x01b", "x"), "control character U+0001 (line 8)"),
        (_unit("a", "\x00"), "control character U+0000 (line 9)"),
        (_unit("a", "\uffff"), "U+FFFF is not a character of XML (line 9)"),
        (_unit("a", "\ud800"), "bytes that are not utf-8 (line 9)"),
        (_unit("a", "&#x1F;"), "&#x1F; is not a character of XML (line 9)"),
        (_unit("a<b>", "x"), "not well-formed XML (mismatched tag) (line 8)"),
        (_unit("a < b", "x"), "not well-formed XML (not well-formed (invalid token)) (line 8)"),
        (_unit("a]]>b", "x"), "not well-formed XML (not well-formed (invalid token)) (line 8)"),
        (_unit("a", "b").replace('"fr"', '"fr'), "not well-formed XML"),
        (_unit("<!-- a", "x"), "the unit has no end tag </tu>"),
        (_unit("<![CDATA[ a", "x"), "the unit has no end tag </tu>"),
        (_unit("<?a ", "x"), "the unit has no end tag </tu>"),
        (_unit("a", "b").replace("</tu>", ""), "the unit has no end tag </tu>"),
        (_unit("a", "b").replace("</tu>", "</tux>"), "not well-formed XML (mismatched tag)"),
        (_unit("a", "b").replace("<tu>\n", ""), "text outside a unit: '<tuv xml:lang"),
        (_unit("a", "b").replace("<tu>", "<t u>"), "text outside a unit: '<t u>"),
        (_unit("a", "b") + "stray\n", "text outside a unit: 'stray'"),
        (_unit("a" * (1 << 21), "b"), "the unit is longer than 1,048,576 bytes"),
        (_unit("<!--" + "a" * (1 << 21), "b"), "the unit is longer than 1,048,576 bytes"),
        (_unit("<a>" * 99999, "x"), "not well-formed XML (mismatched tag)"),
    ],
)
def test_damage_costs_one_unit(tmp_path, damaged, reason):
    good = [_unit(f"{n}", f"n{n}") for n in range(4)]
    # Twice, so that the second one finds the parser as the first one left it.
    text = _HEAD + good[0] + damaged + good[1] + good[2] + damaged + good[3] + _TAIL
    targets, report = _result(tmp_path, text)
    kept = ["b"] if "stray" in damaged else []
    assert targets == ["n0", *kept, "n1", "n2", *kept, "n3"]
    assert len(report) == 2
    line, _, shown = report[0].partition(": ")
    assert shown.startswith(reason)
    assert int(line) == text[: text.index(damaged)].count("\n") + 1 + 4 * len(kept)


def test_bytes_that_are_not_utf8_cost_one_unit(tmp_path):
    good = _unit("a", "b").encode()
    damaged = _unit("a", "é").encode("latin-1")
    targets, report = _result(tmp_path, _HEAD.encode() + good + damaged + good + _TAIL.encode())
    assert targets == ["b", "b"]
    assert report == ["7: bytes that are not utf-8 (line 9)"]


def test_damage_in_the_header_costs_no_unit(tmp_path):
    text = _HEAD.replace("<header", "<header>R&D</header><header") + _unit("a", "b") + _TAIL
    targets, report = _result(tmp_path, text)
    assert targets == ["b"]
    assert report == ["2: damaged header: not well-formed XML (not well-formed (invalid token))"]


def test_a_file_that_is_cut_off_keeps_what_is_before(tmp_path):
    text = _HEAD + _unit("a", "b") + _unit("c", "d")
    assert _result(tmp_path, text) == (
        ["b", "d"],
        ["11: the file ends without </tmx>; it may be cut off"],
    )
    for end in (1, 7, 30):
        assert _result(tmp_path, text[: -1 - end]) == (
            ["b"],
            ["7: the file ends inside this unit; copy it again"],
        )


def test_files_joined_by_cat(tmp_path):
    one = _HEAD + _unit("a", "b") + _TAIL
    targets, report = _result(tmp_path, one * 2)
    assert targets == ["b", "b"]
    assert len(report) == 1
    assert report[0].startswith("9: text outside a unit: '<tmx version")


def test_an_unclosed_comment_is_an_error(tmp_path):
    text = _HEAD + _unit("a", "b") + "\n<!-- " + _unit("c", "d") * 9999 + _TAIL
    with pytest.raises(
        errors.DataError, match=r"m\.tmx:8: the comment that begins here never ends"
    ):
        list(_read(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html/>", "root element is <html>"),
        ("<html><tu></tu></html>", "root element is <html>"),
        (_unit("a", "b"), "root element is <tu>"),
        ("", "not well-formed"),
        ("plain text", r"m\.tmx:1: not well-formed"),
        (_HEAD, r"m\.tmx:3: not well-formed"),
        (gzip.compress((_HEAD + _unit("a", "b") * 99).encode())[:-9], "damaged gzip"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, text, message):
    with pytest.raises(errors.DataError, match=message):
        list(_read(tmp_path, text))


def test_too_many_damaged_units_are_an_error(tmp_path):
    text = _HEAD + _unit("a", "b") * 9 + _unit("R&D", "x") * 2 + _TAIL
    with pytest.raises(errors.DataError, match=r"2 of 11 lines(.|\n)*m\.tmx:39: an & that"):
        list(_read(tmp_path, text, max_bad_lines=0.1))


def test_damage_needs_no_memory(tmp_path):
    text = _HEAD + _unit("a<![CDATA[", "b" * 99) + _unit("a", "b" * 99) * 20_000 + _TAIL
    stream = _read(tmp_path, text)
    tracemalloc.start()
    assert sum(1 for _ in stream) == 20_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * tmx_units.MAX_UNIT_BYTES + 1_000_000 < len(text)


@pytest.mark.parametrize(
    "part",
    [
        *("<tu>", "<tu><!-- ", "<tu><![CDATA[ ", "<tu><?x ", "<!--", "<tu x='", "tuv ", "<tuv "),
        *("&a;", "<tu><tuv lang='en'><seg>", "<", "<tu><!-- </tu>", "<a", "<tuv lang='"),
    ],
)
def test_hostile_files_take_linear_time(tmp_path, part):
    text = _HEAD + part * (400_000 // len(part))
    begun = time.process_time()
    with contextlib.suppress(errors.KerasMtlError):
        list(_read(tmp_path, text))
    # A quadratic search takes a minute.
    assert time.process_time() - begun < 20


# Encodings.


@pytest.mark.parametrize(
    ("declared", "codec", "text"),
    [
        ("GB2312", "gb2312", "中文"),
        ("gb2312", "gbk", "朱镕基"),  # 镕 is not in GB2312, but in what Windows calls so
        ("GBK", "gbk", "中文"),
        ("GB18030", "gb18030", "中文𠀀"),
        ("Big5", "big5", "中文"),
        ("big5", "cp950", "€"),
        ("Shift_JIS", "shift_jis", "日本語ソ表"),  # ソ and 表 end in the byte of a backslash
        ("shift_jis", "cp932", "①髙"),
        ("x-sjis", "cp932", "日本"),
        ("EUC-JP", "euc_jp", "日本語"),
        ("ISO-2022-JP", "iso2022_jp", "日本語"),
        ("EUC-KR", "euc_kr", "한국어"),
        ("ks_c_5601-1987", "cp949", "똠방각하"),
        ("windows-1251", "cp1251", "Привет"),
        ("windows-1252", "cp1252", "été “x” €"),
        ("ISO-8859-1", "cp1252", "été “x” €"),
        ("windows-1257", "cp1257", "ąžuolas"),
        ("windows-874", "cp874", "ไทย"),
        ("KOI8-R", "koi8-r", "Привет"),
        ("iso-8859-2", "iso8859-2", "žluťoučký"),
        ("us-ascii", "utf-8", "été"),
    ],
)
def test_declared_encodings(tmp_path, declared, codec, text):
    content = _HEAD.replace("UTF-8", declared) + _unit("a", text) * 2 + _TAIL
    assert _result(tmp_path, content.encode(codec)) == ([text, text], [])


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "utf-8"])
@pytest.mark.parametrize("declared", ["UTF-16", "UTF-8", "windows-1252", "UTF-32LE", "no such"])
def test_a_byte_order_mark_decides_over_the_declaration(tmp_path, codec, declared):
    text = "\ufeff" + _HEAD.replace("UTF-8", declared) + _unit("a", "été 中𠀀") + _TAIL
    assert _result(tmp_path, text.encode(codec)) == (["été 中𠀀"], [])


@pytest.mark.parametrize(
    ("codec", "declared"),
    [("utf-8", "UTF-16"), ("utf-8", "unicode"), ("utf-16-le", "UTF-8"), ("utf-16-be", "x-nothing")],
)
def test_the_first_bytes_decide_over_the_declaration(tmp_path, codec, declared):
    text = _HEAD.replace("UTF-8", declared) + _unit("a", "été 中𠀀") + _TAIL
    assert _result(tmp_path, text.encode(codec)) == (["été 中𠀀"], [])


@pytest.mark.parametrize("name", ["x-nothing", "rot13", "unicode_escape", "idna", "hex", "cp037"])
def test_unknown_encodings_are_named(tmp_path, name):
    text = _HEAD.replace("UTF-8", name) + _unit("a", "b") + _TAIL
    with pytest.raises(errors.DataError, match=f"m.tmx: declares the encoding '{name}'"):
        list(_read(tmp_path, text))


def test_ebcdic_is_named(tmp_path):
    with pytest.raises(errors.DataError, match="EBCDIC"):
        list(_read(tmp_path, (_HEAD + _TAIL).encode("cp037")))


@pytest.mark.parametrize(
    ("codec", "damage"), [("shift_jis", b"\x81"), ("gb18030", b"\xff"), ("utf-16-le", b"\x00\xd8")]
)
def test_undecodable_bytes_cost_one_unit(tmp_path, codec, damage):
    head = _HEAD.replace("UTF-8", codec).encode(codec)
    good = _unit("a", "b").encode(codec)
    bad = _unit("a", "#").encode(codec).replace("#".encode(codec), damage)
    targets, report = _result(tmp_path, head + good + bad + good + _TAIL.encode(codec))
    assert targets == ["b", "b"]
    assert len(report) == 1
    assert "7: bytes that are not" in report[0]


def test_declarations_that_expat_refuses(tmp_path):
    for declaration in (
        '\n\n<?xml version="1.0" encoding="UTF-8"?>\n',
        '<?xml version="1.1"?>\n',
        '<?xml version="1.0" standalone="yes"?>\n',
        codecs.BOM_UTF8.decode() + '<?xml version="1.0" encoding="utf8"?>',
    ):
        text = _HEAD.replace(_DECLARATION, declaration) + _unit("a", "&eacute;") + _TAIL
        assert _result(tmp_path, text) == (["é"], [])


def test_lines_are_counted_with_any_line_end(tmp_path):
    text = _HEAD + _unit("a", "b") + _unit("R&D", "x") + _TAIL
    for end in ("\r\n", "\r"):
        report = _result(tmp_path, text.replace("\n", end))[1]
        assert report == ["7: an & that does not begin an entity; write &amp; (line 8)"]


# Everything else.


def _mutated(text, generator):
    data = bytearray(text)
    for _ in range(generator.choice((1, 1, 2, 5, 20))):
        place = generator.randrange(len(data) + 1)
        choice = generator.randrange(4)
        if choice == 0:
            data[place : place + generator.randrange(1, 40)] = b""
        elif choice == 1:
            data[place:place] = generator.choice(_PARTS)
        elif choice == 2:
            data[place : place + 1] = bytes([generator.randrange(256)])
        else:
            other = generator.randrange(len(data) + 1)
            data[place:place] = data[other : other + generator.randrange(1, 300)]
        data = data or bytearray(b"<")
    return bytes(data)


_PARTS = (
    *(b"<tu>", b"</tu>", b"<tu/>", b"<seg>", b"</seg>", b"<ph>", b"</ph>", b"<!--", b"-->", b"<?"),
    *(b"?>", b"<![CDATA[", b"]]>", b"&", b"&amp;", b"&lt;", b"&nbsp;", b"&#0;", b"\x00", b"\xff"),
    *(b"</tmx>", b"</body>", b"<sub>", b"\r", b"\n", b'"', b"'", b"<", b">", b"]", b"\xed\xa0\x80"),
    *(b"<!DOCTYPE tmx [", b"<!ENTITY a 'b'>", b"<bpt i='1'>", b"<br/>", b"encoding='Shift_JIS'"),
)


def test_no_mutation_ends_in_a_traceback(tmp_path, monkeypatch):
    # Small chunks cut every construct somewhere.
    monkeypatch.setattr(xml_encoding, "CHUNK_BYTES", 61)
    generator = random.Random(1)
    body = "".join(
        _unit(f"{n} <ph>x</ph> &eacute;", f"<bpt i='1'/>é{n}<ept i='1'/>") for n in range(6)
    )
    valid = [(_HEAD + body + _TAIL).encode(codec) for codec in ("utf-8", "utf-16", "utf-8-sig")]
    for codec in ("shift_jis", "gb18030"):
        text = (_HEAD.replace("UTF-8", codec) + body + _TAIL).encode(codec, "replace")
        valid.append(text)
    complete = 0
    for number in range(1500):
        data = _mutated(valid[number % len(valid)], generator)
        try:
            pairs = list(_read(tmp_path, data))
        except errors.KerasMtlError:
            continue
        complete += len(pairs) >= 5
    # Most mutations damage one unit, and the others are read.
    assert complete > 500
