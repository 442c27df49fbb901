"""Opening corpus files: compression, zip archives, patterns, and names for what is no text."""

import bz2
import codecs
import gzip
import io
import lzma
import random
import sqlite3
import sys
import tarfile
import tracemalloc
import zipfile

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora
from keras_mtl.data.corpora import base, files, opening

TEXT = "one\tun\ntwo\tdeux\n" * 3000
PAIRS = [("one", "un"), ("two", "deux")] * 3000


def zstd(data):
    zstandard = pytest.importorskip("zstandard")
    return zstandard.ZstdCompressor().compress(data)


COMPRESSIONS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "Zstandard": zstd,
}
PACKED = [name for name in COMPRESSIONS if name != "plain"]


def write(path, data):
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return str(path)


def zipped(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return str(path)


def pairs(reader, **options):
    return [(p.source, p.target) for p in corpora.create_reader(reader, "en", "fr", options)]


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_compression_is_told_by_content_and_not_by_name(tmp_path, compression):
    path = write(tmp_path / "corpus.txt", COMPRESSIONS[compression](TEXT.encode()))
    assert pairs("tsv", file=path) == PAIRS


@pytest.mark.parametrize("compression", PACKED)
def test_several_compressed_parts_in_a_row_are_one_file(tmp_path, compression):
    pack = COMPRESSIONS[compression]
    path = write(tmp_path / "corpus", pack(b"a\tb\n") + pack(b"c\td\n"))
    assert pairs("tsv", file=path) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("compression", PACKED)
@pytest.mark.parametrize("damage", ["cut off", "changed"])
def test_damage_is_one_error_that_names_the_file(tmp_path, compression, damage):
    text = "".join(f"{i * i * 7919}\t{i}\n" for i in range(20000))
    data = bytearray(COMPRESSIONS[compression](text.encode()))
    if damage == "cut off":
        del data[len(data) // 2 :]
    else:
        data[len(data) // 2 :] = bytes(255 - byte for byte in data[len(data) // 2 :])
    path = write(tmp_path / "corpus", bytes(data))
    message = rf"corpus: damaged {compression} file, or cut off, after [\d,]+ bytes.*copy or"
    with pytest.raises(errors.DataError, match=message):
        list(base.read_lines(path))


@pytest.mark.parametrize("compression", PACKED)
def test_a_damaged_second_part_is_not_taken_for_the_end(tmp_path, compression):
    pack = COMPRESSIONS[compression]
    path = write(tmp_path / "corpus", pack(b"a\tb\n") + b"\1\2" + pack(b"c\td\n")[2:])
    with pytest.raises(errors.DataError, match=rf"corpus: damaged {compression} file"):
        list(base.read_lines(path))


def test_zeros_between_xz_streams_are_padding(tmp_path):
    data = lzma.compress(b"a\tb\n") + bytes(8) + lzma.compress(b"c\td\n") + bytes(4)
    assert pairs("tsv", file=write(tmp_path / "corpus", data)) == [("a", "b"), ("c", "d")]


def test_zstandard_without_its_package_names_the_extra(tmp_path, monkeypatch):
    path = write(tmp_path / "a.zst", b"\x28\xb5\x2f\xfd" + bytes(10))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(errors.DataError, match=r"a\.zst.*pip install 'keras_mtl\[zstd\]'"):
        pairs("tsv", file=path)


def test_memory_is_bounded_whatever_a_file_unfolds_to(tmp_path):
    packer = pytest.importorskip("zstandard").ZstdCompressor(level=19).compressobj()
    piece = b"x" * (1 << 20)
    data = b"".join(packer.compress(piece) for _ in range(300)) + packer.flush()
    assert len(data) < 100_000
    path = write(tmp_path / "bomb", data)
    tracemalloc.start()
    try:
        with opening.open_bytes(path) as handle:
            assert sum(map(len, iter(lambda: handle.read(1 << 20), b""))) == 300 << 20
        assert tracemalloc.get_traced_memory()[1] < 140 << 20
    finally:
        tracemalloc.stop()


# Zip archives.

OPUS = {
    "README": "About the corpus.",
    "LICENSE": "Free.",
    "books.en-fr.en": "one\ntwo\n",
    "books.en-fr.fr": "un\ndeux\n",
    "books.en-fr.ids": "1\n2\n",
}


def test_an_archive_of_opus_gives_each_side_its_file(tmp_path):
    path = zipped(tmp_path / "en-fr.txt.zip", OPUS)
    reader = corpora.create_reader(
        "parallel", "en", "fr", {"source_file": path, "target_file": path}
    )
    assert [(p.source, p.target) for p in reader] == PAIRS[:2]
    assert reader.paths() == [path]
    assert reader.selection() == (f"{path}:books.en-fr.en", f"{path}:books.en-fr.fr")
    other = corpora.create_reader(
        "parallel", "fr", "en", {"source_file": path, "target_file": path}
    )
    assert [(p.source, p.target) for p in other] == [("un", "one"), ("deux", "two")]


def test_a_member_can_be_named_and_bad_lines_name_it(tmp_path):
    path = zipped(tmp_path / "a.zip", {"x/a.txt": b"s\n\xff\n", "x/b.txt": "t\nt\n", "c": ""})
    options = {"source_file": f"{path}:x/a.txt", "target_file": f"{path}:x/b.txt"}
    items = list(corpora.create_reader("parallel", "en", "fr", options).read())
    assert str(items[1]).startswith(f"{path}:x/a.txt:2: invalid UTF-8")
    with pytest.raises(errors.DataError, match=r"has no file 'x/a'; did you mean 'x/a.txt'"):
        pairs("parallel", **{**options, "source_file": f"{path}:x/a"})


def test_an_archive_that_leaves_a_choice_lists_its_files(tmp_path):
    path = zipped(tmp_path / "a.zip", {"1.en": "a", "2.en": "b", "1.fr": "c", "2.fr": "d"})
    message = r"a\.zip: 2 files of language 'en' in the zip archive can be meant; it has "
    with pytest.raises(errors.DataError, match=message + r"1\.en, 2\.en, 1\.fr, .*a\.zip:1\.en"):
        pairs("parallel", source_file=path, target_file=path)
    with pytest.raises(errors.DataError, match="no single file in the zip archive can be meant"):
        pairs("tsv", file=path)
    other = zipped(tmp_path / "b.zip", {"a.de": "", "a.fr": ""})
    with pytest.raises(errors.DataError, match="no single file of language 'en' in the"):
        pairs("parallel", source_file=other, target_file=other)
    with pytest.raises(errors.DataError, match="holds no corpus file"):
        pairs("tsv", file=zipped(tmp_path / "c.zip", {"README.md": "", ".hidden": ""}))


def test_the_only_table_of_an_archive_is_taken_and_may_be_compressed(tmp_path):
    members = {"notes.doc": "x", "README": "y", "__MACOSX/._t.tsv": "z"}
    path = zipped(tmp_path / "a.zip", {**members, "t.tsv.gz": gzip.compress(TEXT.encode())})
    assert pairs("tsv", file=path) == PAIRS


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("pt-BR", "a.en-pt_br.pt_br"),
        ("en", "en.txt"),
        ("en", "d.fr/x.en.txt.gz"),
        ("zh", "a.zh"),
        # BCP 47: a region, an older code of Hebrew, a script that the region implies.
        ("pt", "a.pt_BR"),
        ("he", "a.iw"),
        ("zh-Hant", "a.zh_TW"),
    ],
)
def test_the_language_of_a_member_is_in_its_name(tmp_path, language, name):
    path = zipped(tmp_path / "a.zip", {name: "a", "a.xx": "b", "other.txt": "c"})
    assert opening.choose_member(path, language) == name


def test_of_several_members_the_language_that_fits_best_is_taken(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.en_GB": "a", "a.en_US": "b", "a.zh_TW": "c", "a.zh": "d"})
    assert opening.choose_member(path, "en") == "a.en_US"
    assert opening.choose_member(path, "zh") == "a.zh"
    with pytest.raises(errors.DataError, match="no single file of language 'en-CA'"):
        opening.choose_member(path, "en-CA")
    regions = zipped(tmp_path / "b.zip", {"a.en_GB": "a", "a.en_AU": "b"})
    with pytest.raises(errors.DataError, match="2 files of language 'en'"):
        opening.choose_member(regions, "en")


def test_damaged_archives_are_named(tmp_path):
    path = zipped(tmp_path / "a.zip", {"a.tsv": TEXT})
    data = (tmp_path / "a.zip").read_bytes()
    cut = write(tmp_path / "cut.zip", data[:-40])
    with pytest.raises(errors.DataError, match=r"cut\.zip: damaged zip archive, or cut off"):
        pairs("tsv", file=cut)
    # The first byte of the content, behind the header and the name of the only member.
    place = 30 + len("a.tsv")
    changed = write(tmp_path / "bad.zip", data[:place] + b"\xff" + data[place + 1 :])
    with pytest.raises(errors.DataError, match=r"bad\.zip:a\.tsv: damaged zip file"):
        pairs("tsv", file=changed)
    locked = bytearray(data)
    locked[6] |= 1  # The flag "encrypted", in the local and the central header.
    locked[data.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(errors.DataError, match=r"a\.tsv is encrypted"):
        pairs("tsv", file=write(tmp_path / "locked.zip", bytes(locked)))
    assert pairs("tsv", file=path) == PAIRS


# What is not text.


def tar():
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a.tsv"), io.BytesIO())
    return out.getvalue()


def in_zip(*names):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name in names:
            archive.writestr(name, "application/vnd.oasis.opendocument.text")
    return out.getvalue()


def sqlite(tmp_path):
    path = tmp_path / "made.db"
    with sqlite3.connect(path) as database:
        database.execute("create table a (b)")
    return path.read_bytes()


FOREIGN = {
    "a tar archive": tar(),
    "a gzip-compressed tar archive": gzip.compress(tar()),
    "an xz-compressed tar archive": lzma.compress(tar()),
    "a gzip-compressed zip archive": gzip.compress(in_zip("a.tsv")),
    "an Excel workbook": in_zip("[Content_Types].xml", "xl/workbook.xml"),
    "a Word document": in_zip("[Content_Types].xml", "word/document.xml"),
    "an OpenDocument file": in_zip("mimetype", "content.xml"),
    "a PDF": b"%PDF-1.7\n%\xb5\xb5",
    "a SQLite database": sqlite,
    "a Parquet file": b"PAR1\x15\x04",
    "a 7z archive": b"7z\xbc\xaf\x27\x1c\0\4",
    "a compiled gettext catalog": b"\xde\x12\x04\x95" + bytes(24),
    "UTF-16 text": "a\tb\n".encode("utf-16"),
    "UTF-32 text": codecs.BOM_UTF32_LE + "a\tb\n".encode("utf-32-le"),
    "gzip-compressed UTF-16 text": gzip.compress("a\tb\n".encode("utf-16")),
    "an XML file": b'<?xml version="1.0"?><tmx/>',
    "an HTML page": b"\n<!DOCTYPE html><html><title>404</title>",
    "a pointer of Git LFS": b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
    "a binary file": bytes(range(7)) * 50 + bytes(100),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_what_is_no_text_is_named_with_a_remedy(tmp_path, what):
    data = FOREIGN[what]
    path = write(tmp_path / "corpus", data(tmp_path) if callable(data) else data)
    with pytest.raises(errors.DataError, match=rf"corpus is {what}.*; \w+") as caught:
        pairs("tsv", file=path)
    assert "line" not in str(caught.value).replace("line by line", "")


def test_utf_16_without_a_mark_is_named(tmp_path):
    path = write(tmp_path / "corpus", ("one\tun\n" * 20).encode("utf-16-le"))
    with pytest.raises(errors.DataError, match="is UTF-16 text"):
        list(base.read_lines(path))


@pytest.mark.parametrize(
    "text", ["", "BZh9 is no bzip2\tx\n", "PAR1S\tx\n", "PK\tx\n", "a\0b\tx\n" + "y\tx\n" * 9]
)
def test_text_that_resembles_a_mark_is_text(tmp_path, text):
    path = write(tmp_path / "corpus", text)
    assert list(base.read_lines(path)) == text.splitlines()


# Lists and patterns.


def test_patterns_are_sorted_and_lists_keep_their_order(tmp_path):
    for name in ("b.tsv", "a.tsv", "sub/c.tsv", "x[1].tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, f"{name}\tt\n")

    def found(*patterns):
        given = [str(tmp_path / pattern) for pattern in patterns]
        read = files.expand("tsv", "file", given if len(given) > 1 else given[0])
        return [path.removeprefix(f"{tmp_path}/") for path in read]

    assert found("*.tsv") == ["a.tsv", "b.tsv", "x[1].tsv"]
    assert found("**/*.tsv") == ["a.tsv", "b.tsv", "sub/c.tsv", "x[1].tsv"]
    assert found("b.tsv", "a.tsv") == ["b.tsv", "a.tsv"]
    assert found("x[1].tsv", "[a-b].tsv") == ["x[1].tsv", "a.tsv", "b.tsv"]
    with pytest.raises(
        errors.DataError, match=r"no-\*\.tsv: no file matches this pattern \(file of"
    ):
        found("no-*.tsv")
    with pytest.raises(errors.DataError, match=r"a\.tsv: named twice in file of reader 'tsv'"):
        found("a.tsv", "*.tsv")
    reader = corpora.create_reader("tsv", "en", "fr", {"file": str(tmp_path / "*.tsv")})
    assert [p.source for p in reader] == ["a.tsv", "b.tsv", "x[1].tsv"]
    assert reader.lines.total() == 3


@pytest.mark.parametrize("value", [[], "", 3, ["a", None], {"a": 1}])
def test_a_value_that_names_no_file_is_refused(value):
    with pytest.raises(
        errors.ConfigError, match=r"file is .*; it must be the path of a file, a patt"
    ):
        corpora.create_reader("tsv", "en", "fr", {"file": value})


@pytest.mark.parametrize("kind", [*PACKED, "zip"])
def test_any_damage_is_an_error_of_ours(tmp_path, kind):
    """Bytes changed, removed or added anywhere: read as it is, or a DataError."""
    text = "".join(f"{i * i}\t{i}\n" for i in range(300)).encode()
    if kind == "zip":
        zipped(tmp_path / "seed", {"README": "x", "a.tsv": text})
        whole = (tmp_path / "seed").read_bytes()
    else:
        whole = COMPRESSIONS[kind](text)
    rng = random.Random(kind)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        place = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[place] ^= 1 << rng.randrange(8)
            case 1:
                del data[place:]
            case 2:
                data[place:place] = rng.randbytes(3)
        path = write(tmp_path / "damaged", bytes(data))
        try:
            list(corpora.read_pairs(corpora.create_reader("tsv", "en", "fr", {"file": path}), 1.0))
        except errors.DataError:
            refused += 1
    assert refused > 75
