"""Compiled catalogs (.mo): both byte orders, charsets, system-dependent strings, hostile files."""

import struct
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_mtl.data.corpora import catalog, compiled_catalog
from tests.data.catalogs import mo_bytes

_MAGIC = 0x950412DE


def _read(path, data):
    path.write_bytes(data)
    found = compiled_catalog.read_mo(str(path))
    return found, [str(bad).removeprefix(str(path)).lstrip(": ") for bad in found.bad]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("charset", "text"),
    [("utf-8", "été"), ("iso-8859-1", "été"), ("KOI8-R", "лето"), ("SHIFT_JIS", "表示")],
)
def test_byte_orders_and_charsets(tmp_path, order, charset, text):
    messages = {"a": text, "x\4a": "b", "%d c\0%d cs": f"%d {text}\0d\0e"}
    found, bad = _read(tmp_path / "a.mo", mo_bytes(messages, order, charset))
    assert bad == []
    assert {(m.context, m.identifier, m.plural): m.translations for m in found.messages} == {
        (None, "a", None): [text],
        ("x", "a", None): ["b"],
        (None, "%d c", "%d cs"): [f"%d {text}", "d", "e"],
    }
    assert (found.entries, found.singular, found.many) == (4, 0, 2)


@pytest.mark.parametrize(
    ("forms", "indices"),
    [
        ("nplurals=2; plural=(n > 1);", (0, 1)),
        ("nplurals=1; plural=0;", (0, 0)),
        ("nplurals=2; plural=n/0;", (0, 1)),
        ("nplurals=2; plural=__import__('os');", (0, 1)),
        ("nplurals=2; plural=" + "(" * 900, (0, 1)),
        ("plural=n==1 ? 1 : 0", (1, 0)),
        ("plural=n-3", (0, 1)),  # No form has a negative number.
        ("", (0, 1)),
    ],
)
def test_plural_expressions(forms, indices):
    assert catalog.plural_indices({"plural-forms": forms}) == indices


class _Builder:
    """Writes a catalog of revision 0.1, whose texts have parts that depend on the system."""

    def __init__(self, order):
        self.order = order
        self.data = bytearray(48)

    def put(self, data):
        """Appends bytes or 32-bit numbers; returns their offset."""
        offset = len(self.data)
        self.data += data if isinstance(data, bytes) else self.numbers(data)
        return offset

    def numbers(self, values):
        return struct.pack(f"{self.order}{len(values)}I", *values)

    def text(self, fixed, segments):
        """Appends a text as fixed text and (length, segment) pairs; returns its offset."""
        start = self.put(fixed)
        return self.put([start, *(number for pair in segments for number in pair)])

    def finish(self, names, originals, translations):
        rows = [number for name in names for number in (len(name), self.put(name))]
        header = b"Content-Type: text/plain; charset=UTF-8\n"
        tables = [self.put([0, self.put(b"\0")]), self.put([len(header), self.put(header + b"\0")])]
        head = [_MAGIC, 0x10001, 1, *tables, 0, 0, len(names), self.put(rows), len(originals)]
        head += [self.put(originals), self.put(translations)]
        self.data[:48] = self.numbers(head)
        return bytes(self.data)


_LAST = 0xFFFFFFFF


@pytest.mark.parametrize("order", ["<", ">"])
def test_system_dependent_strings_read_as_in_the_text_form(tmp_path, order):
    builder = _Builder(order)
    originals = [
        builder.text(b"% bytes of %s\0", [(1, 0), (13, _LAST)]),
        builder.text(b"%d days\0", [(8, _LAST)]),
    ]
    translations = [
        builder.text("%2$s\u00a0: %1$ octets\0".encode(), [(11, 0), (8, _LAST)]),
        builder.text(b"%d jours\0", [(1, 1), (8, _LAST)]),
    ]
    found, bad = _read(
        tmp_path / "a.mo", builder.finish([b"PRIu64\0", b"I\0"], originals, translations)
    )
    assert bad == []
    assert [(m.identifier, m.translations) for m in found.messages] == [
        ("%<PRIu64> bytes of %s", ["%2$s\u00a0: %1$<PRIu64> octets"]),
        ("%d days", ["%Id jours"]),
    ]
    assert found.entries == 3


@pytest.mark.parametrize(
    ("segments", "reason"),
    [
        ([(1, 7), (2, _LAST)], "2: segment 7 of 1 does not exist"),
        ([(900, _LAST)], "2: text is outside the file"),
        ([(0, 0)] * 3, "damaged: its texts add up to more than 4 times the file's size"),
    ],
)
def test_damaged_system_dependent_strings(tmp_path, segments, reason):
    builder = _Builder("<")
    # The last case has no end, and what follows it reads as more segments.
    offset = builder.text(b"%a\0", segments)
    builder.put([0, 0] * 500 if len(segments) == 3 else [])
    data = builder.finish([b"PRIu64" * 50 + b"\0"], [offset], [offset])
    assert _read(tmp_path / "a.mo", data)[1] == [reason]


def _head(revision=0, count=1, originals=28, translations=36, order="<"):
    return struct.pack(f"{order}7I", _MAGIC, revision, count, originals, translations, 0, 44)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes are too short for a gettext catalog"),
        (b"#!/bin/sh and some more text", "not a compiled gettext catalog (wrong first bytes)"),
        (mo_bytes({"a": "b"})[:30], "cut off: the tables of 2 messages do not fit into 30 bytes"),
        (_head(revision=0x20000), "revision 2 of the format is unknown"),
        (
            _head(revision=1, count=0, originals=20, translations=20),
            "a table is outside the file",
        ),
        (_head(count=_LAST), f"cut off: the tables of {_LAST} messages do not fit into 28 bytes"),
        (_head(originals=_LAST), "cut off: the tables of 1 messages do not fit into 28 bytes"),
        (_head(count=9) + bytes(200), "the two tables of 9 messages overlap"),
        (
            _head(originals=28, translations=36) + struct.pack("<4I", 4, 4000, 4, 0) + bytes(9),
            "1: text is outside the file",
        ),
        (
            _head(originals=28, translations=36) + struct.pack("<4I", 1, 44, 1, 44) + b"ab",
            "1: text does not end with a zero byte",
        ),
        (
            mo_bytes({"a": "b"}, charset="utf-8").replace(b"utf-8", b"utf-7"),
            "the header says charset=utf-7, which a gettext catalog cannot have; save the file as "
            "UTF-8 and write charset=UTF-8 in its header",
        ),
    ],
)
def test_damaged_files(tmp_path, data, reason):
    found, bad = _read(tmp_path / "a.mo", data)
    assert found.messages == []
    assert bad == [reason]
    assert found.entries == 1 or reason[0].isdigit()


def test_texts_that_overlap_do_not_fill_the_memory(tmp_path):
    # 30,000 messages, each of which claims the whole file.
    count = 30_000
    size = 28 + 16 * count
    row = struct.pack("<2I", size - 30, 28)
    data = _head(count=count, originals=28, translations=28 + 8 * count) + row * (2 * count) + b"\0"
    tracemalloc.start()
    try:
        found, bad = _read(tmp_path / "a.mo", data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.messages == []
    assert bad == ["damaged: its texts add up to more than 4 times the file's size"]
    assert peak < 12 * size


def test_a_message_that_is_not_of_the_charset_is_bad(tmp_path):
    found, bad = _read(tmp_path / "a.mo", mo_bytes({"a": "b", "c": b"\xff\xfe"}))
    assert [m.identifier for m in found.messages] == ["a"]
    assert len(bad) == 1
    assert bad[0].startswith("3: not utf-8: ")


_WHOLE = mo_bytes({"%d day\0%d days": "%d jour\0%d jours", "a": "b", "c\x04d": "e"})


@given(st.binary(max_size=200), st.binary(max_size=40), st.integers(0, 400))
@example(b"", b"\xff\xff\xff\xff", 8)
@example(b"", b"\x01\x00\x01\x00", 4)
def test_no_bytes_make_the_parser_fail(tmp_path_factory, noise, patch, place):
    path = tmp_path_factory.getbasetemp() / "noise.mo"
    magic = struct.pack("<I", _MAGIC)
    for data in (noise, magic + noise, _WHOLE[:place] + patch + _WHOLE[place + len(patch) :]):
        found, _ = _read(path, data)
        assert len(found.messages) + len(found.bad) <= found.entries
