"""The corpus of Debian's documentation: what corresponds, and what may be in a test set."""

import gzip
import hashlib
import json
import shutil
import subprocess
import sys

import pytest

MODULES = ("text", "descriptions", "manual_pages", "help_pages", "near_duplicates", "fetch")


@pytest.fixture(scope="module")
def docs(import_from_benchmarks):
    modules = (f"debian_docs.{name}" for name in MODULES)
    return import_from_benchmarks(*modules, "build_debian_docs")


ENGLISH = """\
Package: swish
Description-md5: 11
Description-en: indexes text files
 Swish indexes text files. It is fast.
 .
 It can read:
  * plain text files;
  * pages of the
    web.
 .
   swish --verbose

Package: other
Description-md5: 22
Description-en: another program for the test
 One paragraph of text.
"""
GERMAN = """\
Package: swish
Description-md5: 11
Description-de: indexiert Textdateien
 Swish indexiert Textdateien. Es ist schnell.
 .
 Es kann lesen:
  * einfache Textdateien;
  * Seiten des
    Webs.
 .
   swish --verbose

Package: other
Description-md5: 22
Description-de: ein anderes Programm zum Test
 Ein Absatz.
 .
 Noch ein Absatz.
"""
PAGE = r"""
.\" A comment
.TH CAT 1
.SH NAME
cat \- concatenate files
.SH DESCRIPTION
Concatenate
.B FILE
to standard output. With no file, read \fIstandard input\fP.
.TP
\fB\-n\fR
number all output lines
.nf
cat < a
.fi
.SH SEE ALSO
The manual has more examples.
"""
PAGE_DE = r"""
.TH CAT 1
.SH BEZEICHNUNG
cat \- Dateien aneinanderreihen
.SH BESCHREIBUNG
.B DATEI
zur Standardausgabe aneinanderreihen. Ohne Datei \fIStandardeingabe\fP lesen.
.TP
\fB\-n\fR
alle Ausgabezeilen nummerieren
.nf
cat < b
.fi
.SH SIEHE AUCH
Das Handbuch zeigt mehr Beispiele.
.SH ÜBERSETZUNG
Diese Seite wurde übersetzt.
"""
HELP = """\
<p id="par_1" class="paragraph">Opens the <b>file</b> dialog.</p>
<p id="par_2" class="code">x = 1</p>
"""
HELP_DE = '<h1 id="hd_9">Titel</h1><p id="par_1">Öffnet den Dialog für Dateien.</p>'


def test_texts_are_split_only_if_both_sides_have_the_same_sentences(docs):
    pairs = docs["text"].sentence_pairs
    english = "Reads a file, e.g. a page. Writes the other file."
    assert list(
        pairs(english, "Liest eine Datei, z.B. eine Seite. Schreibt die andere Datei.")
    ) == [
        ("Reads a file, e.g. a page.", "Liest eine Datei, z.B. eine Seite."),
        ("Writes the other file.", "Schreibt die andere Datei."),
    ]
    joined = "Liest eine Datei und schreibt  die andere."
    assert list(pairs(english, joined)) == [(english, "Liest eine Datei und schreibt die andere.")]
    # Not translated, too short, without letters.
    assert not list(pairs("Reads the whole file again", "Reads the whole file nochmal"))
    assert not list(pairs("Reads files", "Liest Dateien"))
    assert not list(pairs("1 2 3", "4 5 6"))


def test_descriptions_correspond_by_md5_and_structure(docs):
    read, pairs = docs["descriptions"].read_index, docs["descriptions"].pairs
    english, german = read(ENGLISH), read(GERMAN)
    assert list(pairs(english["11"], german["11"])) == [
        ("indexes text files", "indexiert Textdateien"),
        (
            "Swish indexes text files. It is fast.",
            "Swish indexiert Textdateien. Es ist schnell.",
        ),
        ("It can read:", "Es kann lesen:"),
        ("plain text files;", "einfache Textdateien;"),
        ("pages of the web.", "Seiten des Webs."),
    ]
    assert list(pairs(english["22"], german["22"])) == [
        ("another program for the test", "ein anderes Programm zum Test")
    ]


def test_manual_pages_correspond_by_their_macros(docs):
    manual = docs["manual_pages"]
    english, german = manual.blocks(PAGE), manual.blocks(PAGE_DE)
    assert list(manual.pairs(english, german)) == [
        ("NAME", "BEZEICHNUNG"),
        ("cat - concatenate files", "cat - Dateien aneinanderreihen"),
        ("DESCRIPTION", "BESCHREIBUNG"),
        (
            "Concatenate FILE to standard output. With no file, read standard input.",
            "DATEI zur Standardausgabe aneinanderreihen. Ohne Datei Standardeingabe lesen.",
        ),
        ("-n number all output lines", "-n alle Ausgabezeilen nummerieren"),
        ("SEE ALSO", "SIEHE AUCH"),
        ("The manual has more examples.", "Das Handbuch zeigt mehr Beispiele."),
    ]
    assert not list(manual.pairs(english, manual.blocks(PAGE_DE.replace(".TP", ".PP"))))


def test_names_and_numbers_are_masked_and_other_words_are_not(docs):
    words = docs["near_duplicates"].Words.of(
        [
            *(f"the package has the documentation for version {i} of Python" for i in range(5)),
            "Python and the python",
            *("files of the package",) * 5,
        ],
        fewest=3,
    )
    same = [
        "The package has the documentation for swish",
        "The package has the documentation for Perl 5.36 (amd64)",
        "the package has the documentation for lib-foo_2",
        "The package has the documentation for Python --verbose.",
    ]
    assert {words.key(sentence) for sentence in same} == {"the package has the documentation for #"}
    assert words.key("The package has the files for swish") != words.key(same[0])
    # A sentence of names keeps them.
    assert words.key("Foo 12 Bar") == "foo # bar"
    assert words.key("Foo 13 Bar") != words.key("Foo 13 Baz")


def test_near_duplicates_are_in_one_part_and_once_in_a_test_set(docs):
    module = docs["near_duplicates"]
    rows = [
        module.Row(f"the documentation of kind {kind} for {name}", f"{kind} {name} {n}", "man")
        for kind in range(200)
        for name in ("swish", "perl")
        for n in range(2)
    ]
    assert list(module.distinct([*rows, rows[0], rows[1]._replace(origin="ddtp")])) == rows
    keys = {row.english: row.english.rsplit(" ", 1)[0] for row in rows}
    parts = module.split(rows, keys, 0.2, 0.3)
    members = {name: {keys[row.english] for row in part} for name, part in parts.items()}
    assert not members["train"] & (members["dev"] | members["test"])
    assert not members["dev"] & members["test"]
    assert set.union(*members.values()) == set(keys.values())
    for name in ("dev", "test"):
        assert len(parts[name]) == len(members[name])
        assert 10 < len(members[name]) < 100
    assert len(parts["train"]) == 4 * len(members["train"])
    # Another order of the corpus gives the same test set.
    again = module.split(rows[::-1], keys, 0.2, 0.3)
    assert set(again["test"]) == set(parts["test"])


def make_package(root, name, files):
    """Makes a package and returns its entry in the index of packages."""
    tree = root / "trees" / name
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    (tree / "DEBIAN").mkdir(parents=True)
    about = f"Package: {name}\nVersion: 1\nArchitecture: all\nDescription: {name}\n"
    about += "Maintainer: a <a@b>\n"
    (tree / "DEBIAN/control").write_text(about)
    deb = root / f"pool/{name}_1_all.deb"
    deb.parent.mkdir(exist_ok=True)
    command = ["dpkg-deb", "--root-owner-group", "-Znone", "--build", str(tree), str(deb)]
    subprocess.run(command, check=True, capture_output=True)
    content = deb.read_bytes()
    return (
        f"{about}Filename: pool/{deb.name}\nSize: {len(content)}\n"
        f"SHA256: {hashlib.sha256(content).hexdigest()}\n"
    )


@pytest.fixture
def mirror(tmp_path):
    """An archive with a manual page, a page of help and descriptions, in English and German."""
    root = tmp_path / "mirror"
    manual, pages = "usr/share/man", "usr/share/libreoffice/help"
    packages = [
        make_package(root, "coreutils", {f"{manual}/man1/cat.1.gz": gzip.compress(PAGE.encode())}),
        make_package(
            root, "manpages-de", {f"{manual}/de/man1/cat.1.gz": gzip.compress(PAGE_DE.encode())}
        ),
        make_package(root, "libreoffice-help-en-us", {f"{pages}/en-US/text/a.html": HELP.encode()}),
        make_package(root, "libreoffice-help-de", {f"{pages}/de/text/a.html": HELP_DE.encode()}),
    ]
    architecture = subprocess.run(
        ["dpkg", "--print-architecture"], check=True, capture_output=True, text=True
    ).stdout.strip()
    release = root / "dists/bookworm"
    files = {
        f"main/binary-{architecture}/Packages": "\n".join(packages),
        "main/i18n/Translation-en": ENGLISH,
        "main/i18n/Translation-de": GERMAN,
    }
    lines = ["Suite: bookworm", "Codename: bookworm", "Components: main"]
    lines += [f"Architectures: {architecture}", "Date: Sat, 01 Jan 2022 00:00:00 UTC", "SHA256:"]
    for name, text in files.items():
        path = release / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        digest = hashlib.sha256(text.encode()).hexdigest()
        lines.append(f" {digest} {len(text.encode())} {name}")
    (release / "Release").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.skipif(
    not (shutil.which("apt-get") and shutil.which("dpkg-deb")), reason="requires apt and dpkg"
)
def test_one_command_makes_the_corpus_from_an_archive(docs, mirror, tmp_path, monkeypatch):
    monkeypatch.setattr(docs["fetch"], "SOURCE_OPTIONS", "trusted=yes")
    names = tmp_path / "packages.txt"
    names.write_text("coreutils\nabsent\n")
    output = tmp_path / "out"
    arguments = ["--output", str(output), "--languages", "de", "--packages", str(names)]
    command = ["build", *arguments, "--mirror", f"file://{mirror}"]
    monkeypatch.setattr(sys, "argv", command)
    docs["build_debian_docs"].main()
    rows = docs["build_debian_docs"].read(output / "pairs/en-de.tsv.gz")
    assert {row.origin for row in rows} == {"ddtp", "man", "lohelp"}
    assert ("Opens the file dialog.", "Öffnet den Dialog für Dateien.", "lohelp") in rows
    assert ("The manual has more examples.", "Das Handbuch zeigt mehr Beispiele.", "man") in rows
    parts = [
        docs["build_debian_docs"].read(output / f"en-de.{n}.tsv.gz")
        for n in ("train", "dev", "test")
    ]
    assert sorted(row for part in parts for row in part) == sorted(rows)
    sizes = json.loads((output / "statistics.json").read_text())["languages"]["de"]
    assert sizes["pairs"] == len(rows)
    # The same pairs give the same files.
    before = (output / "en-de.train.tsv.gz").read_bytes()
    again = ["--pairs", str(output / "pairs"), "--output", str(tmp_path / "again")]
    monkeypatch.setattr(sys, "argv", ["build", *again, "--languages", "de"])
    docs["build_debian_docs"].main()
    assert (tmp_path / "again/en-de.train.tsv.gz").read_bytes() == before
