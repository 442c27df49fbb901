"""Docstrings: every example runs, and those of public objects are complete."""

import ast
import doctest
import inspect
import os
import re
from pathlib import Path

import pytest

import keras_mtl
from tests import processes

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_mtl"
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises|Example):\n", re.MULTILINE)


def examples():
    """Returns the Python blocks and the sessions (``>>>``) of all docstrings of the package."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                name = f"{path.relative_to(PACKAGE)}:{getattr(node, 'name', '')}"
                found += [pytest.param(inspect.cleandoc(c), id=name) for c in BLOCK.findall(text)]
                if ">>> import" in text:
                    found.append(pytest.param(text, id=name))
    return found


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A directory with a small ``configs/demo.yaml``, its run ``runs/demo`` and ``demo.kmtl``."""
    text = (ROOT / "configs" / "demo.yaml").read_text(encoding="utf-8")
    for old, new in {
        "pairs: 14000": "pairs: 900",
        "size: 3000": "size: 900",
        "train_steps: 1000": "train_steps: 2",
        "checkpoint_interval: 500": "checkpoint_interval: 1",
        "interval: 250": "interval: 2",
        "max_pairs: 100\n": "max_pairs: 2\n",
        "test_pairs: 300": "test_pairs: 2",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    root = tmp_path_factory.mktemp("demo")
    (root / "configs").mkdir()
    (root / "configs" / "demo.yaml").write_text(text, encoding="utf-8")
    processes.run(make_demo, root)
    return root


def make_demo(root):
    processes.execute_eagerly()
    keras_mtl.train(keras_mtl.load_config(root / "configs" / "demo.yaml"), root / "runs" / "demo")
    keras_mtl.export_model(root / "runs" / "demo", root / "demo.kmtl", format="engine")


def run_in(directory, code):
    os.chdir(directory)
    exec(compile(code, "example", "exec"), {})


@pytest.fixture
def registries(monkeypatch):
    """Forgets what an example registers."""
    from keras_mtl import metrics
    from keras_mtl.balancing.registry import METHODS
    from keras_mtl.configuration import presets
    from keras_mtl.layers.registry import FEED_FORWARDS, NORMS
    from keras_mtl.schedules.registry import SCHEDULES

    for registry in (SCHEDULES, METHODS, FEED_FORWARDS, NORMS):
        monkeypatch.setattr(registry, "classes", dict(registry.classes))
    monkeypatch.setattr(presets, "_PRESETS", dict(presets._PRESETS))
    monkeypatch.setattr(metrics.registry, "_METRICS", dict(metrics.registry._METRICS))


@pytest.mark.parametrize("code", examples())
def test_the_example_runs(code, registries, request, tmp_path, monkeypatch):
    if "demo" in code:
        # Training sets the determinism and the precision of its process.
        processes.run(run_in, request.getfixturevalue("demo"), code)
        return
    monkeypatch.chdir(tmp_path)
    if ">>>" in code:
        session = doctest.DocTestParser().get_doctest(code, {}, "example", None, None)
        results = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(session)
        assert results.attempted > 1
        assert results.failed == 0
    else:
        exec(compile(code, "example", "exec"), {})


def public_objects():
    """Yields (name, object) of the public names and of what the public packages list."""
    for name in keras_mtl._DEFINED_IN:
        yield name, getattr(keras_mtl, name)
    for package in keras_mtl._NAMESPACES:
        module = getattr(keras_mtl, package)
        for name in getattr(module, "__all__", ()):
            yield f"{package}.{name}", getattr(module, name)


def parameters_of(value):
    """Returns the names of the parameters that a docstring must describe."""
    skipped = {"self", "cls", "args", "kwargs", "shared", "parameters"}
    try:
        return [name for name in inspect.signature(value).parameters if name not in skipped]
    except (TypeError, ValueError):
        return []


# Objects that take the documented arguments of their base class.
INHERITED = {"BeamOptions", "layers.Dense"}


def test_public_objects_are_described():
    """They have a summary of one line and describe every parameter."""
    problems = []
    for name, value in public_objects():
        if not (inspect.isclass(value) or inspect.isfunction(value)):
            continue
        text = inspect.getdoc(value) or ""
        summary, _, rest = text.partition("\n")
        if not summary.endswith(".") or (rest and not rest.startswith("\n")):
            problems.append(f"{name}: its docstring needs a summary of one line")
        for parameter in parameters_of(value):
            if name not in INHERITED and not re.search(
                rf"^ +\*{{0,2}}{parameter}: ", text, re.MULTILINE
            ):
                problems.append(f"{name}: describe {parameter}")
    assert not problems, "\n".join(problems)


# Where the example of a name is, if not in its own docstring.
EXAMPLE_ELSEWHERE = {
    "Bucket": "Mixture",
    "ScheduleTaskSampler": "docs/how-to/model_garden.md, which tests/test_docs_pages.py runs",
}


def test_every_public_name_has_an_example():
    without = {
        name
        for name in keras_mtl._DEFINED_IN
        if not re.search("```python|>>> import", getattr(keras_mtl, name).__doc__)
    }
    assert without == set(EXAMPLE_ELSEWHERE)
