"""The page of a simulation."""

import os
from collections.abc import Sequence
from pathlib import Path

from keras_mtl.figures import charts
from keras_mtl.figures.simulation import draw_simulations
from keras_mtl.files import replace_file
from keras_mtl.report import page
from keras_mtl.simulation.comparison import (
    MOST_TASKS_IN_TABLE,
    Played,
    Table,
    baseline_notes,
    baseline_table,
    group_tables,
    task_tables,
)


def write_simulation_page(
    path: str | os.PathLike[str], played: Sequence[Played], notes: Sequence[str]
) -> Path:
    """Writes a self-contained page.

    Args:
        path: the file.
        played: the result of each schedule.
        notes: how the numbers were computed.

    Returns:
        The path.
    """
    label = "Probabilities and simulated score / baseline over steps, for each schedule"
    wide = charts.to_svg(draw_simulations(played), "simulation", label)
    narrow = charts.to_svg(draw_simulations(played, columns=1), "simulation-s", label)
    picture = (
        f'<div class="panels"><figure><div class="screen">{wide}</div>'
        f'<div class="telephone">{narrow}</div></figure></div>'
    )
    sections = [_section(title, table) for title, table in group_tables(played).items()]
    if len(played[0].schedule.tasks) <= MOST_TASKS_IN_TABLE:
        note = "<br>".join(page.escape(text) for text in baseline_notes(played))
        sections.append(page.section("Tasks", _table(*baseline_table(played)), note=note))
        for title, table in task_tables(played).items():
            sections.append(_section(title, table))
    sections.append(page.section("Over steps", picture))
    subtitle = page.escape("; ".join(notes)) + "."
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, page.page("Schedules simulated", subtitle, "".join(sections)))
    return path


def _section(title: str, table: Table) -> str:
    return page.section(title[0].upper() + title[1:], _table(*table))


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return page.table(
        [page.escape(cell) for cell in header],
        [[page.escape(cell) for cell in row] for row in rows],
    )
