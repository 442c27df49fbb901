"""`keras-mtl`: chooses the subcommand, and turns errors into messages and exit codes.

Exit codes: 0 done, 2 something the user can repair (the message says what), 130 interrupted. A
defect keeps its traceback and exits with 1.
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
from keras_mtl.cli import streams
from keras_mtl.configuration import plugins


class Command(NamedTuple):
    """A subcommand: its module, and the line that `keras-mtl --help` shows.

    The module has `add_arguments(parser)`, `check_arguments(args)` and `run(args) -> int`. It
    is imported only when its subcommand is chosen. `check_arguments` comes before plug-ins and
    reports what is wrong without TensorFlow, which only `run` imports.
    """

    module: str
    summary: str


COMMANDS = {
    "prepare": Command("keras_mtl.cli.prepare", "read, clean and encode the corpora"),
    "train": Command("keras_mtl.cli.train", "train, validate and save; continue where it stopped"),
    "baselines": Command("keras_mtl.cli.baselines", "train a model for each task, for comparison"),
    "evaluate": Command("keras_mtl.cli.evaluate", "score every task of a trained model"),
    "score": Command("keras_mtl.cli.score", "log-probabilities of given translations"),
    "benchmark": Command("keras_mtl.cli.benchmark", "measure a model's speed on this machine"),
    "translate": Command("keras_mtl.cli.translate", "translate standard input line by line"),
    "export": Command("keras_mtl.cli.export", "write a model for use elsewhere"),
    "inspect": Command("keras_mtl.cli.inspect", "print tasks, sizes and parameters"),
    "simulate": Command("keras_mtl.cli.simulate", "play schedules on modeled learning curves"),
    "report": Command("keras_mtl.cli.report", "compare runs on one page, with pictures"),
    "demo": Command("keras_mtl.cli.demo", "the whole chain on the built-in corpus, in minutes"),
}

# Full disk and the like: the user can repair them, so they get a message instead of a traceback.
_REPAIRABLE_ERRNOS = {
    errno.ENOSPC: "the disk is full; free some space and start again",
    errno.EDQUOT: "the disk quota is used up; free some space and start again",
    errno.EFBIG: "the file is larger than the system allows; raise the limit with `ulimit -f`",
    errno.EIO: "the device cannot be read or written; check the disk or the terminal",
    errno.EROFS: "the file system is read-only; choose another directory",
    errno.EACCES: "permission denied; change its permissions or choose another path",
    errno.EPERM: "operation not permitted; change its permissions or choose another path",
    errno.ENOENT: "no such file or directory",
    errno.ENOTDIR: "a part of the path is not a directory",
    errno.EISDIR: "is a directory; a file is needed",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    errno.ELOOP: "too many symbolic links; choose another path",
    errno.EMFILE: "too many open files; raise the limit with `ulimit -n`",
}

# What an environment for only the engine lacks.
_LEFT_OUT = (
    "absl", "babel", "keras", "matplotlib", "official", "py3langid", "sacrebleu", "tensorflow",
    "tensorflow_text", "tf_keras", "yaml",
)  # fmt: skip

_EXIT_USER = 2  # argparse's own code for bad usage
_EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one subcommand.

    Args:
        argv: words after the program's name; None takes the process's.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command, code = None, 0
    try:
        streams.prepare_streams()
        command, parser = _parser(words)
        try:
            args = parser.parse_args(words)
        except SystemExit:
            # Help or a message was printed, and argparse ignores that it could not be.
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
            f"keras-mtl {command} needs the package {error.name} here, and it is not installed; "
            "install keras_mtl with its dependencies. An engine file (`keras-mtl export --format "
            "engine`) is translated, scored and measured without them"
        )
    except BrokenPipeError:
        # The reader of our output has gone (`| head`); nothing is wrong.
        streams.discard(sys.stdout)
        return 0
    except OSError as error:
        remedy = _REPAIRABLE_ERRNOS.get(error.errno or 0)
        if remedy is None:
            raise
        return _fail(f"{error.filename}: {remedy}" if error.filename else remedy)
    except KeyboardInterrupt:
        _say("interrupted")
        return _EXIT_INTERRUPTED


def _parser(words: Sequence[str]) -> tuple[str | None, argparse.ArgumentParser]:
    """The parser for `words`, with the arguments of only the chosen subcommand.

    Only that one is imported, so that help costs nothing and a subcommand that is broken does not
    break the others.
    """
    parser = argparse.ArgumentParser(
        prog="keras-mtl",
        description="Train one Keras model on many tasks with adaptive schedules.",
        formatter_class=_HelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"keras_mtl {keras_mtl.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command")
    # No option of the main parser takes a value, so the first bare word is the subcommand.
    command = next((word for word in words if not word.startswith("-")), None)
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


def _add_imports(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--import",
        dest="imports",
        metavar="MODULE",
        action="append",
        default=[],
        help="plug-in to import first, as my_package.schedules or path/to/my_schedules; a run "
        "remembers it; may be given several times",
    )


def _load_plugins(args: argparse.Namespace) -> None:
    """Imports plug-ins before a subcommand looks up what they register.

    Raises:
        ConfigError: one of them cannot be imported.
    """
    plugins.load_entry_points()
    plugins.load(args.imports)
    if getattr(args, "model_dir", None):
        plugins.load_saved(args.model_dir)


class _HelpFormatter(argparse.HelpFormatter):
    """Shows a default value if there is one, and fits the subcommands into a column."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=28)

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        # argparse measures subcommands without their own indent and breaks the longest line.
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment

    def _get_help_string(self, action: argparse.Action) -> str:
        text = action.help or ""
        has_default = action.default not in (None, False, [], "", argparse.SUPPRESS)
        if not has_default or "%(default)" in text or not action.option_strings:
            return text
        return f"{text} (default: %(default)s)"


def _prepare_libraries() -> None:
    """Chooses Keras' backend, and keeps start-up messages off the terminal unless asked for.

    Raises:
        ConfigError: the environment asks for another backend.
    """
    # The environment wins over ~/.keras/keras.json, whose backend may be another one.
    backend = os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise errors.ConfigError(
            f"KERAS_BACKEND={backend!r}: keras_mtl runs on 'tensorflow'; unset the variable"
        )
    # Level 3 also hides the "errors" of looking for a GPU that is not there; what really fails
    # raises an exception.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        from absl import logging as absl_logging
    except ModuleNotFoundError:  # Without TensorFlow, the engine translates.
        return
    absl_logging.set_verbosity(absl_logging.ERROR)
    # TensorFlow warns of each new shape that a function is traced for.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _fail(message: str) -> int:
    try:
        sys.stdout.flush()
    except OSError:  # Standard output itself is what failed.
        streams.discard(sys.stdout)
    _say(f"error: {message}")
    return _EXIT_USER


def _say(line: str) -> None:
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr)
    streams.flush_error()


if __name__ == "__main__":
    sys.exit(main())
