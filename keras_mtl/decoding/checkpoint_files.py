"""Which checkpoints a directory holds, by the names of its files. Needs no TensorFlow."""

import os
import re
from pathlib import Path

BEST = "best"


def find_checkpoints(model_dir: str | os.PathLike[str]) -> list[str]:
    """Returns prefixes of a model directory's checkpoints, the one to use first: best, newest."""
    directory = Path(model_dir)
    return _newest_first(directory / BEST) + _newest_first(directory)


def chosen_checkpoints(path: str | os.PathLike[str]) -> list[str]:
    """Returns prefixes of the checkpoints that the user has chosen, the one to use first.

    Args:
        path: prefix of a checkpoint, its `.index` file, or a directory of checkpoints.

    Returns:
        Prefixes; none if there is no checkpoint.
    """
    path = Path(path)
    if path.is_dir():
        return find_checkpoints(path)
    prefix = path.with_suffix("") if path.suffix == ".index" else path
    return [str(prefix)] if prefix.with_name(f"{prefix.name}.index").is_file() else []


def _newest_first(directory: Path) -> list[str]:
    numbered = []
    for index in directory.glob("ckpt-*.index"):
        match = re.fullmatch(r"ckpt-(\d+)\.index", index.name)
        if match:
            numbered.append((int(match[1]), str(index.with_suffix(""))))
    return [prefix for _, prefix in sorted(numbered, reverse=True)]
