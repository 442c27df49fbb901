"""`keras-mtl export`: writes a trained model in a format for deployment."""

import argparse
from pathlib import Path

from keras_mtl import api
from keras_mtl.cli import arguments as checks
from keras_mtl.cli.common import parse_options
from keras_mtl.configuration import adapters, sublayers
from keras_mtl.errors import ExportError, InputError, nearest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "--model_dir", required=True, metavar="DIR", help="directory of the trained model"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="directory to create (engine: file), which will contain the whole model",
    )
    parser.add_argument(
        "--format",
        default="saved_model",
        choices=api.EXPORT_FORMATS,
        help="saved_model: translates text with TensorFlow and tensorflow-text; "
        "saved_model_native: the same with the C++ engine, for processes that load keras_mtl's "
        "operations; engine: one file for the C++ engine; adapters: a file of the adapters and "
        "tasks that --base lacks; ctranslate2: a CTranslate2 model, which translates tokens",
    )
    parser.add_argument(
        "--weight_type",
        default="float32",
        metavar="TYPE",
        help="type of the weights; engine and saved_model_native: float32 or int8; ctranslate2: "
        "float32, int8, int8_float32, float16 or int16",
    )
    parser.add_argument(
        "--base", metavar="FILE", help="for --format adapters: engine file to which to add them"
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint to use (default: the best or the newest)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace an existing exported model"
    )
    parser.add_argument(
        "--options",
        default="",
        metavar="NAME=VALUE,...",
        help="for saved_model formats: beam-search options that differ from task.decoding, for "
        "example beam_size=2,num_hypotheses=2",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the model, the options and the output path.

    Raises:
        InputError: the directory is not a trained model, or two arguments are inconsistent.
        CheckpointError: the checkpoint does not exist.
        ExportError: the format does not support the model, the weight type is unknown, or the
            output exists.
        ConfigError: the output is not writable.
    """
    from keras_mtl.engine.arrays import check_standard
    from keras_mtl.export import ctranslate2, engine_file, output

    checks.check_model("--model_dir", args.model_dir, "a model directory", directory_only=True)
    if not args.format.startswith("saved_model"):
        check_standard(sublayers.saved_only_tensorflow(args.model_dir))
    if args.format == "ctranslate2":
        ctranslate2.check_architecture(sublayers.saved_not_in_ctranslate2(args.model_dir))
        ctranslate2.check_adapters(len(adapters.saved_adapters(args.model_dir)))
    checks.check_checkpoint(args.checkpoint)
    options = parse_options(args.options)
    if options and not args.format.startswith("saved_model"):
        raise InputError(
            f"--options: --format {args.format} does not accept options. Omit them, and give them "
            "to keras-mtl translate"
        )
    checks.check_option_names(list(options))
    if args.format == "saved_model" and args.weight_type != "float32":
        raise InputError(
            f"--weight_type={args.weight_type}: --format saved_model supports only float32. Use "
            "--format saved_model_native, engine or ctranslate2"
        )
    _check_base(args)
    known = ctranslate2.QUANTIZATIONS if args.format == "ctranslate2" else engine_file.WEIGHT_TYPES
    if args.format == "saved_model_native":
        only = sublayers.saved_only_tensorflow(args.model_dir)
        output.check_weight_type(only, args.weight_type)
    if args.weight_type not in known:
        raise ExportError(
            f"--weight_type={args.weight_type!r} is not supported by --format {args.format}"
            f"{nearest(args.weight_type, known)}"
        )
    check_free = {
        "engine": engine_file.check_free_file,
        "adapters": engine_file.check_free_file,
        "ctranslate2": ctranslate2.check_output,
    }.get(args.format, output.check_free)
    checks.check_local("--output", args.output)
    path = Path(args.output)
    check_free(path, args.overwrite)
    checks.check_output_directory("--output", path.absolute().parent)


def _check_base(args: argparse.Namespace) -> None:
    """Checks what only the format `adapters` has."""
    if args.format != "adapters":
        if args.base is not None:
            raise InputError(f"--base: --format {args.format} has no base. Omit it")
        return
    if args.base is None:
        raise InputError(
            "--format adapters requires --base FILE, the engine file without the adapters"
        )
    if args.weight_type != "float32":
        raise InputError("--weight_type: adapters have the type of --base. Omit it")
    if not adapters.saved_adapters(args.model_dir):
        raise ExportError(
            f"--model_dir {args.model_dir}: task.model.adapters is empty, so there are no adapters "
            "to export. Use --format engine"
        )
    checks.check_input_file("--base", args.base)


def run(args: argparse.Namespace) -> int:
    """Exports the model and prints its path."""
    path = api.export_model(
        args.model_dir,
        args.output,
        format=args.format,
        weight_type=args.weight_type,
        options=parse_options(args.options),
        checkpoint=args.checkpoint,
        overwrite=args.overwrite,
        base=args.base,
    )
    print(path)
    return 0
