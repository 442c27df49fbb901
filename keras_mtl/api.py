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

EXPORT_FORMATS = ("saved_model", "saved_model_native", "engine", "ctranslate2")


def load_config(
    *config_files: "PathLike",
    overrides: str | Sequence[str] = (),
    experiment: str | None = None,
    imports: Sequence[str] = (),
) -> "ExperimentConfig":
    """Reads and checks a configuration.

    Args:
        *config_files: YAML files; later ones override earlier ones.
        overrides: single fields that override the files, such as `"trainer.train_steps=100"`; YAML
            text; or several of these.
        experiment: name of the experiment to start from; default `translation/transformer`.
        imports: plug-ins to import first. The configuration remembers them.

    Returns:
        The configuration.

    Raises:
        ConfigError: a field is unknown, or a value is wrong; the message names the file, the
            line and the field.

    Example:

    ```python
    config = keras_mtl.load_config("configs/demo.yaml", overrides="trainer.train_steps=100")
    print(config.trainer.schedule.name)
    ```
    """
    from keras_mtl.configuration.files import load_experiment

    return load_experiment(experiment, config_files, overrides, imports=imports)


def prepare(
    config: "ExperimentConfig",
    model_dir: "PathLike | None" = None,
    *,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
) -> "PreparedData":
    """Reads, cleans, splits and encodes the corpora, unless that is done already.

    Args:
        config: what `load_config` returns.
        model_dir: directory of the run; needed only if `task.data.data_dir` is empty.
        overwrite: whether data that was prepared from other inputs or settings is replaced.
        log: receives lines of text.

    Returns:
        The prepared data, with the tasks, their sizes and the vocabulary.

    Raises:
        ConfigError: the settings do not fit the corpora.
        DataError: a corpus cannot be read, or the directory holds data of other settings.
    """
    from keras_mtl.training.run.setup import prepare_from_config

    return prepare_from_config(config, model_dir, overwrite=overwrite, log=log)


def train(
    config: "ExperimentConfig",
    model_dir: "PathLike",
    *,
    mode: str = "train_and_eval",
    log: Callable[[str], None] = print,
) -> "RunResult":
    """Trains to `trainer.train_steps`, from where the directory stands.

    Prepares the data first if that is not done. A second call with the same arguments resumes a run
    that was stopped.

    Args:
        config: what `load_config` returns.
        model_dir: directory of the run.
        mode: `train_and_eval`; `train` validates nothing; `eval` validates the newest checkpoint
            and does not change the directory.
        log: receives lines of text.

    Returns:
        The last step, the validation scores and the number of batches of each task.

    Raises:
        ConfigError: the configuration cannot be trained.
        DataError: the corpora or the prepared data cannot be used.
        CheckpointError: the directory belongs to another configuration, or a checkpoint cannot be
            read or written.

    Example:

    ```python
    result = keras_mtl.train(keras_mtl.load_config("configs/demo.yaml"), "runs/demo")
    print(result.step, result.scores["en-fr"])
    ```
    """
    from keras_mtl.training.run.loop import run_experiment

    return run_experiment(config, Path(model_dir), mode, log)


def export_model(
    model_dir: "PathLike",
    output: "PathLike",
    *,
    format: str = "saved_model",
    weight_type: str = "float32",
    options: Mapping[str, object] | None = None,
    checkpoint: "PathLike | None" = None,
    overwrite: bool = False,
) -> Path:
    """Writes a trained model for use elsewhere.

    Args:
        model_dir: directory of the run.
        output: directory to make, or with `engine` the file. It is either complete or absent.
        format: `saved_model` (text in, text out, for TensorFlow with tensorflow-text),
            `saved_model_native` (the same with the C++ engine inside), `engine` (one file for the
            C++ engine) or `ctranslate2`.
        weight_type: `float32`; with `engine` and `saved_model_native` also `int8`; with
            `ctranslate2` also `int8`, `int8_float32`, `float16` and `int16`.
        options: with a SavedModel, options of beam search that differ from those of the run.
        checkpoint: checkpoint to read; default the best, else the newest.
        overwrite: whether an exported model of this name is replaced.

    Returns:
        The path of what was written.

    Raises:
        CheckpointError: the model directory cannot be used.
        ExportError: the format or weight type is unknown, does not hold the model, or something is
            in the way.
        InputError: an option is out of its range, or the format takes none.

    Example:

    ```python
    keras_mtl.export_model("runs/demo", "demo.kmtl", format="engine", weight_type="int8")
    keras_mtl.load_translator("demo.kmtl").translate(["two trees"], "en-fr")
    ```
    """
    if format not in EXPORT_FORMATS:
        raise errors.ExportError(f"format={format!r}{errors.nearest(format, EXPORT_FORMATS)}")
    arguments: dict[str, Any] = {"checkpoint": checkpoint, "overwrite": overwrite}
    if not format.startswith("saved_model"):
        if options:
            raise errors.InputError(
                f"options: a model of format {format!r} gets its options when it translates; leave "
                "them out"
            )
        from keras_mtl.export.model_dir import export_weights

        return export_weights(format, model_dir, output, weight_type=weight_type, **arguments)
    arguments["options"] = dict(options or {})
    if format == "saved_model_native":
        from keras_mtl.export.native_saved_model import export_native_model_dir

        return export_native_model_dir(model_dir, output, weight_type=weight_type, **arguments)
    if weight_type != "float32":
        raise errors.ExportError(
            f"weight_type={weight_type!r}: a saved_model is float32; choose the format "
            "saved_model_native, engine or ctranslate2"
        )
    from keras_mtl.export.saved_model import export_model_dir

    return export_model_dir(model_dir, output, **arguments)
