"""The pages of the documentation: form, words, and where their figures come from.

`tests/test_docs_pages.py` runs their examples.
"""

import itertools
import re
import shlex
from pathlib import Path

import pytest

from keras_mtl.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
TEXTS = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES]
HEADS = [f"configs/{path.name}" for path in sorted((ROOT / "configs").glob("*.yaml"))]
FENCED = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)

# What the style guide replaces, and British spelling.
WORDS = re.compile(
    r"\b(goes on|going on|beside|anew|once more|shall|so many|as many|by itself|weighed|whilst"
    r"|told (?:together|apart)|puts forward|takes the place|asks for it|the latter|the former"
    r"|behaviour|colour|favour\w*|neighbour\w*|centre|catalogue\w*|licence|labell\w+|modell\w+"
    r"|cancell(?:ed|ing)"
    r"|(?:normal|organ|optim|real|recogn|initial|general|token|serial|minim|maxim)is\w+)\b",
    re.IGNORECASE,
)
# A cell of a measured table: 12, 1,234, 3.5 %, +0.05, 31.2 ± 0.3, 47 (980), with or without bold.
NUMBER = re.compile(r"^\**[−+-]?\d[\d,.]*\s?%?( ± [\d.]+)?( \([\d,.]+\))?\**$")
COMMAND = re.compile(r"python ((?:benchmarks|docs/examples)/\w+\.py)|keras-mtl ([a-z-]+) --\w")


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def without_code(text):
    return FENCED.sub("", text)


@pytest.mark.parametrize("page", PAGES)
def test_the_first_paragraph_says_who_needs_the_page(page):
    title, first = read(page).split("\n\n")[:2]
    assert title.startswith("# ")
    assert "\n" not in title
    if page != "docs/index.md":
        assert re.match(r"This (page|tutorial) is for ", first), first


@pytest.mark.parametrize("page", TEXTS)
def test_lines_are_short(page):
    """Rows of tables, pictures and code cannot be wrapped."""
    for line in without_code(read(page)).splitlines():
        if " " in line and not line.startswith(("|", "  |", "![", ":::")):
            assert len(line) <= 100, line


@pytest.mark.parametrize("page", TEXTS)
def test_code_is_in_fences(page):
    """Not in indented blocks, which have no language and no highlighting."""
    paragraphs = re.split(r"\n\s*\n", without_code(read(page)))
    for before, after in itertools.pairwise(paragraphs):
        in_list = re.match(r"\s*([*-]|\d+\.) |  ", before)
        assert in_list or not after.startswith("    "), after


@pytest.mark.parametrize("page", [*TEXTS, *HEADS])
def test_words(page):
    text = without_code(read(page))
    assert not WORDS.search(text), WORDS.search(text)


def measured_tables(text):
    """The tables in which most cells after the first column are numbers, with their sections."""
    for section in re.split(r"^(?=#+ )", text, flags=re.MULTILINE):
        for table in re.findall(r"(?:^ *\|.*\n)+", section, re.MULTILINE):
            rows = [row.strip().strip("|").split("|") for row in table.splitlines()[2:]]
            cells = [cell.strip() for row in rows for cell in row[1:]]
            filled = [cell for cell in cells if cell]
            if sum(bool(NUMBER.match(cell)) for cell in filled) > len(filled) / 2:
                yield section[: section.index(table) + len(table)]


def test_measured_tables_are_found():
    pages = {page for page in PAGES if list(measured_tables(read(page)))}
    assert {
        "docs/explanation/engine.md",
        "docs/explanation/measured_schedules.md",
        "docs/how-to/evaluation.md",
        "docs/how-to/tensorflow_ops.md",
        "docs/reference/corpora.md",
        "docs/reference/schedules.md",
    } <= pages


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_each_table_of_figures_names_the_command_that_makes_it(page):
    for section in measured_tables(read(page)):
        found = COMMAND.findall(section.replace("\\\n", " "))
        assert found, section[-400:]
        for script, command in found:
            assert (ROOT / script).is_file() if script else command in COMMANDS


@pytest.mark.parametrize("page", TEXTS)
def test_scripts_and_configurations_that_are_named_exist(page):
    """Each script also says at its head how to call it."""
    text = read(page)
    for script in re.findall(r"\b((?:benchmarks|docs/examples|scripts)/\w+\.(?:py|sh))", text):
        assert (ROOT / script).is_file(), script
    for script in re.findall(r"python (benchmarks/\w+\.py)", text):
        assert f"python {script}" in read(script), script
    for config in re.findall(r"\bconfigs/\w+\.yaml", text):
        assert (ROOT / config).is_file(), config


def test_every_subcommand_is_in_the_reference_of_commands():
    marks = re.findall(
        r"^<!-- help ([\w-]+) -->$", read("docs/reference/commands.md"), re.MULTILINE
    )
    assert sorted(marks) == sorted(COMMANDS)


def commands_of_pages():
    """Every command line of the pages that begins with `keras-mtl`."""
    for page in TEXTS:
        for block in re.findall(
            r"^( *)```bash\n(.*?)^\1```$", read(page), re.DOTALL | re.MULTILINE
        ):
            for line in block[1].replace("\\\n", " ").splitlines():
                if line.strip().startswith("keras-mtl "):
                    yield pytest.param(line.strip(), id=f"{page}: {line.strip()}"[:90])


@pytest.mark.parametrize("line", list(commands_of_pages()))
def test_commands_parse(line):
    from keras_mtl.cli.main import _parser

    words = shlex.split(re.split(r" [<>|] ", line)[0], comments=True)[1:]
    if "--help" in words or "--version" in words:
        return
    command, parser = _parser(words)
    assert command in COMMANDS
    parser.parse_args(words)
