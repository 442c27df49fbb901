"""What several subcommands share: the arguments that choose a configuration, and reading it."""

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
        parser: where they go.
        modes: choices of --mode, the last one being the default; none leaves --mode out.
    """
    group = parser.add_argument_group("experiment")
    group.add_argument(
        "--experiment",
        metavar="NAME",
        help="registered experiment to start from (default: translation/transformer)",
    )
    group.add_argument(
        "--config_file",
        metavar="YAML",
        action="append",
        default=[],
        help="configuration file; may be given several times, each over the one before",
    )
    group.add_argument(
        "--params_override",
        metavar="FIELD=VALUE,...",
        action="append",
        default=[],
        help="last word on single fields, as a.b=1,c=x or YAML; may be given several times",
    )
    group.add_argument(
        "--model_dir",
        metavar="DIR",
        help="directory of the run; its params.yaml is the configuration when none is given",
    )
    if modes:
        group.add_argument(
            "--mode", choices=list(modes), default=modes[-1], help="what to do with the model"
        )


def load_config(args: argparse.Namespace, check: "Check | None" = None) -> "ExperimentConfig":
    """Builds the checked configuration that the arguments of `add_experiment_arguments` ask for.

    This needs no TensorFlow, so a subcommand calls it before it imports what does.

    Args:
        args: the parsed arguments.
        check: as of `load_experiment`; None takes `check_values`.

    Returns:
        A checked configuration whose tasks are named.

    Raises:
        ConfigError: nothing chooses a configuration, or it is wrong.
    """
    from keras_mtl.configuration.checks import check_values

    draft = read_config(args)
    (check or check_values)(draft)
    return draft.finish()


def read_config(args: argparse.Namespace) -> "Draft":
    """Reads the configuration that the arguments of `add_experiment_arguments` ask for.

    Args:
        args: the parsed arguments.

    Returns:
        The configuration before its values are checked; its tasks are named.

    Raises:
        ConfigError: nothing chooses a configuration, or a part of it cannot be read.
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
    """Returns the configuration files: `--config_file`, else that of the run, if there is one.

    Raises:
        ConfigError: nothing chooses a configuration.
    """
    files = list(args.config_file)
    if files or args.experiment:
        return files
    if args.model_dir and is_remote(args.model_dir):
        raise errors.ConfigError(
            f"--model_dir {args.model_dir}: the configuration is not read from a URL; give "
            "--config_file"
        )
    saved = os.path.join(args.model_dir or "", PARAMS_FILE)
    if args.model_dir and os.path.isfile(saved):
        return [saved]
    if args.params_override:
        return []
    if not args.model_dir:
        raise errors.ConfigError(
            "no configuration; give --config_file, for example configs/demo.yaml"
        )
    from keras_mtl.decoding import model_kinds

    empty = (model_kinds.ModelKind.MISSING, model_kinds.ModelKind.DIRECTORY)
    if model_kinds.model_kind(args.model_dir) not in empty:
        raise errors.ConfigError(
            model_kinds.not_usable(args.model_dir, "a model directory, or --config_file")
        )
    raise errors.ConfigError(
        f"{saved} does not exist, so --model_dir chooses no configuration; give --config_file"
    )


def check_experiment_arguments(
    args: argparse.Namespace,
    needs_model_dir: bool = False,
    writes: bool = True,
    remote: bool = False,
) -> None:
    """Checks what `add_experiment_arguments` has added, apart from what the configuration says.

    Args:
        args: the parsed arguments.
        needs_model_dir: whether `--model_dir` must be given.
        writes: whether the command writes to `--model_dir`.
        remote: whether `--model_dir` may be a URL.

    Raises:
        ConfigError: a file cannot be read, no configuration is chosen, or `--model_dir` is missing
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
        ConfigError: it was not given.
    """
    if not args.model_dir:
        raise errors.ConfigError("--model_dir is missing; name the directory of the run")
    return str(args.model_dir)


def add_backend_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the model runs on: --backend, --compute_type, --workers."""
    group = parser.add_argument_group("where the model runs")
    group.add_argument(
        "--backend",
        choices=["native", "tf"],
        help="native: the C++ engine; tf: TensorFlow (default: native if it loads)",
    )
    group.add_argument(
        "--compute_type",
        choices=["float32", "int8"],
        help="of native (default: float32; that of its weights for an engine file)",
    )
    group.add_argument(
        "--workers",
        type=arguments.positive_int,
        metavar="N",
        help="threads of native (default: one per processor)",
    )


def check_backend_arguments(args: argparse.Namespace) -> None:
    """Checks that the arguments of `add_backend_arguments` fit together.

    Raises:
        InputError: TensorFlow is to compute in int8.
    """
    if args.backend == "tf" and args.compute_type not in (None, "float32"):
        raise errors.InputError(
            f"--compute_type {args.compute_type}: --backend tf computes in float32 only; leave one "
            "of them out"
        )


def backend_arguments(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the arguments of `add_backend_arguments` as `load_translator` takes them."""
    return {
        "backend": args.backend or "auto",
        "compute_type": args.compute_type,
        "workers": args.workers,
    }


def parse_options(text: str) -> dict[str, Any]:
    """Reads `name=value,...`; the caller checks names and ranges.

    Values are numbers, `true`, `false`, `null`, lists as `[3,4]`, or else text.

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
                f"--options: {part.strip()!r} is not NAME=VALUE, such as beam_size=2"
            )
        try:
            options[name.strip()] = json.loads(value)
        except ValueError:
            options[name.strip()] = value.strip()
    return options
