"""The gettext reader: which catalogs it reads, plural forms, joining, damage."""

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora
from keras_mtl.data.corpora import gettext
from tests.data.catalogs import mo_bytes


def _add(directory, locale, domain, messages, **options):
    path = directory / locale / "LC_MESSAGES" / f"{domain}.mo"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(mo_bytes(messages, **options))
    return path


def _read(directory, source="en", target="fr", **options):
    reader = corpora.create_reader(
        "gettext", source, target, {"folders": str(directory), **options}
    )
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


def test_two_languages_are_joined_by_domain_context_and_msgid(tmp_path):
    _add(tmp_path, "fr", "a", {"Open": "Ouvrir", "x\x04Open": "Ouvert", "File": "Fichier"})
    _add(tmp_path, "de", "a", {"Open": "Öffnen", "x\x04Open": "Offen", "Edit": "Bearbeiten"})
    _add(tmp_path, "de", "b", {"File": "Datei"})
    pairs, stream = _read(tmp_path, "fr", "de")
    assert sorted(pairs) == [("Ouvert", "Offen"), ("Ouvrir", "Öffnen")]
    assert stream.dropped == {"untranslated": 1}


@pytest.mark.parametrize(("source", "target"), [("en", "fr"), ("fr", "en"), ("fr", "de")])
def test_parts_read_what_the_whole_reads(tmp_path, monkeypatch, source, target):
    monkeypatch.setattr(gettext, "_DOMAINS_PER_PART", 2)
    for number in range(5):
        for locale in ("fr", "de"):
            _add(tmp_path, locale, f"app{number}", {f"Open {number}": f"{locale} {number}"})
    (tmp_path / "fr/LC_MESSAGES/app3.mo").write_bytes(b"spoiled")
    options = {"folders": str(tmp_path)}
    whole = corpora.create_reader("gettext", source, target, options)
    parts = whole.parts()
    assert len(parts) == 3
    assert [item for part in parts for item in part] == list(whole)
    assert sum((part.lines for part in parts), start=type(whole.lines)()) == whole.lines
    assert sorted(path for part in parts for path in part.paths()) == sorted(whole.paths())


def test_english_as_target(tmp_path):
    _add(tmp_path, "fr", "a", {"Open": "Ouvrir"})
    assert _read(tmp_path, "fr", "en")[0] == [("Ouvrir", "Open")]


def test_exclude_and_links(tmp_path):
    path = _add(tmp_path, "fr", "iso_3166", {"France": "la France"})
    (path.parent / "iso-3166.mo").symlink_to(path)
    _add(tmp_path, "fr", "app", {"Open": "Ouvrir"})
    assert len(_read(tmp_path)[0]) == 2
    assert _read(tmp_path, exclude="iso?3166")[0] == [("Open", "Ouvrir")]
    assert _read(tmp_path, exclude=["x", "iso*"])[0] == [("Open", "Ouvrir")]


def test_missing_directory_and_same_language(tmp_path):
    with pytest.raises(errors.DataError, match="/no/such/directory: no such directory"):
        _read("/no/such/directory")
    with pytest.raises(errors.ConfigError, match="are the same language"):
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


def test_a_plural_without_its_first_form_is_untranslated(tmp_path):
    # Programs see it so: msgfmt leaves it out.
    (tmp_path / "fr.po").write_text(
        'msgid "%d day"\nmsgid_plural "%d days"\nmsgstr[0] ""\nmsgstr[1] "%d jours"\n'
    )
    pairs, stream = _read(tmp_path)
    assert pairs == []
    assert stream.dropped == {"untranslated": 2}


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
        ({"folders": 5}, "folders is 5; it must be a directory, or a list of them"),
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
        "text without a closing quotation mark",
        "entry without msgstr",
        "not UTF-8",
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
