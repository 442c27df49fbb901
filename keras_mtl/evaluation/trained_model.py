"""The evaluator of a trained model, and its entries in a report."""

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl import metrics as metrics_lib
from keras_mtl.configuration import files
from keras_mtl.configuration.other_tasks import TRANSLATION
from keras_mtl.configuration.sublayers import saved_only_tensorflow
from keras_mtl.data import prepare
from keras_mtl.data.evaluation_sets import load_corpora, read_evaluation_set
from keras_mtl.data.prepared import PreparedData
from keras_mtl.data.remote_store import fetch_prepared
from keras_mtl.decoding.tasks import TranslationTask, find_task, scored_task, translated
from keras_mtl.decoding.translators import check_compute_type, choose_backend, make_translator
from keras_mtl.errors import CheckpointError
from keras_mtl.evaluation.evaluator import Evaluator
from keras_mtl.evaluation.likelihood import ModelLikelihood, PairIds
from keras_mtl.evaluation.noisy_pairs import with_noise
from keras_mtl.evaluation.pairs import PairSet
from keras_mtl.evaluation.records import (
    checkpoint_record,
    machine_record,
    partial_fields,
    weights_hash,
)
from keras_mtl.evaluation.settings import EvaluationSettings
from keras_mtl.messages import to_stderr
from keras_mtl.remote_files import is_remote
from keras_mtl.run_files import PARAMS_FILE, data_directory

if TYPE_CHECKING:
    from keras_mtl.data.vocabulary import Vocabulary
    from keras_mtl.decoding.loading import LoadedModel


def open_evaluator(
    model_dir: str | os.PathLike[str],
    settings: EvaluationSettings | None = None,
    pairs: PairSet | None = None,
    log: Callable[[str], None] = to_stderr,
) -> tuple[Evaluator, dict[str, Any]]:
    """Loads a trained model and the pairs to score.

    Args:
        model_dir: directory of the run.
        settings: what to evaluate and how. None uses the defaults.
        pairs: the pairs that another evaluator has already read, its `prepared`. None reads them.
        log: function that receives lines for the user.

    Returns:
        The evaluator, and the entries that describe it in a report.

    Raises:
        CheckpointError: the model cannot be read, or its data was prepared again after the
            training.
        InputError: a source is too long, and `on_long_line` is `error`.
    """
    from keras_mtl.decoding.loading import load_model

    settings = settings or EvaluationSettings()
    backend = choose_backend(settings.backend, only_tensorflow=saved_only_tensorflow(model_dir))
    check_compute_type(backend, settings.compute_type)
    loaded = load_model(model_dir, settings.checkpoint)
    if pairs is None:
        pairs = _read_pairs(model_dir, loaded, settings, log)
    compute_type = settings.compute_type or "float32"
    beam_size = settings.beam_size or loaded.options.beam_size
    translator = make_translator(
        loaded.model,
        loaded.vocabulary,
        loaded.tasks.tasks,
        loaded.options.replace(num_hypotheses=1, beam_size=beam_size),
        backend=backend,
        compute_type=compute_type,
        workers=settings.workers,
        batch_size=loaded.batch_size,
        on_long_line=settings.on_long_line,
    )
    known = [scored_task(translator.tasks, task.name) for task in pairs.tasks]
    # Corpora may belong to only some of the tasks. Then all tasks of the corpora are scored.
    names = None if settings.corpora else settings.tasks
    others = [task.name for task in known if task.kind != TRANSLATION]
    if others and settings.text_metrics == list(settings.metrics):
        # No metric suits them.
        names = [task.name for task in known] if names is None else names
        names = [name for name in names if name not in others] or names
    evaluator = Evaluator(
        pairs,
        translator,
        settings.metrics,
        settings.max_pairs,
        settings.split,
        names,
        ModelLikelihood(loaded.model, PairIds.of_tasks(loaded.vocabulary, known)),
        not_translated=others,
    )
    if settings.on_long_line == "error" and any(map(metrics_lib.compares_text, settings.metrics)):
        evaluator.check_lengths(translator)
    record = {
        "model_dir": os.fspath(model_dir),
        "split": settings.what,
        "corpora": settings.corpora,
        "unseen": settings.unseen,
        "beam_size": translator.options.beam_size,
        "backend": backend,
        "compute_type": compute_type,
        "on_long_line": settings.on_long_line,
        **_weights_record(model_dir, loaded, settings.checkpoint),
        "partial": _partial(evaluator, settings),
    }
    return evaluator, record


def _weights_record(
    model_dir: str | os.PathLike[str], loaded: "LoadedModel", checkpoint: str | None
) -> dict[str, Any]:
    """Returns the entries about the scored weights, the date, the version and the machine."""
    import tensorflow as tf

    accelerators = [
        device.device_type
        for kind in ("GPU", "TPU")
        for device in tf.config.list_logical_devices(kind)
    ]
    return {
        **checkpoint_record(model_dir, loaded.checkpoint, given=checkpoint is not None),
        "weights_hash": weights_hash(weight.numpy() for weight in loaded.model.weights),
        **machine_record(accelerators),
    }


def _partial(evaluator: Evaluator, settings: EvaluationSettings) -> list[str]:
    left_out = []
    if not settings.corpora:
        left_out = [
            task.name
            for task in evaluator.prepared.tasks
            if task.name not in evaluator.tasks and getattr(task, f"{settings.split}_size")
        ]
    return partial_fields(evaluator.scored_pairs, settings.metrics, left_out)


def _read_pairs(
    model_dir: str | os.PathLike[str],
    loaded: "LoadedModel",
    settings: EvaluationSettings,
    log: Callable[[str], None],
) -> PairSet:
    """Reads the pairs of the corpora if there are any, otherwise those of the run."""
    if not settings.corpora:
        prepared = load_run_data(model_dir, loaded.vocabulary, log)
        return with_noise(prepared, files.load_params(model_dir).task.pairs)
    corpora = load_corpora(settings.corpora)
    tasks: Sequence[TranslationTask] = loaded.tasks.tasks
    names = settings.tasks
    if names is None:
        named = [name for corpus in corpora for name in corpus.tasks or ()]  # Also zero-shot tasks.
        names = [*(task.name for task in translated(tasks)), *named]
    tasks = [find_task(tasks, name) for name in dict.fromkeys(names)]
    seen_by = load_run_data(model_dir, loaded.vocabulary, log) if settings.unseen else None
    return read_evaluation_set(tasks, corpora, loaded.vocabulary, log, seen_by)


def load_run_data(
    model_dir: str | os.PathLike[str], vocabulary: "Vocabulary", log: Callable[[str], None]
) -> PreparedData:
    """Loads the data of a run and checks that the model was trained with it.

    Args:
        model_dir: directory of the run.
        vocabulary: the vocabulary of the model.
        log: function that receives the warnings from the preparation of the data, such as exchanged
            sides. They explain the scores.

    Raises:
        CheckpointError: the data has another vocabulary.
        DataError: the data is missing or damaged.
    """
    config = files.load_params(model_dir)
    names = [pair.name for pair in config.task.pairs]
    directory = data_directory(config.task.data.data_dir, model_dir)
    if is_remote(directory):
        directory = os.fspath(fetch_prepared(directory, log))
    prepared = prepare.load_prepared(directory, names)
    if prepared.vocabulary.hash != vocabulary.hash:
        raise CheckpointError(
            f"{prepared.data_dir} was prepared with the vocabulary {prepared.vocabulary.hash}, but "
            f"{model_dir} was trained with {vocabulary.hash}. Set task.data.data_dir in "
            f"{model_dir}/{PARAMS_FILE} to the data of the run"
        )
    for warning in prepared.warnings:
        log(f"warning: {warning}")
    return prepared
