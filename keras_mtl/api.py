"""The whole chain as functions: load a configuration, prepare, train, export.

Each function does what the subcommand of the same name does, without its printing. Importing this
module loads no TensorFlow; `prepare`, `train` and `export_model` load it when they are called.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_mtl import errors

if TYPE_CHECKING:
    from keras_mtl.configuration.schema import ExperimentConfig
    from keras_mtl.data.prepared import PreparedData
    from keras_mtl.training.run.loop import RunResult

    PathLike = str | os.PathLike[str]

EXPORT_FORMATS = ("saved_model", "saved_model_native", "engine", "adapters", "ctranslate2")


def load_config(
    *config_files: "PathLike",
    overrides: str | Sequence[str] = (),
    experiment: str | None = None,
    imports: Sequence[str] = (),
) -> "ExperimentConfig":
    """Reads and checks a configuration.

    Args:
        *config_files: YAML files; later ones override earlier ones.
        overrides: fields that override the files, such as `"trainer.train_steps=100"`; YAML text;
            or a sequence of these.
        experiment: name of the preset to start from; None means `translation/transformer`.
        imports: plug-ins to import first; the configuration records them.

    Returns:
        The configuration.

    Raises:
        ConfigError: a field is unknown, or a value is wrong; the message names the file, the
            line and the field.

    Example:
        ```python
        import keras_mtl

        config = keras_mtl.load_config("configs/demo.yaml", overrides="trainer.train_steps=100")
        print(config.trainer.schedule.name)
        ```
    """
    import keras_mtl.data.corpora  # noqa: F401  Registers the readers.
    from keras_mtl.configuration.files import load_experiment

    return load_experiment(experiment, config_files, overrides, imports=imports)


def prepare(
    config: "ExperimentConfig",
    model_dir: "PathLike | None" = None,
    *,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
) -> "PreparedData":
    """Reads, cleans, splits and encodes the corpora, unless they are prepared already.

    Args:
        config: a configuration from `load_config`.
        model_dir: directory of the run; needed only if `task.data.data_dir` is empty.
        overwrite: whether to replace data that was prepared from other inputs or settings.
        log: function that is called with each line for the user.

    Returns:
        The prepared data, with the tasks, their sizes and the vocabulary.

    Raises:
        ConfigError: the settings do not fit the corpora.
        DataError: a corpus cannot be read, or the directory contains data of other settings.

    Example:
        ```python
        import keras_mtl

        config = keras_mtl.load_config("configs/demo.yaml")
        prepared = keras_mtl.prepare(config, "runs/demo")
        for task in prepared.tasks:
            print(task.name, task.train_size)
        ```
    """
    from keras_mtl.training.run.setup import prepare_task_data

    return prepare_task_data(config.task, model_dir, overwrite=overwrite, log=log)


def train(
    config: "ExperimentConfig",
    model_dir: "PathLike",
    *,
    mode: str = "train_and_eval",
    log: Callable[[str], None] = print,
) -> "RunResult":
    """Trains to `trainer.train_steps`, or resumes the run in a directory.

    The data is prepared first if necessary. A second call with the same arguments resumes a stopped
    run.

    Args:
        config: a configuration from `load_config`.
        model_dir: directory of the run.
        mode: `train_and_eval`; `train`, which does not validate; or `eval`, which validates the
            newest checkpoint and does not change the directory.
        log: function that is called with each line for the user.

    Returns:
        The last step, the validation scores and the number of batches of each task.

    Raises:
        ConfigError: the configuration is invalid for training.
        DataError: the corpora or the prepared data cannot be used.
        CheckpointError: the directory belongs to another configuration, or a checkpoint cannot be
            read or written.

    Example:
        ```python
        import keras_mtl

        result = keras_mtl.train(keras_mtl.load_config("configs/demo.yaml"), "runs/demo")
        print(result.step, result.scores["en-fr"])
        ```
    """
    from keras_mtl.configuration.draft import Draft
    from keras_mtl.training.run.planning import plan_training

    plan = plan_training(Draft(config), mode)
    from keras_mtl.training.run.loop import run_experiment  # Imports TensorFlow.

    return run_experiment(plan, model_dir, log)


def average_checkpoints(
    model_dir: "PathLike",
    output: "PathLike",
    *,
    last: int | None = None,
    best: int | None = None,
    score: str = "macro",
) -> list[str]:
    """Writes a model directory whose weights are the mean of several checkpoints of a run.

    Give one of `last` and `best`.

    Args:
        model_dir: directory of the run.
        output: directory to create. Like a run, it can be loaded, evaluated and exported.
        last: number of newest checkpoints, >= 1.
        best: number of best checkpoints, >= 1, among those that `trainer.best` has kept.
        score: what the best ones are best by: `macro`, `worst` or the name of a task.

    Returns:
        The prefixes of the checkpoints that were averaged.

    Raises:
        InputError: neither or both of `last` and `best` are given, or a number is below 1.
        CheckpointError: the run has too few checkpoints, one is damaged, or the output exists.

    Example:
        ```python
        import keras_mtl

        keras_mtl.average_checkpoints("runs/demo", "runs/average", last=2)
        keras_mtl.load_translator("runs/average").translate(["two trees"], "en-fr")
        ```
    """
    if (last is None) == (best is None):
        raise errors.InputError(f"last is {last} and best is {best}: give one of them")
    if (last or best or 0) < 1:
        raise errors.InputError(f"cannot average {last or best or 0} checkpoints; give at least 1")
    from keras_mtl.training.run.averaging import average_checkpoints  # Imports TensorFlow.

    return average_checkpoints(model_dir, output, last=last, best=best, score=score)


def export_model(
    model_dir: "PathLike",
    output: "PathLike",
    *,
    format: str = "saved_model",
    weight_type: str = "float32",
    options: Mapping[str, object] | None = None,
    checkpoint: "PathLike | None" = None,
    overwrite: bool = False,
    base: "PathLike | None" = None,
) -> Path:
    """Exports a trained model.

    Args:
        model_dir: directory of the run.
        output: directory, or file for `engine`, to create. After an error it is absent.
        format: `saved_model` (text in, text out, for TensorFlow with tensorflow-text),
            `saved_model_native` (the same with the C++ engine inside), `engine` (one file for the
            C++ engine), `adapters` (a file that `keras-mtl add-adapters` adds to `base`) or
            `ctranslate2`.
        weight_type: `float32`; with `engine` and `saved_model_native` also `int8`; with
            `ctranslate2` also `int8`, `int8_float32`, `float16` and `int16`.
        options: for a SavedModel, options of beam search that override those of the run.
        checkpoint: checkpoint to export; None means the best one, else the newest.
        overwrite: whether to replace an exported model at `output`.
        base: for `adapters`, the engine file that lacks them, whose type of weights they get.

    Returns:
        The path of the exported model.

    Raises:
        CheckpointError: the run has no checkpoint that can be read.
        ExportError: the format or weight type is unknown or does not support the model, or `output`
            exists.
        InputError: an option is out of range, or the format does not accept options.

    Example:
        ```python
        import keras_mtl

        keras_mtl.export_model("runs/demo", "demo-int8.kmtl", format="engine", weight_type="int8")
        keras_mtl.load_translator("demo-int8.kmtl").translate(["two trees"], "en-fr")
        ```
    """
    if format not in EXPORT_FORMATS:
        raise errors.ExportError(
            f"format={format!r} is unknown{errors.nearest(format, EXPORT_FORMATS)}"
        )
    arguments: dict[str, Any] = {"checkpoint": checkpoint, "overwrite": overwrite}
    if not format.startswith("saved_model"):
        if options:
            raise errors.InputError(
                f"options: format {format!r} does not accept options. Omit them, and give them to "
                "the translator"
            )
        from keras_mtl.export.model_dir import export_weights

        arguments |= {"weight_type": weight_type, "base": base}
        return export_weights(format, model_dir, output, **arguments)
    arguments["options"] = dict(options or {})
    if format == "saved_model_native":
        from keras_mtl.export.native_saved_model import export_native_model_dir

        return export_native_model_dir(model_dir, output, weight_type=weight_type, **arguments)
    if weight_type != "float32":
        raise errors.ExportError(
            f"weight_type={weight_type!r}: a saved_model is float32. Use the format "
            "saved_model_native, engine or ctranslate2"
        )
    from keras_mtl.export.saved_model import export_model_dir

    return export_model_dir(model_dir, output, **arguments)
