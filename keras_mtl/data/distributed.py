"""Preparation with Apache Beam: runs the pipeline and writes vocabulary and manifest."""

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl import errors
from keras_mtl.configuration.schema import DataConfig, PairConfig
from keras_mtl.data import prepared
from keras_mtl.data.beam_pipeline import Runner, make_plan, run_pipeline
from keras_mtl.data.distributed_steps import Plan
from keras_mtl.data.prepare_counts import (
    FIELDS,
    FieldCounts,
    empty_task,
    place_name,
    rule_counts,
    split_sizes,
)
from keras_mtl.data.prepare_report import summary
from keras_mtl.data.prepare_samples import language_warnings, shown_pairs
from keras_mtl.data.prepare_stores import prepared_task
from keras_mtl.data.prepare_vocabulary import of_models
from keras_mtl.data.selection import Place
from keras_mtl.data.split import SPLITS
from keras_mtl.data.store_runs import disk_errors
from keras_mtl.data.vocabulary_files import write_vocabulary
from keras_mtl.data.vocabulary_training import no_text

# What the steps of the pipeline report, by kind.
_Reports = Mapping[str, list[Any]]


def prepare_into(
    directory: str,
    data_dir: str,
    tasks: Sequence[PairConfig],
    data: DataConfig,
    inputs: Mapping[str, Any],
    given: Sequence[bytes | None],
    size: int,
    runner: Runner,
    log: Callable[[str], None],
) -> None:
    """Writes prepared data into `directory`, which will become `data_dir`.

    Args:
        directory: an empty directory that all workers can write to.
        data_dir: its later name, for messages.
        tasks: the tasks, with names and corpora filled in.
        data: the settings of their data.
        inputs: see `prepare_inputs`.
        given: the models of the vocabulary; see `prepare_vocabulary.given_models`.
        size: bytes of all corpora.
        runner: the Beam runner.
        log: receives lines for the user.

    Raises:
        ConfigError, DataError: as of `prepare`.
    """
    plan = make_plan(tasks, data, inputs["settings"]["keep_train_text"], size)
    reports: dict[str, list[Any]] = collections.defaultdict(list)
    try:
        found = run_pipeline(plan, directory, given, runner)
    except OSError as error:
        raise errors.DataError(
            f"{data_dir}: a worker of --runner {runner.name} cannot read or write: {error}; check "
            "that all workers see the corpora and task.data.data_dir, and their free space"
        ) from error
    for kind, value in found:
        reports[kind].append(value)
    fields = _fields(plan, reports, log)
    counts = [rule_counts(task, found) for task, found in zip(tasks, fields, strict=True)]
    passed = [split_sizes(found) for found in fields]
    for task, count, sizes in zip(tasks, counts, passed, strict=True):
        if not sizes["train"]:
            raise empty_task(task, count, sizes)
    for _, message in reports["model error"]:
        raise errors.ConfigError(message)
    models = [model for model in given if model is not None]
    if len(models) < len(given):
        if not reports["models"]:  # No pair was drawn for it.
            raise no_text()
        models = reports["models"][0]
    vocabulary = of_models(models)
    with disk_errors(data_dir):
        write_vocabulary(directory, vocabulary)
    encoded, stored = dict(reports["encoded"]), _stored(reports)
    for number, count in enumerate(counts):
        for split in SPLITS:
            too_long = int(encoded.get((number, split), (0, 0))[0])
            if too_long:
                count[f"over max_length, {split}"] += too_long
    results = [
        prepared_task(
            task,
            counts[number],
            passed[number],
            {split: int(stored[number, split][1][0]) for split in SPLITS},
            (int(stored[number, "train"][1][1]), int(stored[number, "train"][1][2])),
            data.max_length,
        )
        for number, task in enumerate(tasks)
    ]
    samples = _samples(plan, reports)
    manifest = prepared.new_manifest(
        inputs,
        vocabulary,
        results,
        {
            task.name: {split: stored[number, split][0] for split in SPLITS}
            for number, task in enumerate(tasks)
        },
        {task.name: shown_pairs(found) for task, found in zip(tasks, samples, strict=True)},
        {
            task.name: language_warnings(task, found)
            for task, found in zip(tasks, samples, strict=True)
        },
    )
    with disk_errors(data_dir):
        prepared.write_manifest(directory, manifest)
    in_bytes = {
        task.name: int(encoded.get((number, "train"), (0, 0))[1])
        for number, task in enumerate(tasks)
    }
    for line in summary(manifest, in_bytes):
        log(line)


def _fields(
    plan: Plan, reports: _Reports, log: Callable[[str], None]
) -> list[dict[str, FieldCounts]]:
    """Returns the counts of each task by field, and logs what readers report.

    Raises:
        DataError: a corpus could not be read; the first one in the order of the corpora.
    """
    if reports["error"]:
        raise errors.DataError(min(reports["error"])[1])
    fields = [{field: FieldCounts() for field in FIELDS} for _ in plan.tasks]
    for number, (bad, dropped, lines) in sorted(reports["read"], key=lambda read: int(read[0])):
        unit = plan.units[number]
        found = fields[unit.task][unit.field]
        found.bad += bad
        found.dropped.update(dropped)
        for line in lines:
            log(f"{plan.tasks[unit.task].name}: {line}")
    for (task, field), cleaned in reports["cleaned"]:
        fields[task][field].cleaned.update(cleaned)
    for (task, field), places in reports["places"]:
        fields[task][field].places.update(dict(zip(Place, places.tolist(), strict=True)))
    return fields


def _stored(reports: _Reports) -> dict[tuple[int, str], tuple[int, np.ndarray]]:
    """Returns the number of files, and pairs, source and target tokens of each store."""
    stored: dict[tuple[int, str], tuple[int, np.ndarray]] = {}
    for store, (shards, sizes) in reports["stored"]:
        before = stored[store][1] if store in stored else 0
        stored[store] = shards, before + sizes
    return stored


def _samples(plan: Plan, reports: _Reports) -> list[dict[str, list[tuple[str, str]]]]:
    """Returns the sample of each corpus of each task."""
    found: dict[tuple[int, str, int], list[Any]] = collections.defaultdict(list)
    for corpus, part in reports["sample"]:
        found[corpus].append(part)
    return [
        {
            place_name(field, index, corpus): [
                pair
                for _, pairs in sorted(found[number, field, index], key=lambda part: int(part[0]))
                for pair in pairs
            ]
            for field in FIELDS
            for index, corpus in enumerate(getattr(task, field))
        }
        for number, task in enumerate(plan.tasks)
    ]
