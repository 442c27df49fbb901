"""``keras-mtl export``: writes a trained model for use elsewhere."""

import argparse
import functools
from typing import Any

from keras_mtl.cli.common import parse_options
from keras_mtl.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "--model_dir", required=True, metavar="DIR", help="folder of the trained model"
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="PATH",
        help="folder to make (engine: file); it alone is the model",
    )
    parser.add_argument(
        "--format",
        default="saved_model",
        choices=["saved_model", "saved_model_native", "engine", "ctranslate2"],
        help="saved_model: text in, text out, for TensorFlow with tensorflow-text; "
        "saved_model_native: the same with the C++ engine inside, for processes that load "
        "keras_mtl's operations; engine: one file for the C++ engine; ctranslate2: for "
        "CTranslate2, tokens in, tokens out",
    )
    parser.add_argument(
        "--weight_type",
        default="float32",
        metavar="TYPE",
        help="engine and saved_model_native: float32 or int8; ctranslate2: float32, int8, "
        "int8_float32, float16 or int16; default float32",
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint to read (default: the best, else newest)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an exported model")
    parser.add_argument(
        "--options",
        default="",
        metavar="NAME=VALUE,...",
        help="of a saved_model: options of beam search that differ from task.decoding, for example "
        "beam_size=2,num_hypotheses=2",
    )


def run(args: argparse.Namespace) -> int:
    """Exports the model and prints where it is."""
    options = parse_options(args.options)
    arguments: dict[str, Any] = {"checkpoint": args.checkpoint, "overwrite": args.overwrite}
    if args.format.startswith("saved_model"):
        arguments["options"] = options
    elif options:
        raise InputError(
            f"--options: a model of --format {args.format} gets its options when it translates; "
            "leave them out"
        )
    if args.format == "saved_model":
        if args.weight_type != "float32":
            raise InputError(
                f"--weight_type={args.weight_type}: a saved_model is float32; choose --format "
                "saved_model_native, engine or ctranslate2"
            )
        from keras_mtl.export.saved_model import export_model_dir as export
    else:
        arguments["weight_type"] = args.weight_type
        if args.format == "saved_model_native":
            from keras_mtl.export.native_saved_model import export_native_model_dir as export
        else:
            from keras_mtl.export.model_dir import export_weights

            export = functools.partial(export_weights, args.format)
    path = export(args.model_dir, args.output, **arguments)
    print(path)
    return 0
