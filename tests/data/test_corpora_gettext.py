"""gettext catalogues: both formats, plural forms, joining, damage; and the text of messages."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from keras_mtl import errors
from keras_mtl.data import corpora
from keras_mtl.data.corpora import catalog, gettext, message_text

_HEADER = (
    "Content-Type: text/plain; charset={charset}\nPlural-Forms: nplurals=3; plural=(n%10==1 && "
    "n%100!=11 ? 0 : n%10>=2 && n%10<=4 && (n%100<10 || n%100>=20) ? 1 : 2);\n"
)


def mo_bytes(messages, order="<", charset="utf-8"):
    """Returns a compiled catalogue of {msgid: msgstr}, bytes or text."""
    entries = {b"": _HEADER.format(charset=charset).encode()}
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


def _add(folder, locale, domain, messages, **options):
    path = folder / locale / "LC_MESSAGES" / f"{domain}.mo"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mo_bytes(messages, **options))
    return path


def _read(folder, source="en", target="fr", **options):
    reader = corpora.create_reader("gettext", source, target, {"folders": str(folder), **options})
    stream = corpora.read_pairs(reader)
    return [(p.source, p.target) for p in stream], stream


@pytest.mark.parametrize(("order", "charset"), [("<", "utf-8"), (">", "iso-8859-1")])
def test_mo(tmp_path, order, charset):
    messages = {"Save as": "Enregistrer l'été", "menu\x04Open": "Ouvrir"}
    _add(tmp_path, "fr", "app", messages, order=order, charset=charset)
    pairs, stream = _read(tmp_path)
    assert sorted(pairs) == [("Open", "Ouvrir"), ("Save as", "Enregistrer l'été")]
    assert stream.bad == 0


def test_plural_forms_of_one_and_of_most_numbers(tmp_path):
    _add(tmp_path, "uk", "app", {"%d file\0%d files": "%d файл\0%d файли\0%d файлів"})
    pairs, _ = _read(tmp_path, target="uk")
    assert pairs == [("%d file", "%d файл"), ("%d files", "%d файлів")]


@pytest.mark.parametrize(
    ("forms", "indices"),
    [
        ("nplurals=2; plural=(n > 1);", (0, 1)),
        ("nplurals=1; plural=0;", (0, 0)),
        ("nplurals=2; plural=n/0;", (0, 1)),
        ("nplurals=2; plural=__import__('os');", (0, 1)),
        ("nplurals=2; plural=" + "(" * 900, (0, 1)),
        ("plural=n==1 ? 1 : 0", (1, 0)),
        ("", (0, 1)),
    ],
)
def test_plural_expressions(forms, indices):
    assert catalog.plural_indices({"plural-forms": forms}) == indices


def test_two_languages_are_joined_by_domain_context_and_msgid(tmp_path):
    _add(tmp_path, "fr", "a", {"Open": "Ouvrir", "x\x04Open": "Ouvert", "File": "Fichier"})
    _add(tmp_path, "de", "a", {"Open": "Öffnen", "x\x04Open": "Offen", "Edit": "Bearbeiten"})
    _add(tmp_path, "de", "b", {"File": "Datei"})
    pairs, stream = _read(tmp_path, "fr", "de")
    assert sorted(pairs) == [("Ouvert", "Offen"), ("Ouvrir", "Öffnen")]
    assert stream.dropped == {"untranslated": 1}


def test_english_as_target(tmp_path):
    _add(tmp_path, "fr", "a", {"Open": "Ouvrir"})
    assert _read(tmp_path, "fr", "en")[0] == [("Ouvrir", "Open")]


def test_locales_are_exact_and_can_be_named(tmp_path):
    _add(tmp_path, "pt", "a", {"File": "Ficheiro"})
    _add(tmp_path, "pt_BR", "a", {"File": "Arquivo"})
    _add(tmp_path, "pt_BR", "b", {"Edit": "Editar"})
    _add(tmp_path, "ca@valencia", "a", {"File": "Fitxer"})
    assert _read(tmp_path, target="pt")[0] == [("File", "Ficheiro")]
    assert _read(tmp_path, target="pt-BR")[0] == [("File", "Arquivo"), ("Edit", "Editar")]
    both = _read(tmp_path, target="pt", target_locale=["pt", "pt_BR"])[0]
    assert both == [("File", "Ficheiro"), ("Edit", "Editar")]
    with pytest.raises(errors.DataError, match="of locale ca "):
        _read(tmp_path, target="ca")


def test_exclude_and_links(tmp_path):
    path = _add(tmp_path, "fr", "iso_3166", {"France": "la France"})
    (path.parent / "iso-3166.mo").symlink_to(path)
    _add(tmp_path, "fr", "app", {"Open": "Ouvrir"})
    assert len(_read(tmp_path)[0]) == 2
    assert _read(tmp_path, exclude="iso?3166")[0] == [("Open", "Ouvrir")]
    assert _read(tmp_path, exclude=["x", "iso*"])[0] == [("Open", "Ouvrir")]


def test_missing_folder_and_same_language(tmp_path):
    with pytest.raises(errors.DataError, match="/no/such/folder: no such folder"):
        _read("/no/such/folder")
    with pytest.raises(errors.ConfigError, match="both 'fr'"):
        _read(tmp_path, "fr", "fr")


_PO = """\
# comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=2; plural=n != 1;\\n"

#, c-format
msgctxt "menu"
msgid ""
"Open "
"\\"it\\""
msgstr "Ouvrir \\"cela\\""

#, fuzzy, c-format
msgid "Fuzzy"
msgstr "Flou"

msgid "%d day"
msgid_plural "%d days"
msgstr[0] "%d jour"
msgstr[1] "%d jours"

msgid "Untranslated"
msgstr ""

#~ msgid "Old"
#~ msgstr "Vieux"
"""


@pytest.mark.parametrize("name", ["po/fr.po", "fr/app.po"])
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_po(tmp_path, name, ends):
    path = tmp_path / name
    path.parent.mkdir()
    path.write_bytes(("\ufeff" + _PO.replace("\n", ends)).encode())
    pairs, stream = _read(tmp_path)
    assert pairs == [
        ('Open "it"', 'Ouvrir "cela"'),
        ("%d day", "%d jour"),
        ("%d days", "%d jours"),
    ]
    assert stream.dropped == {"untranslated": 1}


def test_an_obsolete_entry_takes_its_fuzzy_mark_with_it(tmp_path):
    path = tmp_path / "po/fr.po"
    path.parent.mkdir()
    path.write_text(
        'msgid "First"\nmsgstr "Un"\n\n#, fuzzy\n#~ msgid "Old"\n#~ msgstr "Vieux"\n\n'
        'msgid "Second"\nmsgstr "Deux"\n\n#, fuzzy\nmsgid "Third"\nmsgstr "Trois"\n'
    )
    assert _read(tmp_path)[0] == [("First", "Un"), ("Second", "Deux")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target_locale": False}, "target_locale is False; .* put it in quotes, as in 'no'"),
        ({"folders": 5}, "folders is 5; it must be a folder, or a list of them"),
        ({"folders": [None]}, r"folders is \[None\]"),
        ({"exclude": [5]}, r"exclude is \[5\]; it must be a pattern of names"),
    ],
)
def test_options_of_another_type_are_named(tmp_path, options, message):
    with pytest.raises(errors.ConfigError, match=message):
        corpora.create_reader("gettext", "en", "fr", {"folders": str(tmp_path), **options})


def test_damaged_po_entries_are_bad_lines(tmp_path):
    good = "".join(f'msgid "a{i}"\nmsgstr "b{i}"\n\n' for i in range(500)).encode()
    bad = b'msgid "no end\nmsgstr "x"\n\nmsgid "alone"\n\nmsgid "y"\nmsgstr "\xff"\n\nnoise\n'
    (tmp_path / "fr.po").write_bytes(_PO.encode() + good + bad)
    pairs, stream = _read(tmp_path)
    assert len(pairs) == 503
    assert [line.split(": ")[1] for line in stream.report()] == [
        "unexpected text 'msgid \"no end'",
        "entry without msgstr",
        "cannot be decoded in the file's charset",
        "unexpected text 'noise'",
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "too short"),
        (b"#!/bin/sh and some more text", "wrong first bytes"),
        (mo_bytes({"a": "b"})[:30], "cut off"),
    ],
)
def test_damaged_mo_is_an_error(tmp_path, data, reason):
    path = _add(tmp_path, "fr", "bad", {})
    path.write_bytes(data)
    with pytest.raises(errors.DataError, match=rf"(?s)bad\.mo: .*{reason}"):
        _read(tmp_path)


def test_one_damaged_message_is_a_bad_line(tmp_path):
    messages = {f"a{i}": f"b{i}" for i in range(300)}
    _add(tmp_path, "fr", "app", {**messages, "bad": b"\xff\xfe"})
    pairs, stream = _read(tmp_path)
    assert len(pairs) == 300
    assert stream.bad == 1


@given(st.binary(max_size=200), st.binary(max_size=40), st.integers(0, 400))
@example(b"", b"\xff\xff\xff\xff", 8)
def test_no_bytes_make_the_mo_parser_fail(tmp_path_factory, noise, patch, place):
    path = tmp_path_factory.getbasetemp() / "noise.mo"
    whole = mo_bytes({"%d day\0%d days": "%d jour\0%d jours", "a": "b", "c\x04d": "e"})
    magic = struct.pack("<I", 0x950412DE)
    for data in (noise, magic + noise, whole[:place] + patch + whole[place + len(patch) :]):
        path.write_bytes(data)
        parsed = catalog.read_mo(str(path))
        assert len(parsed.messages) + len(parsed.bad) <= max(parsed.entries, 1)


@given(st.lists(st.sampled_from([*_PO.splitlines(), "\ufffd", 'msgstr[9999] "x"', '"'])))
def test_no_lines_make_the_po_parser_fail(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "noise.po"
    path.write_text("\n".join(lines))
    parsed = catalog.read_po(str(path))
    assert all(message.translations for message in parsed.messages)


@pytest.mark.parametrize(
    ("source", "target", "cleaned"),
    [
        # Mnemonics.
        ("_File", "_Fichier", ("File", "Fichier")),
        ("_Add to Bookmarks", "A_jouter aux signets", ("Add to Bookmarks", "Ajouter aux signets")),
        ("E_xit", "_Quitter", ("Exit", "Quitter")),
        ("_Open", "開く(_O)", ("Open", "開く")),
        ("&Edit", "&Bearbeiten", ("Edit", "Bearbeiten")),
        ("Save &As…", "Enregistrer &sous…", ("Save As…", "Enregistrer sous…")),
        ("E&xit", "Вы&ход", ("Exit", "Выход")),
        ("_Menu", "_Menü", ("Menu", "Menü")),
        ("_Zoom", "_Zoom là", ("Zoom", "Zoom là")),
        ("&Cut && Paste", "&Couper && coller", ("Cut & Paste", "Couper & coller")),
        # What looks like one and is not.
        ("Audio & Video", "Audio & vidéo", ("Audio & Video", "Audio & vidéo")),
        ("use AT&T syntax", "syntaxe AT&T", ("use AT&T syntax", "syntaxe AT&T")),
        ("R&amp;D", "R&amp;D ici", ("R&amp;D", "R&amp;D ici")),
        ("table_name", "nom_table", ("table_name", "nom_table")),
        ("Invalid record_size", "record_size invalide", "same"),
        ("Bad _gp in the table", "Mauvais _gp dans la table", "same"),
        ("Usage: %s variable_name", "Usage : %s nom_de_variable", "same"),
        ("Drag&Drop it", "Drag&Drop à faire", "same"),
        ("NO_COLOR is set", "NO_COLOR est défini", ("NO_COLOR is set", "NO_COLOR est défini")),
        ("if a && b", "si a && b", ("if a && b", "si a && b")),
        # Placeholders.
        ("%s of %d", "%2$d: %1$s", ("%s of %d", "%2$d: %1$s")),
        ("%s and %s", "%s", "placeholders"),
        ("{name} here", "{nom} ici", "placeholders"),
        ("{name}", "{name} de {name}", ("{name}", "{name} de {name}")),
        ("%(n)d days", "%(n)d jours", ("%(n)d days", "%(n)d jours")),
        ("%1 of %2", "%2 : %1", ("%1 of %2", "%2 : %1")),
        ("${x} ok", "ok", "placeholders"),
        ("50% off", "50 % de rabais", ("50% off", "50 % de rabais")),
        ("100%% sure", "sûr", ("100%% sure", "sûr")),
        ("One file", "%d fichier", "placeholders"),
        # Line breaks and layout.
        ("wrapped\nline.\n", "ligne\ncoupée.\n", ("wrapped line.", "ligne coupée.")),
        ("Old style.  Two spaces.", "Deux.  Oui.", ("Old style.  Two spaces.", "Deux.  Oui.")),
        ("  -v, --verbose   say more", "  -v, --verbose   parle", "layout"),
        ("a\tb", "c\td", "layout"),
        ("one\ntwo\nthree\nfour\nfive", "x", "layout"),
        ("Usage:\n  -x  do it", "Usage :\n  -x  fais-le", "layout"),
        # Contexts in the text, credits, nothing.
        ("keyboard label|Alt", "Alt", ("Alt", "Alt")),
        ("a|b", "x|y", ("a|b", "x|y")),
        ("translator-credits", "Some One", "credits"),
        ("Yes", "", "untranslated"),
    ],
)
def test_text_of_messages(source, target, cleaned):
    if cleaned == "same":
        cleaned = (source, target)
    assert message_text.clean_pair(source, source, target) == cleaned


def test_catalogs_are_listed_in_order(tmp_path):
    for name in ("zeta", "alpha"):
        _add(tmp_path, "fr", name, {})
    _add(tmp_path / "more", "fr", "alpha", {})
    domains = [domain for domain, _ in gettext.find_catalogs(str(tmp_path), "fr")]
    assert domains == ["*/LC_MESSAGES/alpha", "*/LC_MESSAGES/zeta", "more/*/LC_MESSAGES/alpha"]
