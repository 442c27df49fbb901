"""Real catalogs of this machine, as GNU gettext's own tools read and rewrite them.

``msgfmt`` says what a text catalog means. Its result must be what ``read_po`` reads from the
catalog and from the same catalog rewritten with escapes, with other line breaks and in other
charsets, and what ``read_mo`` reads from the compiled file.
"""

import concurrent.futures
import hashlib
import pathlib
import re
import shutil
import struct
import subprocess

import pytest

from keras_mtl.data.corpora import compiled_catalog, text_catalog

_TOOLS = ("msgunfmt", "msgfmt", "msgcat", "msgconv")
_MISSING = [tool for tool in _TOOLS if shutil.which(tool) is None]
pytestmark = pytest.mark.skipif(
    bool(_MISSING), reason=f"GNU gettext is not installed (no {', '.join(_MISSING)})"
)

_DIRECTORIES = ("/usr/share/locale", "/usr/local/share/locale", "/usr/share/vim")
# Large catalogs only repeat what small ones have, and the tools need time for each.
_LARGEST = 12_000

# Charsets of the time before UTF-8, by language; a catalog that has other characters than its
# charset is converted to GB 18030, which has all of Unicode and backslashes in its characters.
_LEGACY = {
    "el": "ISO-8859-7",
    "he": "ISO-8859-8",
    "ja": "EUC-JP",
    "ko": "EUC-KR",
    "pl": "ISO-8859-2",
    "ru": "KOI8-R",
    "uk": "KOI8-U",
    "zh_TW": "BIG5",
}


def _charset(data):
    found = re.search(rb"charset=([\w-]+)", data)
    return found[1].decode().upper() if found else ""


def _sample(size, all_charsets):
    """Returns compiled catalogs, always the same small ones, and possibly one of each charset."""
    paths = sorted(
        {
            path.resolve()
            for directory in _DIRECTORIES
            for path in pathlib.Path(directory).rglob("*.mo")
        }
    )
    paths.sort(key=lambda path: hashlib.sha256(str(path).encode()).digest())
    sizes = {path: path.stat().st_size for path in paths}
    chosen = [path for path in paths if 500 < sizes[path] <= _LARGEST][:size]
    rare = {}
    # Reads every catalog of the machine.
    for path in sorted(paths, key=sizes.__getitem__) if all_charsets else []:
        rare.setdefault(_charset(path.read_bytes()), path)
    return sorted({*chosen, *rare.values()})


def _compiled(data):
    """Returns {original: translation} of a compiled catalog, by the format's definition."""
    _, revision, count, originals, translations = struct.unpack_from("<5I", data)
    assert revision == 0
    texts = []
    for table in (originals, translations):
        rows = struct.iter_unpack("<2I", data[table : table + 8 * count])
        texts.append([data[offset : offset + length] for length, offset in rows])
    messages = dict(zip(*texts, strict=True))
    header = messages.pop(b"", b"")
    charset = _charset(header) or "UTF-8"
    return {key.decode(charset): text.decode(charset) for key, text in messages.items()}


def _read(catalog):
    assert catalog.bad == []
    return {
        ("" if m.context is None else f"{m.context}\4")
        + m.identifier
        + ("" if m.plural is None else f"\0{m.plural}"): "\0".join(m.translations)
        for m in catalog.messages
        if m.translations[0]
    }


def _run(*command):
    return subprocess.run(command, capture_output=True, check=False)


def _check(path, directory):
    """Compares one catalog in all forms; returns the names of those that were compared."""
    name = hashlib.sha256(str(path).encode()).hexdigest()[:16]
    original = directory / f"{name}.po"
    compiled = directory / f"{name}.mo"
    assert _run("msgunfmt", "-o", original, path).returncode == 0, path
    if not original.exists():  # No message but the header.
        assert _read(compiled_catalog.read_mo(str(path))) == {}
        return []
    # The formats of <inttypes.h> are compiled to tables of their own for programs in C.
    plain = directory / f"{name}.plain.po"
    plain.write_bytes(original.read_bytes().replace(b", c-format", b", no-c-format"))
    assert _run("msgfmt", "-o", compiled, plain).returncode == 0, path
    expected = _compiled(compiled.read_bytes())
    assert _read(compiled_catalog.read_mo(str(path))) == expected, path
    assert _read(compiled_catalog.read_mo(str(compiled))) == expected, path
    assert _read(text_catalog.read_po(str(original))) == expected, path
    forms = ["original"]
    rewritten = directory / f"{name}.rewritten.po"
    for options in (("--escape",), ("--no-wrap",), ("--width=20",)):
        done = _run("msgcat", *options, "-o", rewritten, original)
        assert done.returncode == 0, (path, done.stderr)
        assert _read(text_catalog.read_po(str(rewritten))) == expected, (path, options)
        forms.append(options[0])
    locale = next((p for p in path.parts if p in _LEGACY), "")
    for charset in (_LEGACY.get(locale, "ISO-8859-1"), "GB18030"):
        done = _run("msgconv", f"--to-code={charset}", "-o", rewritten, original)
        if done.returncode == 0:
            assert _read(text_catalog.read_po(str(rewritten))) == expected, (path, charset)
            forms.append(charset)
            break
    return forms


@pytest.mark.parametrize(
    ("size", "all_charsets"), [(12, False), pytest.param(320, True, marks=pytest.mark.nightly)]
)
def test_real_catalogs_are_read_as_msgfmt_reads_them(tmp_path, size, all_charsets):
    paths = _sample(size, all_charsets)
    if not paths:
        pytest.skip(f"no compiled catalog below {', '.join(_DIRECTORIES)}")
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        compared = list(pool.map(lambda path: _check(path, tmp_path), paths))
    # Every catalog in five forms: as it was, rewritten three times, in another charset.
    assert {len(forms) for forms in compared if forms} == {5}
