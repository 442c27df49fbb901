"""Where a report goes, so that it never replaces one that has more, or one of other sentences."""

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

_SHOWN = 4  # Reasons that a message lists.


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
    """Returns where a report goes so that no other report is lost.

    A report that has more pairs, tasks or metrics stays; a partial one then gets its own name.

    Args:
        path: path of the complete report.
        settings: what is evaluated.
        scored: what is about to be scored, by task.
        fixed: whether the report must have this path.
        log: receives a line if the report gets another name.

    Raises:
        ConfigError: a report that would be lost has this name.
    """
    found = _obstacle_at(path, settings, scored)
    if found and not found.other_sentences and not fixed:
        name = selection_name(path.stem, settings.tasks, settings.max_pairs, settings.metrics)
        partial = path.with_name(name)
        log(f"{path} stays, because {found.reason}; this report goes to {partial}")
        path, found = partial, _obstacle_at(partial, settings, scored)
    if found:
        raise ConfigError(
            f"{path} is another report, and {found.reason}; give --output with another name, or "
            "delete it"
        )
    return path


@dataclasses.dataclass(frozen=True)
class Obstacle:
    """Why a report must not be replaced.

    Attributes:
        reason: what would be lost.
        other_sentences: whether the old report is of other sentences; otherwise it only has more.
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
    """Compares what is about to be scored with a report that has the same name.

    Args:
        old: of `read_report`. Older versions did not write hashes; without them, equal numbers of
            sentences count as the same sentences.
        scored: what is about to be scored, by task.
        metrics: what is about to be computed.
        what: the split, or the file with corpora.

    Returns:
        Why the old report must stay; None if the new one covers it.
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
    return Obstacle(f"it has {shortened(lost)}", False) if lost else None


def shortened(reasons: Sequence[str]) -> str:
    """Returns `a, b, c, d and 2 more`."""
    shown = ", ".join(reasons[:_SHOWN])
    more = len(reasons) - _SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def selection_name(
    stem: str, tasks: Sequence[str] | None, max_pairs: int | None, metrics: Sequence[str]
) -> str:
    """Returns the file name of a partial evaluation: `evaluation-test-en-fr-100_pairs.json`.

    Args:
        stem: name of the complete report without its suffix.
        tasks: tasks that were chosen; None for all.
        max_pairs: most pairs of a task; None for all.
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
