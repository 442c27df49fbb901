"""Makes a translation corpus of technical English in twelve languages from Debian's packages.

    python benchmarks/build_debian_docs.py --output data/debian_docs

Needs a Debian or Ubuntu machine (apt-get, dpkg-deb) and a mirror of Debian; it changes nothing
outside of the output and does not need root. It downloads about 310 MB and takes about ten minutes
of one core. `benchmarks/debian_docs/README.md` describes the data and its licenses.

The output has `en-LANGUAGE.train.tsv.gz`, `.dev.tsv.gz` and `.test.tsv.gz` with the columns
English, translation and origin, and `statistics.json`. `pairs/` holds all pairs before the split;
--pairs splits those of another directory again.
"""

import argparse
import gzip
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from debian_docs import descriptions, help_pages, manual_pages
from debian_docs.fetch import MIRROR, Apt, unpack
from debian_docs.near_duplicates import Row, Words, distinct, split
from debian_docs.text import sentence_pairs

# By the code of the task: the names of descriptions, manual pages and help.
LANGUAGES = {
    "it": ("it", "it", "it"),
    "da": ("da", "da", "da"),
    "fr": ("fr", "fr", "fr"),
    "de": ("de", "de", "de"),
    "pt_BR": ("pt_BR", "pt_BR", "pt-BR"),
    "ru": ("ru", "ru", "ru"),
    "es": ("es", "es", "es"),
    "uk": ("uk", "uk", "uk"),
    "sr": ("sr", "sr", "sr"),
    "hi": ("hi", "hi", "hi"),
    "ro": ("ro", "ro", "ro"),
    "nb": ("nb", "nb", "nb"),
}
_PACKAGES = Path(__file__).parent / "debian_docs/packages.txt"


def help_package(code: str) -> str:
    return f"libreoffice-help-{code.lower()}"


def manual_pattern(codes: Iterable[str]) -> str:
    names = "|".join(re.escape(code.lower().replace("_", "-")) for code in codes)
    return f"^manpages-({names})(-dev)?$"


def fetch(apt: Apt, languages: list[str], english_pages: list[str], root: Path) -> None:
    """Fetches and unpacks the packages of the languages."""
    apt.update()
    manuals = apt.names(manual_pattern(LANGUAGES[code][1] for code in languages))
    codes = ["en-us", *(LANGUAGES[code][2] for code in languages)]
    helps = apt.existing(map(help_package, codes))
    packages = [*manuals, *helps, *apt.existing(english_pages)]
    print(f"downloading {len(packages)} packages", flush=True)
    unpack(apt.download(list(dict.fromkeys(packages))), root)


def description_rows(apt: Apt, language: str) -> Iterator[tuple[str, str]]:
    """Yields the texts of package descriptions."""
    indices = apt.translations()
    if language not in indices:
        return
    english = descriptions.read_index(apt.read(indices["en"]))
    for md5, other in descriptions.read_index(apt.read(indices[language])).items():
        if md5 in english:
            yield from descriptions.pairs(english[md5], other)


def manual_rows(root: Path, language: str) -> Iterator[tuple[str, str]]:
    """Yields the texts of manual pages."""
    manuals = root / "usr/share/man"
    english = manual_pages.index(manuals)
    for name, path in manual_pages.index(manuals / language).items():
        if name not in english:
            continue
        pages = manual_pages.read_page(english[name]), manual_pages.read_page(path)
        if pages[0] is not None and pages[1] is not None:
            yield from manual_pages.pairs(pages[0], pages[1])


def help_rows(root: Path, language: str) -> Iterator[tuple[str, str]]:
    """Yields the paragraphs of LibreOffice help."""
    pages = root / "usr/share/libreoffice/help"
    yield from help_pages.pairs(
        help_pages.read_pages(pages / "en-US"), help_pages.read_pages(pages / language)
    )


def extract(apt: Apt, root: Path, language: str) -> list[Row]:
    """Returns the distinct sentence pairs of a language."""
    names = LANGUAGES[language]
    sources = {
        "ddtp": description_rows(apt, names[0]),
        "man": manual_rows(root, names[1]),
        "lohelp": help_rows(root, names[2]),
    }
    rows = (
        Row(*pair, origin)
        for origin, texts in sources.items()
        for text in texts
        for pair in sentence_pairs(*text)
    )
    return list(distinct(rows))


def write(path: Path, rows: Iterable[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join("\t".join(row) + "\n" for row in rows)
    # Without a time, so that the same rows give the same file.
    path.write_bytes(gzip.compress(text.encode(), mtime=0))


def read(path: Path) -> list[Row]:
    lines = gzip.decompress(path.read_bytes()).decode().split("\n")
    return [Row(*line.split("\t")) for line in lines if line]


def write_splits(
    rows: dict[str, list[Row]], output: Path, dev_fraction: float, test_fraction: float
) -> None:
    """Writes the parts of every language, and their sizes."""
    sentences = {row.english for own in rows.values() for row in own}
    words = Words.of(sentences)
    keys = {sentence: words.key(sentence) for sentence in sentences}
    sizes = {}
    for language, own in rows.items():
        parts = split(own, keys, dev_fraction, test_fraction)
        for name, part in parts.items():
            write(output / f"en-{language}.{name}.tsv.gz", part)
        sizes[language] = {"pairs": len(own)} | {name: len(part) for name, part in parts.items()}
        print(f"en-{language}: {sizes[language]}", flush=True)
    found = {
        "english_sentences": len(sentences),
        "without_near_duplicates": len(set(keys.values())),
        "dev_fraction": dev_fraction,
        "test_fraction": test_fraction,
        "languages": sizes,
    }
    (output / "statistics.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("data/debian_docs"), metavar="DIR")
    parser.add_argument(
        "--languages", nargs="+", default=list(LANGUAGES), choices=list(LANGUAGES), metavar="CODE",
        help=f"languages: {', '.join(LANGUAGES)} (default: all)",
    )  # fmt: skip
    parser.add_argument("--suite", default="bookworm", help="release of Debian")
    parser.add_argument("--mirror", default=MIRROR, help="URL of a mirror of Debian")
    parser.add_argument(
        "--packages", type=Path, default=_PACKAGES, metavar="FILE",
        help="names of the packages that hold the English manual pages",
    )  # fmt: skip
    parser.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="downloads, kept for a rerun (default: OUTPUT/work)",
    )
    parser.add_argument(
        "--pairs", type=Path, metavar="DIR", help="split the pairs of this directory; fetch nothing"
    )
    parser.add_argument("--dev_fraction", type=float, default=0.04)
    parser.add_argument("--test_fraction", type=float, default=0.08)
    args = parser.parse_args()
    if args.pairs is None:
        work = args.work or args.output / "work"
        names = ["en", *(LANGUAGES[code][0] for code in args.languages)]
        apt = Apt(work / "apt", args.suite, names, args.mirror)
        fetch(apt, args.languages, args.packages.read_text(encoding="utf-8").split(), work / "root")
        for language in args.languages:
            rows = extract(apt, work / "root", language)
            write(args.output / f"pairs/en-{language}.tsv.gz", rows)
            print(f"en-{language}: {len(rows):,} pairs", flush=True)
    directory = args.pairs or args.output / "pairs"
    found = {code: read(directory / f"en-{code}.tsv.gz") for code in args.languages}
    write_splits(found, args.output, args.dev_fraction, args.test_fraction)


if __name__ == "__main__":
    main()
