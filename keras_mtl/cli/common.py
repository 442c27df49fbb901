"""What several subcommands share: the arguments that choose a configuration, and reading it."""

import argparse
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_mtl import errors

if TYPE_CHECKING:
    from keras_mtl.config import ExperimentConfig

MODES = ("train", "eval", "train_and_eval")


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
        help="folder of the run; its params.yaml is the configuration when none is given",
    )
    if modes:
        group.add_argument(
            "--mode", choices=list(modes), default=modes[-1], help="what to do with the model"
        )


def load_config(args: argparse.Namespace) -> "ExperimentConfig":
    """Builds the checked configuration that the arguments of `add_experiment_arguments` ask for.

    Args:
      args: the parsed arguments.

    Returns:
      A checked configuration whose tasks are named.

    Raises:
      ConfigError: nothing chooses a configuration, or it is wrong.
    """
    from keras_mtl import registry

    files = list(args.config_file)
    if not files and not args.experiment:
        saved = os.path.join(args.model_dir or "", registry.PARAMS_FILE)
        if args.model_dir and os.path.isfile(saved):
            files = [saved]
        elif args.model_dir and not args.params_override:
            raise errors.ConfigError(
                f"{saved} does not exist, so --model_dir chooses no configuration; give "
                "--config_file"
            )
        elif not args.params_override:
            raise errors.ConfigError(
                "no configuration; give --config_file, for example configs/demo.yaml"
            )
    return registry.load_experiment(args.experiment, files, args.params_override)


def require_model_dir(args: argparse.Namespace) -> str:
    """Returns ``--model_dir``.

    Raises:
      ConfigError: it was not given.
    """
    if not args.model_dir:
        raise errors.ConfigError("--model_dir is missing; name the folder of the run")
    return str(args.model_dir)
