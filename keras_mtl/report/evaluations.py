"""Reads reports of `keras-mtl evaluate`, as far as they are readable."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mtl.errors import DataError
from keras_mtl.evaluation.records import partial_fields
from keras_mtl.evaluation.results import ScoredPairs
from keras_mtl.evaluation.translations import SUFFIX, Translation, pairs_digest, read_translations
from keras_mtl.events import is_finite
from keras_mtl.run_files import evaluation_file


@dataclasses.dataclass(frozen=True)
class RecordedEvaluation:
    """Scores of a run, and how they were computed.

    Attributes:
        scores: {metric: {task: score}}.
        signatures: {metric: signature of its scores}.
        pairs: number of scored sentence pairs by task.
        available: number of pairs of the whole test set by task, if known.
        hashes: hashes of the pairs by task, if known.
        partial: what a complete evaluation has in addition.
        translations: translations by task; empty if they were not kept.
        record: all other entries of the file, such as `step`; older versions have fewer.
    """

    scores: Mapping[str, Mapping[str, float]]
    signatures: Mapping[str, str]
    pairs: Mapping[str, int]
    available: Mapping[str, int]
    hashes: Mapping[str, str]
    partial: Sequence[str]
    translations: Mapping[str, Sequence[Translation]]
    record: Mapping[str, Any]

    def number(self, field: str) -> int | None:
        """Returns a whole number of the record; None if it was not recorded."""
        value = self.record.get(field)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def text(self, field: str) -> str:
        """Returns a string of the record; empty if it was not recorded."""
        value = self.record.get(field)
        return value if isinstance(value, str) else ""

    @property
    def steps(self) -> int | None:
        """Training steps that were spent on the scored weights.

        The best checkpoint of a run of 600 steps may be that of step 500; this is still 600.
        If the user chose a checkpoint, its own step counts.
        """
        if self.text("checkpoint_choice") == "given":
            return self.number("step")
        return self.number("trained_steps")

    @property
    def hardware(self) -> str:
        """`AMD EPYC, 8 processors`; empty if it was not recorded."""
        found = self.record.get("hardware")
        if not isinstance(found, Mapping):
            return ""
        parts = [str(found.get("processor", "")), f"{found.get('processors')} processors"]
        accelerators = found.get("accelerators")
        return ", ".join(
            [*parts, *map(str, accelerators if isinstance(accelerators, list) else [])]
        )


# The type of each entry that a report uses.
_KINDS: dict[str, type] = {
    "step": int,
    "trained_steps": int,
    "beam_size": int,
    "compute_type": str,
    "checkpoint": str,
    "checkpoint_choice": str,
    "weights_hash": str,
    "date": str,
    "keras_mtl": str,
    "hardware": dict,
}
NONE = RecordedEvaluation({}, {}, {}, {}, {}, (), {}, {})


def read_evaluation(
    directory: Path, split: str, test_sizes: Mapping[str, int], notes: list[str]
) -> RecordedEvaluation:
    """Reads the scores of a run; adds a note for everything that cannot be read.

    Args:
        directory: directory of the run.
        split: `test` or `dev`.
        test_sizes: number of pairs of the split by task, if the prepared data is available. They
            show whether an evaluation of a version that did not record `partial` is complete.
        notes: list to which a sentence is appended for everything that is missing or damaged.

    Returns:
        The evaluation; `NONE` if there is none.
    """
    path = directory / evaluation_file(split)
    if not path.exists():
        notes.append(
            f"no {split} outputs; run `keras-mtl evaluate --model_dir {directory}"
            + (f" --split {split}`" if split != "test" else "`")
        )
        return NONE
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        scores: dict[str, dict[str, float]] = {}
        wrong: list[str] = []
        for task, result in report["tasks"].items():
            for metric, value in result["scores"].items():
                if is_finite(value):
                    scores.setdefault(str(metric), {})[str(task)] = float(value)
                else:
                    wrong.append(f"{metric} of {task}")
        pairs = {str(task): int(result["pairs"]) for task, result in report["tasks"].items()}
        signatures = {str(k): str(v) for k, v in report["signatures"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        notes.append(f"{path.name} cannot be read ({type(error).__name__}); evaluate again")
        return NONE
    translations = _read_translations(path.with_suffix(""), notes)
    entries = report["tasks"]
    available = {task: entries[task].get("available", test_sizes.get(task)) for task in pairs}
    hashes = {task: entries[task].get("test_set_hash") for task in pairs}
    for task, rows in translations.items():
        if task in pairs and not hashes[task]:
            hashes[task] = pairs_digest((row.source, row.reference) for row in rows)
    known = {task: size for task, size in available.items() if isinstance(size, int)}
    recorded = report.get("partial")
    record = {key: value for key, value in report.items() if key not in ("tasks", "signatures")}
    for field, kind in _KINDS.items():
        value = record.get(field)
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            wrong.append(field)
            del record[field]
    if wrong:
        notes.append(f"{path.name}: values that cannot be used are skipped: {', '.join(wrong)}")
    return RecordedEvaluation(
        scores=scores,
        signatures=signatures,
        pairs=pairs,
        available=known,
        hashes={task: str(value) for task, value in hashes.items() if value},
        partial=[str(text) for text in recorded]
        if isinstance(recorded, list)
        else _partial(scores, pairs, known, test_sizes),
        translations=translations,
        record=record,
    )


def _partial(
    scores: Mapping[str, Any],
    pairs: Mapping[str, int],
    available: Mapping[str, int],
    test_sizes: Mapping[str, int],
) -> list[str]:
    """Returns what an evaluation that does not record `partial` lacks, according to its sizes."""
    scored = {
        task: ScoredPairs(count, available.get(task, count), "") for task, count in pairs.items()
    }
    left_out = [task for task, size in test_sizes.items() if size and task not in pairs]
    return partial_fields(scored, list(scores), left_out)


def _read_translations(directory: Path, notes: list[str]) -> dict[str, list[Translation]]:
    found = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        try:
            found[path.name.removesuffix(SUFFIX)] = read_translations(path)
        except DataError as error:
            notes.append(str(error))
    if not found:
        notes.append(
            f"no translations in {directory.name}/, so differences cannot be tested; evaluate again"
        )
    return found
