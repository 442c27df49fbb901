"""A hook of MkDocs: puts the help of each subcommand into `docs/reference/commands.md`.

A line `<!-- help COMMAND -->` of a page is replaced by what `keras-mtl COMMAND --help` prints,
so the page cannot differ from the program.
"""

import os
import re
from typing import Any

from keras_mtl.cli import main

_MARK = re.compile(r"^<!-- help ([\w-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replaces the marks of a page; MkDocs calls it with the text of each page."""
    return _MARK.sub(lambda match: _help(match[1]), markdown)


def _help(command: str) -> str:
    """Returns the help of a subcommand as a fenced block."""
    os.environ["COLUMNS"] = "84"  # the width of a page; argparse reads it
    _, parser = main._parser([command])
    # The parser of the subcommand, which argparse keeps among its actions.
    (subparsers,) = (a for a in parser._actions if a.dest == "command")
    text = subparsers.choices[command].format_help()  # type: ignore[index, call-overload]
    return f"```text\n{text.rstrip()}\n```"
