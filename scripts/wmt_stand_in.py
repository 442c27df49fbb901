"""Writes synthetic files with the names and formats of those of configs/wmt14_en_fr_de.yaml.

    python scripts/wmt_stand_in.py --output runs/wmt_stand_in

The output is a small tree in which the configuration can run from beginning to end:

    runs/wmt_stand_in/configs/wmt14_en_fr_de.yaml   the configuration, with a smaller max_pairs
    runs/wmt_stand_in/data/wmt14/...                every file that it names
    runs/wmt_stand_in/benchmarks/evidence/          the sweep that compares schedules on them

The sentences are those of the built-in corpus (dates, quantities, names, lists from CLDR), so a
translation can be learned. Each file has 1/SCALE of the lines of the real file. About 2 % of the
lines have noise of the kinds that crawled text has: empty sides, copies, wrong lengths, repeated
pairs, wrong translations, invalid UTF-8, and characters inside a line that Unicode, but not the
format, regards as line breaks. The dev and test sets are clean, have the same English side for both
languages, and share no English sentence with the training data. The files depend only on the
arguments.
"""

import argparse
import contextlib
import gzip
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator

import yaml

from keras_mtl.data import corpora

ROOT = pathlib.Path(__file__).parents[1]
CONFIG = ROOT / "configs/wmt14_en_fr_de.yaml"
# Their paths are relative to each other.
SWEEP = ("benchmarks/evidence/wmt14.yaml", "benchmarks/evidence/settings.yaml")
# Lines of the real training files, in thousands.
LINES = {
    "europarl-v7.fr-en": 2008,
    "commoncrawl.fr-en": 3244,
    "undoc.2000.fr-en": 12887,
    "news-commentary-v9.fr-en": 183,
    "giga-fren.release2.fixed": 22520,
    "europarl-v7.de-en": 1920,
    "commoncrawl.de-en": 2399,
    "news-commentary-v9.de-en": 201,
}
# One line of this number of lines has noise.
NOISE_INTERVAL = 50
# Seeds of the sentences. Training corpora take the numbers from `TRAINING_SEED` on.
SEEDS = {"dev_corpora": 1, "test_corpora": 2}
TRAINING_SEED = 10
# More characters than `task.data.cleaning.max_characters` allows.
TOO_LONG = 1200

Texts = tuple[str, str]
Noise = Callable[[Texts, Texts], tuple[bytes, bytes]]


def encoded(source: str, target: str) -> tuple[bytes, bytes]:
    """Returns both sides in UTF-8."""
    return source.encode(), target.encode()


def repeated(text: str, characters: int) -> str:
    """Returns a text of at least this number of characters."""
    return " ".join([text] * (characters // (len(text) + 1) + 1))


# Each takes a pair and the pair before it.
NOISE: dict[str, Noise] = {
    "both sides empty": lambda pair, last: (b"", b""),
    "source empty": lambda pair, last: encoded("", pair[1]),
    "target empty": lambda pair, last: encoded(pair[0], " "),
    "source copied": lambda pair, last: encoded(pair[0], pair[0]),
    "pair repeated": lambda pair, last: encoded(*last),
    "translation of another line": lambda pair, last: encoded(pair[0], last[1]),
    "target much longer": lambda pair, last: encoded(pair[0], repeated(pair[1], 400)),
    "both sides too long": lambda pair, last: encoded(*(repeated(x, TOO_LONG) for x in pair)),
    "control character": lambda pair, last: encoded(f"{pair[0]}\x03", pair[1]),
    "invalid UTF-8": lambda pair, last: (pair[0].encode(), pair[1].encode() + b" \xe9t\xe9"),
    "carriage return": lambda pair, last: encoded(f"{pair[0]}\r", f"{pair[1]}\r"),
    # `str.splitlines` would split these lines, and misalign the rest of the file.
    "line separators": lambda pair, last: encoded(
        pair[0].replace(" ", "\u2028", 1), pair[1].replace(" ", "\x85", 1)
    ),
    "form feed": lambda pair, last: encoded(f"\x0c{pair[0]}", pair[1]),
}


def sentences(source: str, target: str, seed: int, excluded: set[str]) -> Iterator[Texts]:
    """Yields pairs without end, except those whose source is excluded."""
    reader = corpora.create_reader("cldr", source, target, {"pairs": 10**9, "seed": seed})
    for pair in reader:
        if isinstance(pair, corpora.Pair) and pair.source not in excluded:
            yield pair.source, pair.target


def with_noise(pairs: Iterable[Texts], count: int) -> Iterator[tuple[bytes, bytes]]:
    """Yields the lines of a training corpus."""
    kinds = list(NOISE.values())
    last = ("", "")
    for number, pair in zip(range(count), pairs, strict=False):
        # The middle of an interval, so that a file does not begin with noise.
        kind, place = divmod(number, NOISE_INTERVAL)
        if place == NOISE_INTERVAL // 2:
            yield kinds[kind % len(kinds)](pair, last)
        else:
            yield encoded(*pair)
        last = pair


def write(paths: Iterable[pathlib.Path], lines: Iterable[tuple[bytes, bytes]]) -> None:
    """Writes the files of a corpus, compressed if their names say so.

    The last line of a file from the common crawl does not end; the first line of a news commentary
    begins with a byte order mark.
    """
    with contextlib.ExitStack() as stack:
        files = []
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            # No time of writing, so that the bytes depend only on the content.
            file = stack.enter_context(open(path, "wb"))
            if path.suffix == ".gz":
                file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0))
            if path.name.startswith("news-commentary"):
                file.write("\ufeff".encode())
            files.append(file)
        end = b""
        for pair in lines:
            for file, line in zip(files, pair, strict=True):
                file.write(end + line)
            end = b"\n"
        if not path.name.startswith("commoncrawl"):
            for file in files:
                file.write(end)


def held_out(pair: dict, which: str, count: int, languages: list[str]) -> list[Texts]:
    """Returns the pairs of a dev or test set: sentences that all languages have."""
    readers = {
        target: corpora.create_reader(
            "cldr", pair["source"], target, {"pairs": 2 * count, "seed": SEEDS[which]}
        )
        for target in languages
    }
    # `line` is the number of the content, which is the same in all languages.
    by_line = {target: {each.line: each for each in reader} for target, reader in readers.items()}
    common = sorted(set.intersection(*map(set, by_line.values())))[:count]
    own = by_line[pair["target"]]
    return [(own[line].source, own[line].target) for line in common]


def make(output: pathlib.Path, scale: int, evaluation_pairs: int) -> None:
    """Writes the configuration and the files.

    Args:
        output: a directory, which is created.
        scale: the factor by which training files are smaller than the real ones; >= 1.
        evaluation_pairs: lines of each dev and test set.
    """
    task, trainer, rest = CONFIG.read_text(encoding="utf-8").partition("\ntrainer:\n")
    task, found = re.subn(
        r"(?m)^    max_pairs: (\d+)$",
        lambda match: f"    max_pairs: {max(1, int(match[1]) // scale)}",
        task,
    )
    if found != 1:
        raise SystemExit(f"error: {CONFIG} has {found} tasks with `max_pairs`, expected 1")
    text = task + trainer + rest
    copy = output / "configs" / CONFIG.name
    copy.parent.mkdir(parents=True, exist_ok=True)
    copy.write_text(text, encoding="utf-8")
    pairs = yaml.safe_load(text)["task"]["pairs"]
    languages = [pair["target"] for pair in pairs]

    def paths(corpus: dict) -> list[pathlib.Path]:
        options = corpus["options"]
        return [copy.parent / options[name] for name in ("source_file", "target_file")]

    excluded: set[str] = set()
    for pair in pairs:
        for which in SEEDS:
            lines = held_out(pair, which, evaluation_pairs, languages)
            excluded.update(source for source, _ in lines)
            (corpus,) = pair[which]
            write(paths(corpus), (encoded(*line) for line in lines))
    seed = TRAINING_SEED
    for pair in pairs:
        for corpus in pair["corpora"]:
            files = paths(corpus)
            name = re.sub(r"\.[a-z]{2}(\.gz)?$", "", files[0].name)
            lines = max(1, 1000 * LINES[name] // scale)
            stream = sentences(pair["source"], pair["target"], seed, excluded)
            write(files, with_noise(stream, lines))
            print(f"{lines:>8,} lines  {name}", flush=True)
            seed += 1
    for name in SWEEP:
        (output / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, output / name)
    print(f"configuration: {copy}\nsweep: {output / SWEEP[0]}")


def positive(text: str) -> int:
    """Parses an argument that is an integer >= 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def main() -> None:
    """Parses the arguments and writes the files."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, required=True, metavar="DIR")
    parser.add_argument(
        "--scale", type=positive, default=1000, help="1/SCALE of the real lines (default: 1000)"
    )
    parser.add_argument(
        "--evaluation_pairs",
        type=positive,
        default=300,
        metavar="N",
        help="lines of each dev and test set (default: 300)",
    )
    args = parser.parse_args()
    data = args.output / "data"
    if data.exists():
        raise SystemExit(f"error: {data} exists; delete it, or give another --output")
    make(args.output, args.scale, args.evaluation_pairs)


if __name__ == "__main__":
    main()
