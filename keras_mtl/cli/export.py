"""``keras-mtl export``: writes a trained model for use elsewhere."""

import argparse

from keras_mtl.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    parser.add_argument(
        "--model_dir", required=True, metavar="DIR", help="folder of the trained model"
    )
    parser.add_argument(
        "--output", required=True, metavar="DIR", help="folder to make; the model is it alone"
    )
    parser.add_argument(
        "--format",
        default="saved_model",
        choices=["saved_model"],
        help="saved_model: text in, text out, for TensorFlow with tensorflow-text",
    )
    parser.add_argument(
        "--checkpoint", metavar="PATH", help="checkpoint to read (default: the best, else newest)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an exported model")
    parser.add_argument(
        "--options",
        default="",
        metavar="NAME=VALUE,...",
        help="options of beam search that differ from task.decoding, for example "
        "beam_size=2,num_hypotheses=2",
    )


def run(args: argparse.Namespace) -> int:
    """Exports the model and prints where it is."""
    options = _parse(args.options)
    from keras_mtl.export.saved_model import export_model_dir

    path = export_model_dir(
        args.model_dir,
        args.output,
        options=options,
        checkpoint=args.checkpoint,
        overwrite=args.overwrite,
    )
    print(path)
    return 0


def _parse(text: str) -> dict[str, object]:
    """Reads ``name=value,...`` into options; their names and ranges are checked later."""
    import yaml

    options: dict[str, object] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = part.partition("=")
        if not equals:
            raise InputError(f"--options: {part!r} is no NAME=VALUE, as in beam_size=2")
        options[name.strip()] = yaml.safe_load(value)
    return options
