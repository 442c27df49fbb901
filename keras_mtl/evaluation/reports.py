"""The report of an evaluation: scores, and what must be known to compare them with other scores.

``evaluation-test.json`` holds the scores of each task, and in addition:

* which weights: ``checkpoint``, ``checkpoint_choice``, ``step``, ``trained_steps`` and
  ``weights_hash``
* which sentences: ``split`` or ``corpora``, and for each task ``pairs``, ``available`` and
  ``test_set_hash``; ``partial`` lists what a whole evaluation would have in addition
* how and when: beam size, backend, compute type, ``date``, ``keras_mtl`` (the version) and
  ``hardware``

A report never replaces one that has more, or one of other sentences: see `obstacle`. Loads no
TensorFlow.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_mtl.errors import ConfigError, DataError, nearest
from keras_mtl.evaluation.translations import write_translations
from keras_mtl.events import read_events
from keras_mtl.files import replace_file
from keras_mtl.metrics import TEXT_METRICS

if TYPE_CHECKING:
    from keras_mtl.evaluation.evaluator import TaskResult

# Bytes that are written to find out whether a report can be written: a block of a file system.
_PROBE_BYTES = 4096
_CHECKPOINT = re.compile(r"ckpt-(\d+)")


@dataclasses.dataclass(frozen=True)
class ScoredPairs:
    """The pairs on which a task is scored.

    Attributes:
      pairs: number of pairs that are scored.
      available: number of pairs in the split or in the corpora.
      digest: `keras_mtl.evaluation.translations.pairs_digest` of the scored pairs.
    """

    pairs: int
    available: int
    digest: str


def checkpoint_record(
    model_dir: str | os.PathLike[str], checkpoint: str, given: bool
) -> dict[str, Any]:
    """Says which checkpoint was scored, and how far the run was trained then.

    Args:
      model_dir: the run's directory.
      checkpoint: prefix of the checkpoint that was read.
      given: whether the user named it; otherwise it is the best of validation, or else the newest.

    Returns:
      ``checkpoint`` (relative to the directory if it is inside), ``checkpoint_choice`` (``given``,
      ``best`` or ``newest``), ``step`` and ``trained_steps``; a step that is not known is None.
    """
    directory, path = Path(model_dir).resolve(), Path(checkpoint).resolve()
    inside = path.is_relative_to(directory)
    match = _CHECKPOINT.fullmatch(path.name)
    choice = "best" if path.parent.name == "best" else "newest"
    return {
        "checkpoint": path.relative_to(directory).as_posix() if inside else str(path),
        "checkpoint_choice": "given" if given else choice,
        "step": int(match[1]) if match else None,
        "trained_steps": trained_steps(directory),
    }


def trained_steps(model_dir: str | os.PathLike[str]) -> int | None:
    """Returns how far a run has been trained; None if nothing tells.

    That is the step of its newest checkpoint: a log may be ahead of it when a run was killed. If
    only the best checkpoint was kept, the log counts too.
    """
    directory = Path(model_dir)
    steps = _checkpoint_steps(directory)
    if not steps:
        steps = _checkpoint_steps(directory / "best")
        with contextlib.suppress(DataError):
            steps += [int(event["step"]) for event in read_events(directory)]
    return max(steps, default=None)


def _checkpoint_steps(directory: Path) -> list[int]:
    matches = [_CHECKPOINT.fullmatch(path.stem) for path in directory.glob("ckpt-*.index")]
    return [int(match[1]) for match in matches if match]


def weights_hash(arrays: Iterable[Any]) -> str:
    """Returns a hash of a model's weights, 16 hexadecimal digits.

    Args:
      arrays: NumPy arrays, in the model's order.
    """
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def partial_fields(
    scored: Mapping[str, ScoredPairs], metrics: Sequence[str], left_out: Sequence[str] = ()
) -> list[str]:
    """Lists in which respects an evaluation is not whole; empty for a whole one.

    Args:
      scored: by task.
      metrics: names of the metrics.
      left_out: tasks of the model that are not scored although they have sentences.
    """
    noun = "task" if len(left_out) == 1 else "tasks"
    missing = [f"without {noun} {', '.join(left_out)}"] if left_out else []
    missing += [
        f"{found.pairs:,} of {found.available:,} pairs of {task}"
        for task, found in scored.items()
        if found.pairs < found.available
    ]
    return missing + [f"without {name}" for name in TEXT_METRICS if name not in metrics]


def macro_average(results: Mapping[str, "TaskResult"], metric: str) -> float:
    """Mean of a metric over tasks, each task counting the same.

    Raises:
      ConfigError: the metric was not evaluated.
    """
    values = []
    for result in results.values():
        if metric not in result.scores:
            raise ConfigError(f"{metric!r} was not evaluated{nearest(metric, result.scores)}")
        values.append(result.scores[metric])
    return math.fsum(values) / len(values)


def report(
    results: Mapping[str, "TaskResult"],
    scored: Mapping[str, ScoredPairs] | None = None,
    **extra: Any,
) -> dict[str, Any]:
    """Results as plain data for JSON.

    Args:
      results: of `Evaluator.evaluate`.
      scored: of `Evaluator.scored_pairs`.
      **extra: put at the top, for example ``split="test"``.
    """
    first = next(iter(results.values()))
    tasks: dict[str, dict[str, Any]] = {}
    for name, result in results.items():
        tasks[name] = {"pairs": result.pairs}
        if scored:
            tasks[name]["available"] = scored[name].available
            tasks[name]["test_set_hash"] = scored[name].digest
        tasks[name] |= {"scores": dict(result.scores), "seconds": round(result.seconds, 3)}
    return {
        **extra,
        "macro_average": {metric: macro_average(results, metric) for metric in first.scores},
        "signatures": dict(first.signatures),
        "tasks": tasks,
    }


def write_report(
    path: str | os.PathLike[str],
    results: Mapping[str, "TaskResult"],
    scored: Mapping[str, ScoredPairs] | None = None,
    **extra: Any,
) -> Path:
    """Writes `report` as JSON, and the translations next to it; each file is complete or absent.

    ``evaluation-test.json`` gets a directory ``evaluation-test`` with a file for each task; see
    `keras_mtl.evaluation.translations`.

    Returns:
      The path.

    Raises:
      DataError: the disk is full, or the directory cannot be written.
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
    """Finds out before the work whether a report can be written; makes its directory.

    Raises:
      DataError: it cannot.
    """
    path = Path(path)
    probe = path.with_name(f"{path.name}.probe")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except FileExistsError as error:  # What Python says of a file in a directory's place.
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
        f"{path}: the report cannot be written ({reason}); free space or permit writing there, or "
        "give --output"
    )


def read_report(path: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Reads a report; None if there is none, or if the file is damaged."""
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        return found if isinstance(found["tasks"], dict) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@dataclasses.dataclass(frozen=True)
class Obstacle:
    """Why a report must not be replaced.

    Attributes:
      reason: what would be lost.
      other_sentences: whether the old report is of other sentences; else it only says more.
    """

    reason: str
    other_sentences: bool


def obstacle(
    old: Mapping[str, Any], scored: Mapping[str, ScoredPairs], metrics: Sequence[str], what: str
) -> Obstacle | None:
    """Compares what is about to be scored with a report that has the same name.

    Args:
      old: of `read_report`; without the hashes, which older versions did not write, equal numbers
        of sentences are taken to be the same sentences.
      scored: what is about to be scored, by task.
      metrics: what is about to be computed.
      what: the split, or the file with corpora.

    Returns:
      What stands against replacing the old report; None if the new one covers it.
    """
    lost = []
    known_hashes = False
    for task, entry in old["tasks"].items():
        entry = entry if isinstance(entry, Mapping) else {}
        new = scored.get(task)
        if new is None:
            lost.append(f"task {task}")
            continue
        pairs, available = entry.get("pairs", 0), entry.get("available")
        digest = entry.get("test_set_hash")
        known_hashes |= digest is not None
        if (available is not None and available != new.available) or (
            pairs == new.pairs and digest not in (None, new.digest)
        ):
            return Obstacle(f"its sentences of {task} are others", True)
        if pairs > new.pairs:
            lost.append(f"{pairs:,} pairs of {task} instead of {new.pairs:,}")
    if not known_hashes and old.get("split") not in (None, what):
        return Obstacle(f"its sentences are of {old['split']}", True)
    lost += [f"metric {name}" for name in old.get("signatures", {}) if name not in metrics]
    if not lost:
        return None
    shown = ", ".join(lost[:4]) + (f" and {len(lost) - 4} more" if len(lost) > 4 else "")
    return Obstacle(f"it has {shown}", False)


def selection_name(
    stem: str, tasks: Sequence[str] | None, max_pairs: int | None, metrics: Sequence[str]
) -> str:
    """Returns the file name of a partial evaluation: ``evaluation-test-en-fr-100_pairs.json``.

    Args:
      stem: name without suffix of the whole one.
      tasks: tasks that were chosen; None for all.
      max_pairs: most pairs of a task; None for all.
      metrics: names of the metrics.
    """
    parts = [stem]
    if tasks:
        joined = "+".join(tasks)
        if len(joined) > 60:  # A file name has its limits.
            joined = (
                f"{len(tasks)}_tasks_{hashlib.blake2b(joined.encode(), digest_size=4).hexdigest()}"
            )
        parts.append(joined)
    if max_pairs is not None:
        parts.append(f"{max_pairs}_pairs")
    if set(TEXT_METRICS) - set(metrics):
        parts.append("+".join(metrics))
    return "-".join(parts) + ".json"
