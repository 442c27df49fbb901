"""The report of an evaluation: scores, and the information needed to compare them.

`evaluation-test.json` contains the scores of each task and the following:

* the weights: `checkpoint`, `checkpoint_choice`, `step`, `trained_steps` and `weights_hash`
* the sentences: `split` or `corpora`, and for each task `pairs`, `available` and `test_set_hash`;
  `partial` lists what a complete evaluation has in addition
* the settings and the time: beam size, backend, compute type, `date`, `keras_mtl` (the version) and
  `hardware`

`keras_mtl.evaluation.report_names` chooses its name. This module does not import TensorFlow.
"""

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_mtl.errors import DataError
from keras_mtl.evaluation.results import (
    ScoredPairs,
    TaskResult,
    all_signatures,
    macro_average,
)
from keras_mtl.evaluation.translations import write_translations
from keras_mtl.files import replace_file

# Size of the test file that shows whether a report can be written: a block of a file system.
_PROBE_BYTES = 4096


def report(
    results: Mapping[str, TaskResult],
    scored: Mapping[str, ScoredPairs] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Returns results as plain data for JSON.

    Args:
        results: the result of `Evaluator.evaluate`.
        scored: the value of `Evaluator.scored_pairs`.
        **extra: fields in front of the scores, for example `split="test"`.
    """
    signatures = all_signatures(results)
    tasks: dict[str, dict[str, Any]] = {}
    for name, result in results.items():
        tasks[name] = {"pairs": result.pairs}
        if scored:
            tasks[name]["available"] = scored[name].available
            tasks[name]["test_set_hash"] = scored[name].digest
        tasks[name] |= {"scores": dict(result.scores), "seconds": round(result.seconds, 3)}
    return {
        **extra,
        "macro_average": {metric: macro_average(results, metric) for metric in signatures},
        "signatures": signatures,
        "tasks": tasks,
    }


def write_report(
    path: str | os.PathLike[str],
    results: Mapping[str, TaskResult],
    scored: Mapping[str, ScoredPairs] | None = None,
    **extra: Any,
) -> Path:
    """Writes the report as JSON and the translations next to it.

    The translations of `evaluation-test.json` are in the directory `evaluation-test`, one file for
    each task; see `keras_mtl.evaluation.translations`. After an error there is no partial file.

    Returns:
        The path.

    Raises:
        DataError: the disk is full, or the directory is not writable.
    """
    path = Path(path)
    try:
        # Translations first, so that a report never lacks them.
        write_translations(path.with_suffix(""), results)
        text = json.dumps(report(results, scored, **extra), indent=2, ensure_ascii=False)
        replace_file(path, text + "\n")
    except OSError as error:
        raise _cannot_write(path, error) from error
    return path


def check_writable(path: str | os.PathLike[str]) -> None:
    """Checks that a report can be written, before the evaluation begins. Creates its directory.

    Raises:
        DataError: the report cannot be written.
    """
    path = Path(path)
    probe = path.with_name(f"{path.name}.probe")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # A file has the name of the directory.
            code = errno.ENOTDIR
            raise NotADirectoryError(code, os.strerror(code), str(path.parent)) from error
        try:
            with open(probe, "wb") as file:
                file.write(bytes(_PROBE_BYTES))
                file.flush()
                os.fsync(file.fileno())
        finally:
            probe.unlink(missing_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from error


def _cannot_write(path: Path, error: OSError) -> DataError:
    reason = error.strerror or type(error).__name__
    return DataError(
        f"{path}: the report cannot be written ({reason}). Free disk space, make the directory "
        "writable, or give another file with --output"
    )


def read_report(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Reads a report. Returns None if it does not exist or is damaged."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        return found if isinstance(found["tasks"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
