"""Detects the kind of model at a path. Does not import TensorFlow."""

import enum
import os
from pathlib import Path

from keras_mtl.engine import is_model_file
from keras_mtl.remote_files import is_remote
from keras_mtl.run_files import (
    DATA_DIRECTORY,
    MANIFEST_FILE,
    PARAMS_FILE,
    SOURCE_VOCABULARY_FILE,
    TASKS_FILE,
    VOCABULARY_FILE,
)

SAVED_MODEL_FILE = "saved_model.pb"
CTRANSLATE2_TASKS_FILE = "keras_mtl.json"
_CTRANSLATE2 = "model.bin"


class ModelKind(enum.Enum):
    """The kind of a path; the value is its description in messages."""

    ENGINE_FILE = "an engine file"
    MODEL_DIR = "a model directory"
    PORTABLE = "an exported SavedModel"
    NATIVE = "an exported SavedModel with C++ operations"
    OTHER_SAVED_MODEL = "a SavedModel that is damaged or was written by another program"
    CTRANSLATE2 = "a CTranslate2 model"
    RUN = "a run directory without a trained model"
    PREPARED_DATA = "a directory of prepared data"
    CHECKPOINTS = "a directory of checkpoints"
    CHECKPOINT = "a checkpoint"
    DIRECTORY = "a directory without a model"
    KERAS_FILE = "a Keras file"
    CONFIGURATION = "a configuration file"
    VOCABULARY = "a SentencePiece vocabulary"
    FILE = "not a model file of keras_mtl"
    MISSING = "missing"


def model_kind(path: str | os.PathLike[str]) -> ModelKind:
    """Returns the kind of a path, detected from names and contents of files."""
    path = Path(path)
    if path.is_dir():
        return _directory_kind(path)
    if is_model_file(path):
        return ModelKind.ENGINE_FILE
    if path.with_name(f"{path.name}.index").is_file() or path.suffix == ".index":
        return ModelKind.CHECKPOINT
    if not path.exists():
        return ModelKind.MISSING
    suffixes = {
        ".keras": ModelKind.KERAS_FILE,
        ".h5": ModelKind.KERAS_FILE,
        ".yaml": ModelKind.CONFIGURATION,
        ".yml": ModelKind.CONFIGURATION,
    }
    if path.name in (VOCABULARY_FILE, SOURCE_VOCABULARY_FILE, "sentencepiece.model"):
        return ModelKind.VOCABULARY
    return suffixes.get(path.suffix, ModelKind.FILE)


def ctranslate2_directories(path: str | os.PathLike[str]) -> list[Path]:
    """Returns the directories of CTranslate2 models: the path itself, or one per decoder."""
    path = Path(path)
    found = [path] if (path / _CTRANSLATE2).is_file() else []
    return found or sorted(file.parent for file in path.glob(f"*/{_CTRANSLATE2}"))


def not_usable(path: str | os.PathLike[str], wanted: str) -> str:
    """Returns the error message for a path of the wrong kind.

    Args:
        path: the path given by the user.
        wanted: the kinds to give instead, such as `a model directory or an engine file`.
    """
    kind = model_kind(path)
    if is_remote(path):
        return (
            f"{os.fspath(path)} is a URL. Copy it to a local directory, for gs:// with `gcloud "
            f"storage rsync`, then give {wanted}"
        )
    if kind is ModelKind.MISSING:
        return f"{os.fspath(path)} does not exist; give {wanted}"
    return f"{os.fspath(path)} is {kind.value}; {_remedy(Path(path), kind, wanted)}"


def _directory_kind(path: Path) -> ModelKind:
    graph = path / SAVED_MODEL_FILE
    if graph.is_file():
        content = graph.read_bytes()
        if b"KerasMtl>Translate" in content or b"KerasMtl>BeamSearch" in content:
            return ModelKind.NATIVE
        ours = b"count_tokens" in content and b"max_source_tokens" in content
        return ModelKind.PORTABLE if ours else ModelKind.OTHER_SAVED_MODEL
    if (path / PARAMS_FILE).is_file():
        return ModelKind.MODEL_DIR if (path / TASKS_FILE).is_file() else ModelKind.RUN
    if ctranslate2_directories(path):
        return ModelKind.CTRANSLATE2
    if (path / MANIFEST_FILE).is_file() and (path / VOCABULARY_FILE).is_file():
        return ModelKind.PREPARED_DATA
    if any(path.glob("ckpt-*.index")):
        return ModelKind.CHECKPOINTS
    if (path / DATA_DIRECTORY / MANIFEST_FILE).is_file():  # Stopped before training started.
        return ModelKind.RUN
    return ModelKind.DIRECTORY


def _remedy(path: Path, kind: ModelKind, wanted: str) -> str:
    if kind is ModelKind.CTRANSLATE2:
        model = ctranslate2_directories(path)[0]
        return (
            f"run it with ctranslate2.Translator({str(model)!r}), as docs/how-to/export.md shows, "
            f"or give {wanted}"
        )
    if kind in (ModelKind.PORTABLE, ModelKind.NATIVE):
        return f"it can be used only with `keras-mtl translate`; give {wanted}"
    if kind is ModelKind.OTHER_SAVED_MODEL:
        return f"export the model again with `keras-mtl export`, or give {wanted}"
    if kind is ModelKind.RUN:
        return "train it with `keras-mtl train` first"
    if kind is ModelKind.PREPARED_DATA:
        return "give the --model_dir of the run that used it for training"
    if kind is ModelKind.CHECKPOINTS:
        return f"give the model directory and --checkpoint {path}"
    if kind is ModelKind.CHECKPOINT:
        return f"give the model directory and --checkpoint {path.with_suffix('')}"
    return f"give {wanted}"
