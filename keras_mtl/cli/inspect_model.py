"""Prints engine files, exported models and checkpoints for `keras-mtl inspect`."""

import argparse
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_mtl import errors
from keras_mtl.cli.inspect_adapters import is_adapter_file, print_adapter_file, route_names
from keras_mtl.cli.printing import (
    describe_architecture,
    describe_sublayers,
    file_size,
    print_fields,
    print_table,
)
from keras_mtl.decoding import model_kinds
from keras_mtl.decoding.engine_file import vocabulary_of
from keras_mtl.decoding.model_kinds import ModelKind
from keras_mtl.engine import open_model_file
from keras_mtl.engine.adapter_arrays import sets_of
from keras_mtl.engine.model_file import INPUT_RANGE, SOURCE_VOCABULARY


def is_model(args: argparse.Namespace) -> bool:
    """Returns whether the arguments give a model that is not a run directory with a configuration.

    `--model` and `--model_dir` accept both kinds; this function sets the right one of the two.

    Raises:
        InputError: both are given, or `--verify` is given without a model.
    """
    if args.verify and not (args.model or args.model_dir):
        raise errors.InputError("--verify requires a model: give --model PATH")
    if args.model and args.model_dir:
        raise errors.InputError("give --model or --model_dir, not both")
    path = args.model or args.model_dir
    if not path:
        return False
    kind = model_kinds.model_kind(path)
    runs = (ModelKind.MODEL_DIR, ModelKind.RUN)
    # --model_dir need not exist yet, because a configuration may be given, too.
    is_run = kind in runs or (
        args.model is None and kind in (ModelKind.MISSING, ModelKind.DIRECTORY)
    )
    args.model, args.model_dir = (None, path) if is_run else (path, None)
    return not is_run


def print_model(path: str, verify: bool) -> None:
    """Prints the content of an engine file or an exported model.

    Args:
        path: the model.
        verify: whether to read the whole model and compare its checksums.

    Raises:
        InputError: the path is not such a model, or the model has no checksums.
        ExportError: the model is damaged.
        NativeError: the C++ core is required but cannot be loaded.
    """
    kind = model_kinds.model_kind(path)
    if kind is ModelKind.ENGINE_FILE and is_adapter_file(path):
        print_adapter_file(path)
    elif kind is ModelKind.ENGINE_FILE:
        _print_engine_file(path, verify)
    elif kind in (ModelKind.PORTABLE, ModelKind.NATIVE):
        _print_saved_model(path, kind, verify)
    elif kind is ModelKind.CTRANSLATE2:
        if verify:
            raise errors.InputError(
                f"{path} is {kind.value}, which has no checksums. Omit --verify"
            )
        _print_ctranslate2(path)
    else:
        raise errors.InputError(
            model_kinds.not_usable(path, "a model directory, an engine file or an exported model")
        )


def print_checkpoints(model_dir: str, verify: bool) -> None:
    """Prints the checkpoints of a model directory in order of preference.

    Args:
        model_dir: the directory.
        verify: whether to read all tensors and compare their checksums.

    Raises:
        CheckpointError: a checkpoint is damaged.
    """
    from keras_mtl.decoding.checkpoint_files import find_checkpoints

    prefixes = find_checkpoints(model_dir)
    rows = []
    for number, prefix in enumerate(prefixes):
        files = Path(prefix).parent.glob(f"{Path(prefix).name}.*")
        size = sum(file.stat().st_size for file in files)
        count = f"{_verify_checkpoint(prefix):,} tensors are correct" if verify else ""
        used = "used by default" if number == 0 else ""
        rows.append((os.path.relpath(prefix, model_dir), file_size(size), used, count))
    if rows:
        print()
        print_table(("checkpoint", "size", "", ""), rows)


def _print_engine_file(path: str | os.PathLike[str], verify: bool) -> None:
    file = open_model_file(path, verify)
    file.check_transformer()
    about = file.hyperparameters
    texts = ("vocabulary", SOURCE_VOCABULARY)
    names = [name for name in file.tensor_names if name not in texts]
    values = sum(
        file.tensor(name).size
        for name in names
        if not name.endswith((".scale", INPUT_RANGE, "_positions"))
    )
    has_text = "vocabulary" in file.tensor_names
    print_fields(
        ("file", f"engine file, format version {file.format_version}, {file_size(file.size)}"),
        ("written by", about.get("producer", "unknown")),
        ("architecture", describe_architecture(about)),
        ("sub-layers", describe_sublayers(about)),
        ("positions", f"{about['max_length']:,}, including tag and end of sentence"),
        ("embeddings", _embeddings(about)),
        ("decoders", ", ".join(about["decoders"])),
        ("parameters", f"{values:,} without positions, in {len(names):,} tensors"),
        ("compute type", f"{about['weight_type']} by default; float32 and int8 are possible"),
        ("input scales", _input_scales(names)),
        ("vocabulary", _vocabulary(file, about) if has_text else "none: translates ids"),
        ("decoding", _decoding(json.loads(about.get("decoding", "{}"))) or "default options"),
    )
    columns = ("names", "sources", "targets", "tags", "decoders")
    rows = zip(*(about.get(f"task_{column}", []) for column in columns), strict=False)
    sets = sets_of(about)
    print_table(
        ("task", "direction", "tag", "decoder", *(each.name for each in sets)),
        [
            (name, f"{a} -> {b}", str(tag), *route_names(route, about["decoders"], sets))
            for name, a, b, tag, route in rows
        ],
    )
    if verify:
        print(
            f"checksums: header, table, {len(file.tensor_names):,} tensors and padding are correct"
        )


def _print_saved_model(path: str, kind: ModelKind, verify: bool) -> None:
    from keras_mtl.decoding.saved_model_translator import SavedModelTranslator

    engine_files = sorted(Path(path).glob("assets/*"))
    if verify and kind is ModelKind.PORTABLE:
        count = _verify_checkpoint(os.path.join(path, "variables", "variables"))
    model = SavedModelTranslator(path)
    size = sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    needs = "tensorflow and tensorflow-text"
    if kind is ModelKind.NATIVE:
        needs += "; call keras_mtl.engine.load_ops() before loading"
    print_fields(
        ("directory", f"{kind.value.removeprefix('an ')}, {file_size(size)}"),
        ("written by", f"keras_mtl {model.version}"),
        ("needs", needs),
        ("source", f"at most {model.max_source_tokens:,} tokens"),
        ("decoding", _decoding(dataclasses.asdict(model.options))),
    )
    rows = [(task.name, f"{task.source} -> {task.target}") for task in model.tasks]
    print_table(("task", "direction"), rows)
    if kind is ModelKind.NATIVE:
        for file in engine_files:
            print(f"\n{file.relative_to(path)}:")
            _print_engine_file(file, verify)
    elif verify:
        print(f"checksums: {count:,} tensors are correct")


def _print_ctranslate2(path: str) -> None:
    for directory in model_kinds.ctranslate2_directories(path):
        tasks_file = directory / model_kinds.CTRANSLATE2_TASKS_FILE
        size = sum(file.stat().st_size for file in directory.iterdir() if file.is_file())
        ours = tasks_file.is_file()
        print_fields(
            ("directory", f"CTranslate2 model, {file_size(size)}"),
            ("written by", "keras_mtl" if ours else "another program"),
            ("use", f"ctranslate2.Translator({str(directory)!r}); see docs/how-to/export.md"),
        )
        if ours:
            tasks = json.loads(tasks_file.read_text(encoding="utf-8"))["tasks"]
            rows = [(t["name"], f"{t['source']} -> {t['target']}", t["tag"]) for t in tasks]
            print_table(("task", "direction", "tag"), rows)


def _input_scales(names: Sequence[str]) -> str:
    """Returns how int8 chooses the scales of the inputs of layers."""
    fixed = sum(name.endswith(INPUT_RANGE) for name in names)
    return f"fixed in {fixed} layers, by row in the others" if fixed else "by row"


def _embeddings(about: Mapping[str, Any]) -> str:
    """Returns which tables a model has."""
    if about["tie_embeddings"]:
        return "tied"
    tied = about.get("tie_projection", 0)
    return "separate, that of the target is the projection" if tied else "separate"


def _vocabulary(file: Any, about: Mapping[str, Any]) -> str:
    vocabulary = vocabulary_of(file)
    languages = ", ".join(vocabulary.source.languages) or "none"
    stored = about.get("vocabulary_hash", vocabulary.hash)
    sizes = f"{vocabulary.size:,} ids"
    if vocabulary.has_source:
        sizes = f"{vocabulary.source.size:,} ids of sources, {vocabulary.size:,} ids of targets"
    return f"{sizes}, language tags: {languages}, hash {stored}"


def _decoding(options: Mapping[str, Any]) -> str:
    """Returns the non-default beam-search options and always `beam_size` and `max_length`."""
    from keras_mtl.decoding.options import BeamOptions

    default = dataclasses.asdict(BeamOptions())
    shown = {
        name: value
        for name, value in options.items()
        if name in ("beam_size", "max_length")
        or (name != "suppress" and value != default.get(name, value))
    }
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _verify_checkpoint(prefix: str) -> int:
    """Reads all tensors of a checkpoint and so compares checksums; returns their number."""
    import tensorflow as tf

    try:
        reader = tf.train.load_checkpoint(prefix)
        names = list(reader.get_variable_to_shape_map())
        for name in names:
            reader.get_tensor(name)
    # For a truncated file, TensorFlow raises IndexError, RuntimeError or its own errors.
    except (tf.errors.OpError, OSError, RuntimeError, ValueError, IndexError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise errors.CheckpointError(
            f"{prefix} is damaged ({reason}). Restore it from a backup, or use another checkpoint"
        ) from error
    return len(names)
