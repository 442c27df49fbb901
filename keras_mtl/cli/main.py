"""`keras-mtl`: runs a subcommand and turns errors into messages and exit codes.

Exit codes: 0 success; 2 an error that the user can fix, with a message; 130 interrupted. A bug
prints a traceback and exits with 1.
"""

import argparse
import contextlib
import errno
import importlib
import logging
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

import keras_mtl
from keras_mtl import errors, interrupts
from keras_mtl.cli import optional_packages, streams
from keras_mtl.configuration import plugins


class Command(NamedTuple):
    """A subcommand: its module and its line in `keras-mtl --help`.

    The module has `add_arguments(parser)`, `check_arguments(args)` and `run(args) -> int`. It is
    imported only if its subcommand is chosen. `check_arguments` runs before plug-ins are loaded and
    reports errors without TensorFlow, which only `run` imports.
    """

    module: str
    summary: str


COMMANDS = {
    "prepare": Command("keras_mtl.cli.prepare", "read, clean and encode the corpora"),
    "train": Command("keras_mtl.cli.train", "train, validate and save, or resume a run"),
    "baselines": Command("keras_mtl.cli.baselines", "train a single-task model for each task"),
    "evaluate": Command("keras_mtl.cli.evaluate", "score every task of a trained model"),
    "score": Command("keras_mtl.cli.score", "print log-probabilities of given translations"),
    "benchmark": Command("keras_mtl.cli.benchmark", "measure a model's speed on this machine"),
    "translate": Command("keras_mtl.cli.translate", "translate standard input line by line"),
    "average": Command("keras_mtl.cli.average", "average the weights of several checkpoints"),
    "export": Command("keras_mtl.cli.export", "export a trained model for deployment"),
    "add-adapters": Command(
        "keras_mtl.cli.add_adapters", "add exported adapters to an engine file"
    ),
    "inspect": Command(
        "keras_mtl.cli.inspect", "show what a configuration means, or what a model contains"
    ),
    "simulate": Command("keras_mtl.cli.simulate", "simulate schedules on modeled learning curves"),
    "propose": Command("keras_mtl.cli.propose", "propose weights of tasks from many small runs"),
    "check-tpu": Command(
        "keras_mtl.cli.check_tpu", "compile the programs of a run for a TPU, without a TPU"
    ),
    "report": Command("keras_mtl.cli.report", "compare runs on one page with charts"),
    "demo": Command("keras_mtl.cli.demo", "run all steps on the built-in corpus, in minutes"),
}

# System errors that the user can fix, such as a full disk. They cause a message, not a traceback.
_FIXABLE_ERRNOS = {
    errno.ENOSPC: "the disk is full. Free some space and start again",
    errno.EDQUOT: "the disk quota is exceeded. Free some space and start again",
    errno.EFBIG: "the file is larger than the system allows. Raise the limit with `ulimit -f`",
    errno.EIO: "the device cannot be read or written. Check the disk or the terminal",
    errno.EROFS: "the file system is read-only. Use another directory",
    errno.EACCES: "permission denied. Change the permissions or use another path",
    errno.EPERM: "operation not permitted. Change the permissions or use another path",
    errno.ENOENT: "no such file or directory",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.EISDIR: "this is a directory, but a file is required",
    errno.ENAMETOOLONG: "the name is too long. Use a shorter one",
    errno.ELOOP: "too many symbolic links. Use another path",
    errno.EMFILE: "too many open files. Raise the limit with `ulimit -n`",
}

# Packages that an environment for only the engine does not have.
_LEFT_OUT = (
    "absl", "babel", "keras", "matplotlib", "official", "py3langid", "sacrebleu", "tensorflow",
    "tensorflow_text", "tf_keras", "yaml",
)  # fmt: skip

_EXIT_USER = 2  # argparse's own code for bad usage
_EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: the arguments after the program's name; None means those of the process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command, code = None, 0
    try:
        streams.prepare_streams()
        try:
            command, parser = _parser(words)
            args, unknown = parser.parse_known_args(words)
            if unknown:
                parser.error(_unrecognized(unknown))
        except SystemExit:
            # argparse printed help or an error, but it ignores errors of printing.
            streams.flush_error()
            sys.stdout.flush()
            raise
        if command is None:
            parser.print_help()
        else:
            module = importlib.import_module(COMMANDS[command].module)
            module.check_arguments(args)
            _prepare_libraries()
            _load_plugins(args)
            with interrupts.prompt_interrupts():
                code = module.run(args)
        sys.stdout.flush()
        return int(code or 0)
    except errors.KerasMtlError as error:
        return _fail(str(error))
    except ModuleNotFoundError as error:
        if error.name not in _LEFT_OUT:
            raise
        return _fail(
            f"keras-mtl {command} requires the package {error.name}, which is not installed. "
            "Install keras_mtl with its dependencies. Only engine files (`keras-mtl export "
            "--format engine`) can be used without them"
        )
    except BrokenPipeError:
        # The reader of the output has exited (`| head`), which is not an error.
        streams.discard(sys.stdout)
        return 0
    except OSError as error:
        remedy = _FIXABLE_ERRNOS.get(error.errno or 0)
        if remedy is None:
            raise
        return _fail(f"{error.filename}: {remedy}" if error.filename else remedy)
    except KeyboardInterrupt:
        _say("interrupted")
        return _EXIT_INTERRUPTED


def _parser(words: Sequence[str]) -> tuple[str | None, argparse.ArgumentParser]:
    """Returns the chosen subcommand and a parser with the arguments of this subcommand only.

    Other subcommands are not imported, so help is fast, and a broken subcommand does not affect the
    others.
    """
    parser = argparse.ArgumentParser(
        prog="keras-mtl",
        description="Train one Keras model on many tasks with adaptive schedules.",
        epilog="`keras-mtl COMMAND --help` describes a command. `keras-mtl demo` runs all steps; "
        "`keras-mtl inspect --config_file FILE` shows what a configuration means.",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"keras_mtl {keras_mtl.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command")
    # Options of the main parser have no values, so the first word without "-" is the subcommand.
    command = next((word for word in words if not word.startswith("-")), None)
    if words and command == words[0] and command not in COMMANDS:
        parser.error(f"{command!r} is not a subcommand{errors.nearest(command, COMMANDS)}")
    for name, entry in COMMANDS.items():
        subparser = subparsers.add_parser(
            name,
            help=entry.summary,
            description=entry.summary[0].upper() + entry.summary[1:] + ".",
            formatter_class=_HelpFormatter,
        )
        if name == command:
            importlib.import_module(entry.module).add_arguments(subparser)
            _add_imports(subparser)
    if command not in COMMANDS:
        return None, parser
    return command, parser


def _unrecognized(words: Sequence[str]) -> str:
    """Returns the message for arguments that the subcommand does not have."""
    text = f"unrecognized arguments: {' '.join(words)}"
    if any(word.endswith((".yaml", ".yml")) for word in words):
        text += ". Give a configuration as --config_file FILE"
    return text


def _add_imports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="MODULE",
        action="append",
        default=[],
        help="plug-in to import, such as my_package.schedules or path/to/my_schedules; a run "
        "records it; may be repeated",
    )


def _load_plugins(args: argparse.Namespace) -> None:
    """Imports plug-ins before a subcommand looks up the names that they register.

    Raises:
        ConfigError: a plug-in cannot be imported.
    """
    plugins.load_entry_points()
    plugins.load(args.imports)
    if getattr(args, "model_dir", None):
        plugins.load_saved(args.model_dir)


class _HelpFormatter(argparse.HelpFormatter):
    """Shows default values and fits the names of subcommands into one column."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        # argparse ignores the indentation of subcommands and would wrap the longest one.
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        has_default = action.default not in (None, False, [], "", argparse.SUPPRESS)
        if not has_default or "%(default)" in text or not action.option_strings:
            return text
        if isinstance(action.default, list):
            return f"{text} (default: {' '.join(map(str, action.default))})"
        return f"{text} (default: %(default)s)"


def _prepare_libraries() -> None:
    """Selects Keras' backend, speeds up its import and hides start-up messages by default.

    Raises:
        ConfigError: the environment selects another backend.
    """
    # The environment variable takes precedence over ~/.keras/keras.json.
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise errors.ConfigError(
            f"KERAS_BACKEND={backend!r}: keras_mtl requires 'tensorflow'. Unset the variable"
        )
    optional_packages.hide_from_keras()
    # Level 3 also hides the "errors" of the search for a GPU. Real errors raise exceptions.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from absl import logging as absl_logging
    except ModuleNotFoundError:  # An environment for only the engine.
        return
    absl_logging.set_verbosity(absl_logging.ERROR)
    # TensorFlow warns when a function is retraced for new shapes.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _fail(message: str) -> int:
    try:
        sys.stdout.flush()
    except OSError:  # Standard output failed.
        streams.discard(sys.stdout)
    _say(f"error: {message}")
    return _EXIT_USER


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)
    streams.flush_error()


if __name__ == "__main__":
    sys.exit(main())
