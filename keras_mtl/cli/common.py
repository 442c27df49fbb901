"""Arguments that several subcommands share, and loading of the configuration."""

import argparse
import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl import errors
from keras_mtl.cli import arguments
from keras_mtl.remote_files import is_remote
from keras_mtl.run_files import PARAMS_FILE
from keras_mtl.training.run.modes import MODES

if TYPE_CHECKING:
    from keras_mtl.configuration.draft import Draft
    from keras_mtl.configuration.files import Check
    from keras_mtl.configuration.schema import ExperimentConfig


def add_experiment_arguments(parser: argparse.ArgumentParser, modes: Sequence[str] = MODES) -> None:
    """Adds Model Garden's arguments: --experiment, --config_file, --params_override, --model_dir.

    Args:
        parser: the parser to extend.
        modes: choices of --mode, with the default last; empty omits --mode.
    """
    group = parser.add_argument_group("experiment")
    group.add_argument(
        "--experiment",
        metavar="NAME",
        help="registered experiment with the default values (default: translation/transformer)",
    )
    group.add_argument(
        "--config_file",
        metavar="YAML",
        action="append",
        default=[],
        help="configuration file; may be repeated: later files override earlier ones",
    )
    group.add_argument(
        "--params_override",
        metavar="FIELD=VALUE,...",
        action="append",
        default=[],
        help="overrides of single fields, as a.b=1,c=x or YAML; may be repeated",
    )
    group.add_argument(
        "--model_dir",
        metavar="DIR",
        help="directory of the run; its params.yaml is the default configuration",
    )
    if modes:
        group.add_argument(
            "--mode",
            choices=list(modes),
            default=modes[-1],
            help="whether to train, to validate, or both",
        )


def load_config(args: argparse.Namespace, check: "Check | None" = None) -> "ExperimentConfig":
    """Loads and checks the configuration given by the arguments of `add_experiment_arguments`.

    This does not import TensorFlow, so subcommands call it before modules that do.

    Args:
        args: the parsed arguments.
        check: function that adds problems to the draft. Default: `check_values`.

    Returns:
        The checked configuration, in which every task has a name.

    Raises:
        ConfigError: no configuration is given, or it is invalid.
    """
    from keras_mtl.configuration.checks import check_values

    draft = read_config(args)
    (check or check_values)(draft)
    return draft.finish()


def read_config(args: argparse.Namespace) -> "Draft":
    """Reads the configuration given by the arguments of `add_experiment_arguments`.

    Args:
        args: the parsed arguments.

    Returns:
        The configuration before its values are checked, in which every task has a name.

    Raises:
        ConfigError: no configuration is given, or a part of it cannot be read.
    """
    import keras_mtl.data.corpora  # noqa: F401  Registers the readers.
    from keras_mtl.configuration.files import read_experiment

    return read_experiment(
        args.experiment,
        configuration_files(args),
        args.params_override,
        imports=getattr(args, "imports", ()),
    )


def configuration_files(args: argparse.Namespace) -> list[str]:
    """Returns the files of `--config_file`, or the configuration file of the run, if there is one.

    Raises:
        ConfigError: no configuration is given.
    """
    files = list(args.config_file)
    if files or args.experiment:
        return files
    if args.model_dir and is_remote(args.model_dir):
        raise errors.ConfigError(
            f"--model_dir {args.model_dir}: the configuration is not read from a URL. Give "
            "--config_file"
        )
    saved = os.path.join(args.model_dir or "", PARAMS_FILE)
    if args.model_dir and os.path.isfile(saved):
        return [saved]
    if args.params_override:
        return []
    if not args.model_dir:
        raise errors.ConfigError(
            "no configuration is given. Give --config_file, for example configs/demo.yaml"
        )
    from keras_mtl.decoding import model_kinds

    empty = (model_kinds.ModelKind.MISSING, model_kinds.ModelKind.DIRECTORY)
    if model_kinds.model_kind(args.model_dir) not in empty:
        raise errors.ConfigError(
            model_kinds.not_usable(args.model_dir, "a model directory, or --config_file")
        )
    raise errors.ConfigError(
        f"{saved} does not exist, so --model_dir has no configuration. Give --config_file"
    )


def check_experiment_arguments(
    args: argparse.Namespace,
    needs_model_dir: bool = False,
    writes: bool = True,
    remote: bool = False,
) -> None:
    """Checks the arguments of `add_experiment_arguments`, but not the content of the configuration.

    Args:
        args: the parsed arguments.
        needs_model_dir: whether `--model_dir` is required.
        writes: whether the command writes to `--model_dir`.
        remote: whether `--model_dir` may be a URL.

    Raises:
        ConfigError: a file cannot be read, no configuration is given, or `--model_dir` is missing
            or cannot be a directory.
    """
    for path in args.config_file:
        arguments.check_input_file("--config_file", path)
    if needs_model_dir:
        require_model_dir(args)
    configuration_files(args)
    if args.model_dir and is_remote(args.model_dir):
        if not remote:
            arguments.check_local("--model_dir", args.model_dir)
    elif args.model_dir and writes:
        arguments.check_output_directory("--model_dir", args.model_dir)


def require_model_dir(args: argparse.Namespace) -> str:
    """Returns `--model_dir`.

    Raises:
        ConfigError: it is missing.
    """
    if not args.model_dir:
        raise errors.ConfigError("--model_dir is missing. Give the directory of the run")
    return str(args.model_dir)


def add_backend_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that select the backend: --backend, --compute_type, --workers."""
    group = parser.add_argument_group("backend")
    group.add_argument(
        "--backend",
        choices=["native", "tf"],
        help="native: the C++ engine; tf: TensorFlow (default: native if available)",
    )
    group.add_argument(
        "--compute_type",
        choices=["float32", "int8"],
        help="type of the engine's matrix products (default: float32; for an engine file, the type "
        "of its weights)",
    )
    group.add_argument(
        "--workers",
        type=arguments.positive_int,
        metavar="N",
        help="threads of the engine (default: one per processor)",
    )


def check_backend_arguments(args: argparse.Namespace) -> None:
    """Checks that the arguments of `add_backend_arguments` are consistent.

    Raises:
        InputError: int8 is requested from TensorFlow.
    """
    if args.backend == "tf" and args.compute_type not in (None, "float32"):
        raise errors.InputError(
            f"--compute_type {args.compute_type}: --backend tf supports only float32. Omit one of "
            "them"
        )


def backend_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `add_backend_arguments` as arguments of `load_translator`."""
    return {
        "backend": args.backend or "auto",
        "compute_type": args.compute_type,
        "workers": args.workers,
    }


def parse_options(text: str) -> dict[str, Any]:
    """Parses the value of `--options`; see `parse_pairs`."""
    return parse_pairs("--options", text, "beam_size=2")


def parse_pairs(option: str, text: str, example: str) -> dict[str, Any]:
    """Parses `name=value,...`. The caller must check names and ranges.

    Values are numbers, `true`, `false`, `null`, lists such as `[3,4]`, or text.

    Args:
        option: the option that gave the text, for messages.
        text: the text.
        example: a correct part, for messages.

    Raises:
        InputError: a part is not `name=value`.
    """
    options: dict[str, Any] = {}
    for part in re.split(r",(?![^\[]*\])", text):
        if not part.strip():
            continue
        name, equals, value = part.partition("=")
        if not equals:
            raise errors.InputError(
                f"{option}: {part.strip()!r} is not NAME=VALUE, such as {example}"
            )
        try:
            options[name.strip()] = json.loads(value)
        except ValueError:
            options[name.strip()] = value.strip()
    return options
