"""ARCHITECTURE.md and CONTRIBUTING.md: what they name exists, and no room is missing."""

import re
from pathlib import Path

import pytest
import yaml

from tests import test_import_rules

ROOT = Path(__file__).parents[1]
# In an indented command, in backticks, or a line of a fenced block.
MAKE = re.compile(r"(?:^    |`|^(?=make \S+ *(?:#|$)))make ([a-z][\w-]*)", re.MULTILINE)
PAGES = ("ARCHITECTURE.md", "CONTRIBUTING.md")
# Not `data` and `runs`, which the commands of the documentation create: `data/` is a room, too.
TOP = ("benchmarks/", "cc/", "configs/", "docs/", "keras_mtl/", "scripts/", "tests/")


def text_of(page):
    return (ROOT / page).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", PAGES)
def test_every_path_exists(page):
    named = set(re.findall(r"`((?:[\w.-]+/)*[\w.-]*)`", text_of(page)))
    paths = [name for name in named if name.startswith(TOP) or Path(name).suffix == ".toml"]
    assert len(paths) > 12
    for path in paths:
        assert (ROOT / path).exists(), path
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text_of(page)):
        assert (ROOT / target).exists(), target


def rooms_of_the_page():
    """Names in the first column of the table of rooms, in its order."""
    table = text_of("ARCHITECTURE.md").split("| room |")[1].split("\n\n")[0]
    rows = [row for row in table.splitlines() if row.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`(\w+)`", row.split("|")[1])]


def test_the_table_of_rooms_is_complete_and_in_order():
    listed = rooms_of_the_page()
    package = ROOT / "keras_mtl"
    existing = {
        path.stem
        for path in package.iterdir()
        if (path / "__init__.py").exists() or path.suffix == ".py"
    }
    assert sorted(listed) == sorted(existing - {"__init__", "__main__"})
    # A room may import from the rooms above it: the order of the import test allows that.
    ranks = {name: test_import_rules.rank(name) for name in listed}
    for name in listed:
        if ranks[name] is None:  # A package whose parts have ranks of their own.
            parts = [r for room, r in test_import_rules.RANK.items() if room.startswith(f"{name}.")]
            ranks[name] = max(parts)
    assert [ranks[name] for name in listed] == sorted(ranks.values())


def test_rooms_marked_free_of_tensorflow_are_tested():
    table = text_of("ARCHITECTURE.md").split("| room |")[1].split("\n\n")[0]
    marked = [
        name
        for row in table.splitlines()
        if row.startswith("| `") and "†" in row.split("|")[1]
        for name in re.findall(r"`(\w+)`", row.split("|")[1])
    ]
    # Of other rooms, only single modules are free of it.
    tested = {name for name in test_import_rules.FREE_OF_TENSORFLOW if "." not in name}
    assert set(marked) == tested


def test_make_targets_exist():
    makefile = text_of("Makefile")
    targets = set(re.findall(r"^([\w./-]+):", makefile, re.M))
    for page in (*PAGES, "README.md", "docs/how-to/install.md"):
        text = text_of(page)
        for target in MAKE.findall(text):
            assert target in targets, f"{page}: make {target}"


def test_the_hosted_workflow_runs_make_targets():
    """Every command of the workflow is a target of the Makefile, on each supported Python."""
    workflow = yaml.safe_load(text_of(".github/workflows/ci.yml"))
    commands = [
        step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step
    ]
    targets = set(re.findall(r"^([\w./-]+):", text_of("Makefile"), re.M))
    assert commands
    for command in commands:
        found = re.fullmatch(r"make ([\w-]+|\$\{\{.*\}\}) PYTHON=python", command)
        assert found, command
        # An expression chooses one of two targets by the event.
        named = re.findall(r"(?:&&|\|\|) '([\w-]+)'", found[1]) or [found[1]]
        assert set(named) <= targets, command
    pythons = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    first, end = re.findall(
        r"requires-python = \">=3\.(\d+),<3\.(\d+)\"", text_of("pyproject.toml")
    )[0]
    assert pythons == [f"3.{minor}" for minor in range(int(first), int(end))]


def test_the_hooks_run_locked_programs():
    """`pre-commit` runs programs of .venv, so each is a locked package."""
    hooks = yaml.safe_load(text_of(".pre-commit-config.yaml"))["repos"][0]["hooks"]
    locked = set(re.findall(r"^([\w-]+)==", text_of("requirements.lock"), re.M))
    names = [hook["entry"].split()[0] for hook in hooks]
    assert len(names) >= 4
    for name in names:
        assert name.startswith(".venv/bin/"), name
        assert name.removeprefix(".venv/bin/") in locked, name
