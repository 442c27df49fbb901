"""The page of a simulation."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_mtl import charts
from keras_mtl.files import replace_file
from keras_mtl.report import page
from keras_mtl.simulation.comparison import (
    MOST_TASKS_IN_TABLE,
    Played,
    group_table,
    task_table,
)


def write_simulation_page(
    path: str | os.PathLike[str], figure: Any, played: Sequence[Played], notes: Sequence[str]
) -> Path:
    """Writes a self-contained page.

    Args:
      path: the file.
      figure: of `keras_mtl.simulation.picture.draw_comparison`.
      played: what came of each schedule.
      notes: how the numbers were made.

    Returns:
      The path.
    """
    label = "Probabilities and score / baseline over steps, a row for each schedule"
    svg = charts.to_svg(figure, "simulation", label)
    picture = f'<div class="panels"><figure class="wide">{svg}</figure></div>'
    header, rows = group_table(played)
    tables = [page.section("In the end", _table(header, rows))]
    tasks = played[0].schedule.tasks
    if len(tasks) <= MOST_TASKS_IN_TABLE:
        note = "Score / baseline, share of batches, passes over the data."
        tables.append(page.section("Task by task", _table(*task_table(played)), note=note))
    body = "".join([*tables, page.section("Over steps", picture)])
    subtitle = page.escape("; ".join(notes)) + "."
    return replace_file(path, page.page("Schedules simulated", subtitle, body))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return page.table(
        [page.escape(cell) for cell in header],
        [[page.escape(cell) for cell in row] for row in rows],
    )
