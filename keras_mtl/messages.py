"""Lines for the user: messages on standard error, and tables."""

import sys
from collections.abc import Sequence


def to_stderr(line: str) -> None:
    """Prints a line to standard error and flushes it."""
    print(line, file=sys.stderr, flush=True)


def table_lines(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns the lines of a table; columns of numbers are right-aligned."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    is_number = [
        bool(rows)
        and all(row[i].lstrip("+-")[:1].isdigit() or row[i] in ("-", "all") for row in rows)
        for i in range(len(header))
    ]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, is_number, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines
