"""Compiled gettext catalogs for tests."""

import struct

_HEADER = (
    "Content-Type: text/plain; charset={charset}\nPlural-Forms: nplurals=3; plural=(n%10==1 && "
    "n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);\n"
)


def mo_bytes(messages, order="<", charset="utf-8", header=""):
    """Returns a compiled catalog of {msgid: msgstr}, bytes or text; header adds fields to it."""
    entries = {b"": (_HEADER.format(charset=charset) + header).encode()}
    for key, value in messages.items():
        encoded = [t if isinstance(t, bytes) else t.encode(charset) for t in (key, value)]
        entries[encoded[0]] = encoded[1]
    keys = sorted(entries)
    count = len(keys)
    start = 28 + 16 * count
    tables, texts = [b"", b""], b""
    for table, items in enumerate((keys, [entries[key] for key in keys])):
        for item in items:
            tables[table] += struct.pack(f"{order}2I", len(item), start + len(texts))
            texts += item + b"\0"
    head = struct.pack(f"{order}7I", 0x950412DE, 0, count, 28, 28 + 8 * count, 0, start)
    return head + tables[0] + tables[1] + texts
