"""A trained model and the pairs to score, for ``evaluate`` and ``demo``."""

import datetime
import sys
from typing import TYPE_CHECKING, Any

from keras_mtl import metrics
from keras_mtl.errors import CheckpointError

if TYPE_CHECKING:
    from keras_mtl.data.given_pairs import GivenPairs
    from keras_mtl.data.prepared import PreparedData
    from keras_mtl.data.vocabulary import Vocabulary
    from keras_mtl.evaluation.evaluator import Evaluator


def make_evaluator(
    model_dir: str,
    *,
    split: str = "test",
    corpora: str | None = None,
    unseen: bool = False,
    pairs: Any = None,
    on_long_line: str = "error",
    tasks: list[str] | None = None,
    metric_names: list[str] | None = None,
    max_pairs: int | None = None,
    beam_size: int | None = None,
    checkpoint: str | None = None,
    backend: str = "auto",
    compute_type: str | None = None,
    workers: int | None = None,
) -> tuple[Any, dict[str, Any]]:
    """Loads a trained model and the pairs to score.

    Args:
      model_dir: directory of the run.
      split: what is scored of the model's prepared data.
      corpora: file with a list of corpora to score instead; see ``load_corpora``.
      unseen: leaves out pairs of ``corpora`` whose source is in the training data.
      pairs: what another evaluator has read already (its ``prepared``); None reads.
      on_long_line: see ``TextTranslator``.
      tasks: names of the tasks to score; None takes all.
      metric_names: what is computed; None takes BLEU and chrF.
      max_pairs: most pairs of a task; None takes all.
      beam_size: None takes that of the run.
      checkpoint: checkpoint to read.
      backend: see `keras_mtl.decoding.translators.load_translator`, as for the next two.
      compute_type: of the engine.
      workers: threads of the engine.

    Returns:
      The `Evaluator`, and what a report says about it.

    Raises:
      CheckpointError: the model cannot be read, or its data was prepared again since.
      InputError: a source is too long, and ``on_long_line`` is ``error``.
    """
    from keras_mtl.configuration.sublayers import saved_only_tensorflow
    from keras_mtl.decoding.loading import load_model
    from keras_mtl.decoding.translators import check_compute_type, choose_backend, make_translator
    from keras_mtl.evaluation.evaluator import Evaluator, Likelihood, PairIds

    chosen = choose_backend(backend, only_tensorflow=saved_only_tensorflow(model_dir))
    check_compute_type(chosen, compute_type)
    loaded = load_model(model_dir, checkpoint)
    vocabulary = loaded.vocabulary
    if pairs is None:
        pairs = (
            _given_pairs(model_dir, loaded, corpora, unseen, tasks)
            if corpora
            else _prepared(model_dir, vocabulary)
        )
    translator = make_translator(
        loaded.model,
        vocabulary,
        loaded.tasks.tasks,
        loaded.options.replace(num_hypotheses=1, beam_size=beam_size or loaded.options.beam_size),
        backend=chosen,
        compute_type=compute_type or "float32",
        workers=workers,
        batch_size=loaded.batch_size,
        on_long_line=on_long_line,
    )
    names = list(metric_names or metrics.TEXT_METRICS)
    evaluator = Evaluator(
        pairs,
        translator,
        names,
        max_pairs,
        split,
        # Corpora may belong to some tasks only; then these are all there is to score.
        None if corpora else tasks,
        Likelihood(loaded.model, PairIds.of_tasks(vocabulary, translator.tasks)),
    )
    if on_long_line == "error" and any(map(metrics.compares_text, names)):
        evaluator.check_lengths(translator)
    about = {
        "model_dir": model_dir,
        "split": corpora or split,
        "corpora": corpora,
        "unseen": unseen,
        "beam_size": translator.options.beam_size,
        "backend": chosen,
        "compute_type": compute_type or "float32",
        "on_long_line": on_long_line,
        **_record(model_dir, loaded, checkpoint),
        "partial": _partial(evaluator, names, split, given=corpora is not None),
    }
    return evaluator, about


def _record(model_dir: str, loaded: Any, checkpoint: str | None) -> dict[str, Any]:
    """Which weights are scored, when, by which version and on which machine."""
    import tensorflow as tf

    import keras_mtl
    from keras_mtl import hardware
    from keras_mtl.evaluation.reports import checkpoint_record, weights_hash

    accelerators = [
        device.device_type
        for kind in ("GPU", "TPU")
        for device in tf.config.list_logical_devices(kind)
    ]
    return {
        **checkpoint_record(model_dir, loaded.checkpoint, given=checkpoint is not None),
        "weights_hash": weights_hash(weight.numpy() for weight in loaded.model.weights),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "keras_mtl": keras_mtl.__version__,
        "hardware": hardware.describe(accelerators),
    }


def _partial(evaluator: "Evaluator", names: list[str], split: str, given: bool) -> list[str]:
    from keras_mtl.evaluation.reports import partial_fields

    left_out = []
    if not given:
        left_out = [
            task.name
            for task in evaluator.prepared.tasks
            if task.name not in evaluator.tasks and getattr(task, f"{split}_size")
        ]
    return partial_fields(evaluator.scored_pairs, names, left_out)


def _prepared(model_dir: str, vocabulary: "Vocabulary") -> "PreparedData":
    """Loads a run's data, which must be what the model was trained with."""
    from keras_mtl.configuration import files as registry
    from keras_mtl.data.prepare import load_prepared
    from keras_mtl.training.run.setup import data_dir_of

    config = registry.load_params(model_dir)
    names = [pair.name for pair in config.task.pairs]
    prepared = load_prepared(data_dir_of(config, model_dir), names)
    if prepared.vocabulary.hash != vocabulary.hash:
        raise CheckpointError(
            f"{prepared.data_dir} was prepared with another vocabulary "
            f"({prepared.vocabulary.hash}) than {model_dir} was trained with "
            f"({vocabulary.hash}); set task.data.data_dir in {model_dir}/params.yaml to the data "
            "of the run"
        )
    for warning in prepared.warnings:  # Such as sides that are exchanged: so are the scores.
        print(f"warning: {warning}", file=sys.stderr)
    return prepared


def _given_pairs(
    model_dir: str, loaded: Any, corpora: str, unseen: bool, tasks: list[str] | None
) -> "GivenPairs":
    """Reads the pairs of ``corpora`` for some tasks of a model, or all."""
    from keras_mtl.data.given_pairs import load_corpora, read_given_pairs
    from keras_mtl.decoding.tasks import find_task

    specs = load_corpora(corpora)
    every = loaded.tasks.tasks
    chosen = every if tasks is None else [find_task(every, name) for name in dict.fromkeys(tasks)]
    seen_by = _prepared(model_dir, loaded.vocabulary) if unseen else None
    return read_given_pairs(chosen, specs, loaded.vocabulary, _to_stderr, seen_by)


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
