"""Finds the checkpoints in a directory by their file names. Does not import TensorFlow."""

import json
import os
import re
from pathlib import Path

from keras_mtl.run_files import BEST_SCORES_FILE

BEST = "best"


def find_checkpoints(model_dir: str | os.PathLike[str]) -> list[str]:
    """Returns the prefixes of a directory's checkpoints by preference: best, newest.

    Args:
        model_dir: a model directory, or a list of best weights such as `best/worst` in one.
    """
    directory = Path(model_dir)
    return newest_first(directory / BEST) + (best_first(directory) or newest_first(directory))


def chosen_checkpoints(path: str | os.PathLike[str]) -> list[str]:
    """Returns the prefixes of the checkpoints that the user has chosen, in order of preference.

    Args:
        path: prefix of a checkpoint, its `.index` file, or a directory of checkpoints.

    Returns:
        The prefixes; empty if there is no checkpoint.
    """
    path = Path(path)
    if path.is_dir():
        return find_checkpoints(path)
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    return [str(prefix)] if prefix.with_name(f"{prefix.name}.index").is_file() else []


def best_first(directory: Path) -> list[str]:
    """Returns the prefixes of the checkpoints in a list of best weights; empty if it is none."""
    try:
        names = json.loads((directory / BEST_SCORES_FILE).read_bytes())["checkpoints"]
        prefixes = [directory / name for name in names]
    except (OSError, ValueError, KeyError, TypeError):  # Missing or damaged.
        return []
    return [str(p) for p in prefixes if p.with_name(f"{p.name}.index").is_file()]


def newest_first(directory: Path) -> list[str]:
    """Returns the prefixes of the checkpoints in a directory, but not in those below it."""
    numbered = []
    for index in directory.glob("ckpt-*.index"):
        match = re.fullmatch(r"ckpt-(\d+)\.index", index.name)
        if match:
            numbered.append((int(match[1]), str(index.with_suffix(""))))
    return [prefix for _, prefix in sorted(numbered, reverse=True)]
