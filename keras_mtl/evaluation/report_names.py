"""Chooses the path of a report so that it does not replace a larger or a different report."""

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mtl.errors import ConfigError
from keras_mtl.evaluation.reports import read_report
from keras_mtl.evaluation.results import ScoredPairs
from keras_mtl.evaluation.settings import EvaluationSettings
from keras_mtl.metrics import TEXT_METRICS
from keras_mtl.run_files import evaluation_file

_SHOWN = 4  # Maximum number of reasons in a message.


def report_path(model_dir: str | os.PathLike[str], settings: EvaluationSettings) -> Path:
    """Returns the path of a complete report."""
    part = Path(settings.corpora).stem if settings.corpora else settings.split
    return Path(model_dir) / evaluation_file(part)


def free_path(
    path: Path,
    settings: EvaluationSettings,
    scored: Mapping[str, ScoredPairs],
    fixed: bool,
    log: Callable[[str], None],
) -> Path:
    """Returns a path for a report so that no other report is lost.

    A report with more pairs, tasks or metrics is kept. The path of a partial report then names its
    selection.

    Args:
        path: path of the complete report.
        settings: the settings of the evaluation.
        scored: the pairs to be scored, by task.
        fixed: whether the report must have this path.
        log: function that receives a line if the path changes.

    Raises:
        ConfigError: another report that would be lost has this path.
    """
    found = _obstacle_at(path, settings, scored)
    if found and not found.other_sentences and not fixed:
        name = selection_name(path.stem, settings.tasks, settings.max_pairs, settings.metrics)
        partial = path.with_name(name)
        log(f"{path} is kept, because {found.reason}; this report is written to {partial}")
        path, found = partial, _obstacle_at(partial, settings, scored)
    if found:
        raise ConfigError(
            f"{path} is another report: {found.reason}. Give another name with --output, or delete "
            "the report"
        )
    return path


@dataclasses.dataclass(frozen=True)
class Obstacle:
    """Why a report must not be replaced.

    Attributes:
        reason: what would be lost.
        other_sentences: whether the old report is about other sentences. If not, it contains more.
    """

    reason: str
    other_sentences: bool


def _obstacle_at(
    path: Path, settings: EvaluationSettings, scored: Mapping[str, ScoredPairs]
) -> Obstacle | None:
    old = read_report(path)
    return obstacle(old, scored, settings.metrics, settings.what) if old else None


def obstacle(
    old: Mapping[str, Any], scored: Mapping[str, ScoredPairs], metrics: Sequence[str], what: str
) -> Obstacle | None:
    """Compares an evaluation with an existing report at the same path.

    Args:
        old: the report, from `read_report`. Older versions did not write hashes; for these, equal
            numbers of sentences count as the same sentences.
        scored: the pairs to be scored, by task.
        metrics: the metrics to be computed.
        what: the split, or the file of the list of corpora.

    Returns:
        Why the old report must be kept. None if the new report covers it.
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
            return Obstacle(f"its sentences of {task} are different", True)
        if pairs > new.pairs:
            lost.append(f"{pairs:,} pairs of {task} instead of {new.pairs:,}")
    if not known_hashes and old.get("split") not in (None, what):
        return Obstacle(f"its sentences are from {old['split']}", True)
    lost += [f"metric {name}" for name in old.get("signatures", {}) if name not in metrics]
    return Obstacle(f"it has {shortened(lost)}", False) if lost else None


def shortened(reasons: Sequence[str]) -> str:
    """Joins reasons: `a, b, c, d and 2 more`."""
    shown = ", ".join(reasons[:_SHOWN])
    hidden = len(reasons) - _SHOWN
    return f"{shown} and {hidden} more" if hidden > 0 else shown


def selection_name(
    stem: str, tasks: Sequence[str] | None, max_pairs: int | None, metrics: Sequence[str]
) -> str:
    """Returns the file name of a partial evaluation: `evaluation-test-en-fr-100_pairs.json`.

    Args:
        stem: name of the complete report without its suffix.
        tasks: the selected tasks. None for all.
        max_pairs: maximum number of pairs for each task. None for all.
        metrics: names of the metrics.
    """
    parts = [stem]
    if tasks:
        joined = "+".join(tasks)
        if len(joined) > 60:  # File systems limit the length of a name.
            digest = hashlib.blake2b(joined.encode(), digest_size=4).hexdigest()
            joined = f"{len(tasks)}_tasks_{digest}"
        parts.append(joined)
    if max_pairs is not None:
        parts.append(f"{max_pairs}_pairs")
    if set(TEXT_METRICS) - set(metrics):
        parts.append("+".join(metrics))
    return "-".join(parts) + ".json"
