"""Text catalogs (.po): syntax as msgfmt accepts it, escapes, charsets, damage."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_mtl import errors
from keras_mtl.data.corpora import text_catalog

_HEADER = (
    'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset={charset}\\n"\n'
    '"Plural-Forms: nplurals=2; plural=n > 1;\\n"\n\n'
)


def _parse(path, data, charset="UTF-8", header=True):
    """Returns ({(context, msgid, plural): translations}, ["line: reason"]) of text or bytes."""
    encoded = data if isinstance(data, bytes) else data.encode(charset)
    path.write_bytes((_HEADER.format(charset=charset).encode() if header else b"") + encoded)
    catalog = text_catalog.read_po(str(path))
    messages = {(m.context, m.identifier, m.plural): m.translations for m in catalog.messages}
    assert len(messages) == len(catalog.messages)
    assert len(messages) + len(catalog.bad) <= catalog.entries
    return messages, [str(bad).removeprefix(str(path)).lstrip(": ") for bad in catalog.bad]


def _texts(messages):
    """Returns {msgid: msgstr} of messages without context and plural."""
    return {identifier: forms[0] for (_, identifier, _), forms in messages.items()}


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ('msgid "tree " "house"\nmsgstr "maison " "arbre"\n', {"tree house": "maison arbre"}),
        ('msgid "a"\n\n"b"\n\nmsgstr "c"\n\n"d"\n', {"ab": "cd"}),
        ('msgid\n"a"\nmsgstr\n"b"\n', {"a": "b"}),
        ('msgid "a" msgstr "b" msgid "c" msgstr "d"', {"a": "b", "c": "d"}),
        ('msgid"a"msgstr"b"msgid"c""d"msgstr"e""f"', {"a": "b", "cd": "ef"}),
        ('msgid "a\\\nb"\nmsgstr "c\\\nd"\n', {"ab": "cd"}),
        ('msgid "a" \\\nmsgstr "b"\n', {"a": "b"}),
        ('\f\vmsgid\v"a"\f\tmsgstr\v"c"\n', {"a": "c"}),
        ('msgid "a\tb"\nmsgstr "c\rd"\n', {"a\tb": "c\rd"}),
        ('domain "x"\nmsgid "a"\nmsgstr "b"\n', {"a": "b"}),
        ('msgid "a"\nmsgstr "b" # comment\nmsgid "c"\nmsgstr "d"', {"a": "b", "c": "d"}),
        ('# msgid "x"\n#: a.c:1\n#. "y\n#| msgid "z"\nmsgid "a"\nmsgstr "b"\n', {"a": "b"}),
        ("# only a comment", {}),
        ("", {}),
    ],
)
def test_layouts(tmp_path, text, messages):
    found, bad = _parse(tmp_path / "fr.po", text)
    assert (_texts(found), bad) == (messages, [])


@pytest.mark.parametrize("end", ["\r", "\r\n"])
def test_line_ends(tmp_path, end):
    text = _HEADER.format(charset="UTF-8") + (
        '# comment\n#, fuzzy\nmsgid "a"\nmsgstr "b"\n\n#,c-format\nmsgid "c"\nmsgstr "d"\n'
        'msgid "e"\nmsgstr "no end\n'
    )
    found, bad = _parse(tmp_path / "fr.po", text.replace("\n", end), header=False)
    assert _texts(found) == {"c": "d"}
    assert bad == ["15: text without a closing quotation mark"]


def test_contexts_and_plural_forms(tmp_path):
    text = (
        'msgctxt "x"\nmsgid ""\nmsgstr "not the header"\n'
        'msgctxt"y"msgid"%d day"msgid_plural"%d days"msgstr[0]"%d jour"msgstr [ 01 ] "%d jours"\n'
        'msgctxt ""\nmsgid "a"\nmsgstr "b"\nmsgid "a"\nmsgstr "c"\n'
    )
    found, bad = _parse(tmp_path / "fr.po", text)
    assert bad == []
    assert found == {
        ("x", "", None): ["not the header"],
        ("y", "%d day", "%d days"): ["%d jour", "%d jours"],
        ("", "a", None): ["b"],
        (None, "a", None): ["c"],
    }


@pytest.mark.parametrize(
    ("escaped", "charset", "text"),
    [
        (r"\303\251t\303\251", "UTF-8", "été"),
        (r"\xc3\xa9t\xC3\xA9", "UTF-8", "été"),
        (r"\351t\351", "ISO-8859-1", "été"),
        (r"\xd0\xc5\xd2", "KOI8-R", "пер"),
        (r"\223\372\x96\173", "SHIFT_JIS", "日本"),
        (r"\1012", "UTF-8", "A2"),
        (r"\7\12", "UTF-8", "\x07\n"),
        (r"\x0041t", "UTF-8", "At"),  # As many digits as follow; the last two count.
        (r"\n\t\r\f\v\a\b\\\"", "UTF-8", '\n\t\r\f\v\a\b\\"'),
        (r"\\303", "UTF-8", "\\303"),
        (r"a\0b", "UTF-8", "a"),
    ],
)
def test_escapes_are_bytes_of_the_charset(tmp_path, escaped, charset, text):
    found, bad = _parse(tmp_path / "fr.po", f'msgid "a"\nmsgstr "{escaped}"\n', charset)
    assert (_texts(found), bad) == ({"a": text}, [])


@pytest.mark.parametrize(
    ("charset", "text"),
    [
        # The second byte of each of these characters is a backslash.
        ("SHIFT_JIS", "表示ソ"),
        ("CP932", "能力十"),
        ("BIG5", "功能許"),
        ("BIG5-HKSCS", "功能許"),
        ("GBK", "乗誠歕"),
        ("GB18030", "乗誠歕"),
        ("EUC-JP", "表示ソ"),
        ("EUC-KR", "한국어"),
        ("ISO_8859-2", "žluťoučký"),
        ("KOI8-U", "її"),
        ("CP1251", "Україна"),
        ("TIS-620", "ไทย"),
        ("utf8", "été"),
        ("utf-8", "été"),
    ],
)
def test_charsets(tmp_path, charset, text):
    found, bad = _parse(tmp_path / "fr.po", f'msgid "a"\nmsgstr "{text}\\n{text}"\n', charset)
    assert (_texts(found), bad) == ({"a": f"{text}\n{text}"}, [])


@pytest.mark.parametrize(
    "header",
    [
        # The charset counts anywhere in the header entry, and only there.
        '# charset=us-ascii\n#: charset=us-ascii\nmsgid "charset=us-ascii"\nmsgstr "x"\n\n'
        + _HEADER.format(charset="UTF-8"),
        'msgid ""\nmsgstr ""\n'
        + '"X: filler\\n"\n' * 900
        + '"Content-Type: x; charset=UTF-8\\n"\n',
        'msgid "" msgstr "Content-Type: text/plain; charset=UT" "F\\0558\\n"\n',
        '#, fuzzy\nmsgid ""\nmsgstr "charset=CHARSET"\n',
        'msgid ""\nmsgstr "Language: fr"\n',
        # With a context it is a message.
        'msgctxt "x"\nmsgid ""\nmsgstr "charset=us-ascii"\n\n',
        "",
        # An unknown name, mostly a typing error, does no harm to a file in UTF-8.
        'msgid ""\nmsgstr "Content-Type: text/plain; charset=UFT-8\\n"\n',
    ],
)
def test_utf8_by_header_or_by_default(tmp_path, header):
    found, bad = _parse(tmp_path / "fr.po", header + 'msgid "a"\nmsgstr "é"\n', header=False)
    assert _texts(found)["a"] == "é"
    assert bad == []


def test_a_header_at_the_end_counts(tmp_path):
    text = 'msgid "a"\nmsgstr "é"\n\n' + _HEADER.format(charset="ISO-8859-1")
    found, bad = _parse(tmp_path / "fr.po", text.encode("latin-1"), header=False)
    assert (_texts(found), bad) == ({"a": "é"}, [])


@pytest.mark.parametrize(
    ("charset", "reason"),
    [
        ("UTF-16", "charset=UTF-16, which a gettext catalog cannot have"),
        ("UTF-7", "charset=UTF-7, which a gettext catalog cannot have"),
        ("iso2022_jp", "charset=iso2022_jp, which a gettext catalog cannot have"),
        ("unicode_escape", "charset=unicode_escape, which a gettext catalog cannot have"),
        ("cp037", "charset=cp037, which a gettext catalog cannot have"),
    ],
)
def test_charsets_that_do_not_contain_ascii_are_refused(tmp_path, charset, reason):
    header = _HEADER.format(charset=charset)
    found, bad = _parse(tmp_path / "fr.po", header + 'msgid "a"\nmsgstr "+AOk-"\n', header=False)
    assert found == {}
    assert len(bad) == 1
    assert reason in bad[0]


def test_text_in_an_unknown_charset_is_bad_unless_it_is_ascii(tmp_path):
    header = _HEADER.format(charset="x-foo").encode()
    text = b'msgid "a"\nmsgstr "b"\n\nmsgid "c"\nmsgstr "\xe9"\n'
    found, bad = _parse(tmp_path / "fr.po", header + text, header=False)
    assert _texts(found) == {"a": "b"}
    assert bad == [
        "9: charset 'x-foo' of the header is unknown; convert the file with "
        "'msgconv --to-code=UTF-8'"
    ]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_utf16_files_are_refused(tmp_path, encoding):
    data = (_HEADER.format(charset="UTF-8") + 'msgid "a"\nmsgstr "b"\n').encode(encoding)
    found, bad = _parse(tmp_path / "fr.po", data, header=False)
    assert (found, bad) == ({}, ["is UTF-16 or not a text file; save it as UTF-8"])


def test_byte_order_mark_and_compression(tmp_path):
    data = b"\xef\xbb\xbf" + _HEADER.format(charset="UTF-8").encode() + b'msgid "a"\nmsgstr "b"'
    assert _parse(tmp_path / "a.po", data, header=False) == ({(None, "a", None): ["b"]}, [])
    packed = gzip.compress(data)
    assert _parse(tmp_path / "b.po", packed, header=False) == ({(None, "a", None): ["b"]}, [])
    with pytest.raises(errors.DataError, match=r"c\.po: damaged gzip file"):
        _parse(tmp_path / "c.po", packed[:-20], header=False)


def test_wrong_bytes_in_comments_do_no_harm(tmp_path):
    text = b'# \xff\xe9\n#. \xe9"\n#: \x80\nmsgid "a"\nmsgstr "b"\n\n#~ msgid "\xff"\n#~ \xff\n'
    found, bad = _parse(tmp_path / "fr.po", text + b'\nmsgid "c"\nmsgstr "d"\n')
    assert (_texts(found), bad) == ({"a": "b", "c": "d"}, [])


@pytest.mark.parametrize(
    "flags",
    [
        "#, fuzzy",
        "#,fuzzy",
        "#,\tfuzzy",
        "#, c-format,fuzzy, wrap",
        "#, c-format fuzzy",
        "#! fuzzy",
        "  #, fuzzy\n\n# comment",
        '#, fuzzy\n#| msgid "before"\n#, c-format',
    ],
)
def test_fuzzy_messages_are_left_out(tmp_path, flags):
    text = f'msgid "a"\nmsgstr "b" {flags}\nmsgid "c"\nmsgstr "d"\nmsgid "e"\nmsgstr "f"\n'
    found, bad = _parse(tmp_path / "fr.po", text)
    assert (_texts(found), bad) == ({"a": "b", "e": "f"}, [])


@pytest.mark.parametrize("flags", ["#, FUZZY", "#, not-fuzzy", "# , fuzzy", "#. fuzzy", "#: fuzzy"])
def test_other_comments_say_nothing_about_fuzziness(tmp_path, flags):
    found, bad = _parse(tmp_path / "fr.po", f'{flags}\nmsgid "a"\nmsgstr "b"\n')
    assert (_texts(found), bad) == ({"a": "b"}, [])


@pytest.mark.parametrize(
    "obsolete",
    [
        '#~ msgid "a"\n#~ msgstr "old"\n',
        '#~msgid "a"\n#~"b"\n#~msgstr "old"\n',
        '#, fuzzy\n#~ msgid "old"\n#~ msgstr "b"\n',
        '#~| msgid "older"\n#~ msgid "old"\n#~ msgstr "b"\n',
        '#~ msgid ""\n#~ msgstr "Content-Type: text/plain; charset=us-ascii"\n',
        "#~ rubbish\n",
    ],
)
def test_obsolete_messages_are_left_out(tmp_path, obsolete):
    text = f'{obsolete}msgid "a"\nmsgstr "é"\n\n{obsolete}'
    found, bad = _parse(tmp_path / "fr.po", text)
    assert (_texts(found), bad) == ({"a": "é"}, [])


@pytest.mark.parametrize(
    ("text", "bad"),
    [
        ('msgid "x\nmsgstr "y"\n', "7: text without a closing quotation mark"),
        ('msgid "x"\nmsgstr "say "y" now"\n', "8: unexpected text 'y'"),
        ('msgid "x"\nmsgstr "y";\n', "8: unexpected text ';'"),
        ('msgid "x"\nmsgstr "\\q"\n', "8: unknown escape sequence \\q"),
        ('msgid "x"\nmsgstr "\\xg"\n', "8: unknown escape sequence \\x"),
        ('msgid "x"\nmsgstr y\n', "8: unexpected text 'y'"),
        ('msgid "x"\n\n', "7: entry without msgstr"),
        ('msgid\nmsgstr "y"\n', "7: msgid without text"),
        ('msgctxt "x"\nmsgstr "y"\n', "7: entry without msgid"),
        ('msgid "x"\n# comment\nmsgstr "y"\n', "9: msgstr after a comment, inside of an entry"),
        ('msgid "x"\nmsgstr "y"\n# comment\n"z"\n', "10: text that belongs to no keyword"),
        ('msgid "x"\nmsgstr "y"\nmsgstr "z"\n', "9: second msgstr in one entry"),
        ('msgid "x"\nmsgstr[0] "y"\n', "8: found msgstr[0], expected msgstr"),
        ('msgid "x"\nmsgid_plural "y"\nmsgstr "z"\n', "9: found msgstr, expected msgstr[0]"),
        (
            'msgid "x"\nmsgid_plural "y"\nmsgstr[1] "z"\nmsgstr[0] "z"\n',
            "9: found msgstr[1], expected msgstr[0]",
        ),
        ('msgid "x"\nmsgstr "\\377"\n', "7: not UTF-8: "),
        ('msgid "x"\nmsgstr "a\\004b"\n', "7: msgstr with a control character (EOT)"),
        ('msgid "a"\nmsgstr "y"\n', "7: second definition of the message of line 5"),
        ('#, fuzzy\nmsgid "a"\nmsgstr "y"\n', "8: second definition of the message of line 5"),
        ("rubbish\n", "7: unexpected text 'rubbish'"),
        ("\nrubbish\n", "8: unexpected text 'rubbish'"),
        ('# comment\n"x"\n', "8: text that belongs to no keyword"),
        ("domain\n", "7: domain without text"),
        ('domain "x" "y"\n', "7: text that belongs to no keyword"),
    ],
)
def test_damage_costs_one_message(tmp_path, text, bad):
    header = 'msgid ""\nmsgstr ""\n"Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    before = 'msgid "a"\nmsgstr "b"\n'
    after = '#, c-format\nmsgid "c"\nmsgstr "d"\n'
    found, reasons = _parse(tmp_path / "fr.po", header + before + text + after, header=False)
    assert len(reasons) == 1
    assert reasons[0].startswith(bad)
    # What follows a complete message without an empty line may be the rest of it.
    belongs_to_a = text in ("rubbish\n", '# comment\n"x"\n')
    assert _texts(found) == ({"c": "d"} if belongs_to_a else {"a": "b", "c": "d"})


_LINES = [
    *_HEADER.format(charset="UTF-8").splitlines(),
    'msgctxt "x"',
    'msgid "a"',
    'msgid_plural "b"',
    'msgstr "c"',
    'msgstr[0] "d"',
    'msgstr[9999] "e"',
    'msgstr[99999999999999999999] "e"',
    '"\\303"',
    "#, fuzzy",
    "#~ msgid",
    "domain",
    "",
    '"',
    "\\",
    "\ufffd",
]


@given(st.lists(st.sampled_from(_LINES)), st.sampled_from(["\n", "\r", " ", ""]))
def test_no_lines_make_the_parser_fail(tmp_path_factory, lines, end):
    path = tmp_path_factory.getbasetemp() / "lines.po"
    found, _ = _parse(path, end.join(lines), header=False)
    assert all(found.values())


@given(st.binary(max_size=200))
def test_no_bytes_make_the_parser_fail(tmp_path_factory, noise):
    path = tmp_path_factory.getbasetemp() / "noise.po"
    for charset in ("UTF-8", "BIG5", "x-foo"):
        _parse(path, _HEADER.format(charset=charset).encode() + b"#" + noise, header=False)
