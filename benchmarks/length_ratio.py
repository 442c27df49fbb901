"""Measures the length ratio rule of cleaning on real translations from English.

    python benchmarks/length_ratio.py                              # gettext catalogs of the machine
    python benchmarks/length_ratio.py --tsv en-fr.tsv en-de.tsv    # your own files

For each language: the fraction of correct pairs that the rule drops, and the fraction of misaligned
pairs (each source with the target of the next line) that it detects. Both are printed for lengths
in characters and in letters, as counted by `keras_mtl.data.cleaning.letters`.
"""

import argparse
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.configuration.schema import CleaningConfig
from keras_mtl.data import corpora
from keras_mtl.data.cleaning import Cleaner, letters
from keras_mtl.errors import KerasMtlError


def read(reader: str, target: str, options: Mapping[str, Any], most: int) -> list[tuple[str, str]]:
    """Returns the first pairs of a corpus that pass all rules except the length ratio."""
    cleaner = Cleaner(CleaningConfig(max_length_ratio=float("inf")))
    pairs: list[tuple[str, str]] = []
    for item in corpora.create_reader(reader, "en", target, options):
        if isinstance(item, corpora.Pair):
            clean = cleaner.clean(item.source, item.target)
            if clean is not None:
                pairs.append(clean)
        if len(pairs) == most:
            break
    return pairs


def lengths(pairs: Sequence[tuple[str, str]], measure: Callable[[str], int]) -> np.ndarray:
    """Returns the lengths of sources and targets, float64 `[2, pairs]`."""
    return np.array([[measure(source), measure(target)] for source, target in pairs], float).T


def dropped(sides: np.ndarray, limit: float, slack: int) -> float:
    """Returns the fraction of pairs that the rule drops, from float64 `[2, pairs]` lengths."""
    short, long = sides.min(axis=0), sides.max(axis=0)
    return float(((long - short > slack) & (long > limit * short)).mean())


def row(name: str, pairs: Sequence[tuple[str, str]], settings: CleaningConfig) -> list[str]:
    """Returns the table cells of one language."""
    limit, slack = settings.max_length_ratio, settings.ratio_slack
    cells = [name, f"{len(pairs):,}"]
    for measure in (len, letters):
        sides = lengths(pairs, measure)
        shifted = np.stack([sides[0], np.roll(sides[1], -1)])
        cells += [f"{dropped(sides, limit, slack):.2%}", f"{dropped(shifted, limit, slack):.1%}"]
    return cells


def main() -> None:
    """Prints a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--tsv", nargs="+", metavar="FILE", help="files en-XX.tsv with English and a translation"
    )
    parser.add_argument(
        "--locale_dir", default="/usr/share/locale", help="directory of gettext catalogs"
    )
    parser.add_argument("--languages", nargs="+", help="locales (default: all with 300 pairs)")
    parser.add_argument(
        "--most", type=int, default=40_000, help="maximum number of pairs for each language"
    )
    args = parser.parse_args()
    found: dict[str, list[tuple[str, str]]] = {}
    for path in args.tsv or ():
        name = os.path.basename(path).removeprefix("en-").partition(".")[0]
        found[name] = read("tsv", name, {"file": path}, args.most)
    if not args.tsv:
        for name in args.languages or sorted(os.listdir(args.locale_dir)):
            options = {"folders": args.locale_dir, "target_locale": name}
            options["exclude"] = ["iso_*", "iso-*"]  # Names of languages and countries.
            try:
                pairs = read("gettext", name, options, args.most)
            except KerasMtlError:  # No catalogs.
                continue
            if len(pairs) >= 300 or args.languages:
                found[name] = pairs
    head = ["language", "pairs", "characters: dropped", "caught", "letters: dropped", "caught"]
    print("|", " | ".join(head), "|")
    print("|", " | ".join("---" for _ in head), "|")
    for name, pairs in found.items():
        print("|", " | ".join(row(name, pairs, CleaningConfig())), "|")


if __name__ == "__main__":
    main()
