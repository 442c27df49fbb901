"""`import keras_mtl`: its names resolve, lazily, and they are what the documentation describes."""

import ast
import pathlib

import pytest

import keras_mtl
from keras_mtl import errors

SOURCE = pathlib.Path(keras_mtl.__file__).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", keras_mtl.__all__)
def test_every_name_resolves(name):
    value = getattr(keras_mtl, name)
    if name not in keras_mtl._NAMESPACES and name != "__version__":
        assert value.__name__ == name
        assert value.__module__.startswith("keras_mtl.")
        assert value.__doc__
        # One object, whichever way it is imported.
        assert getattr(keras_mtl, name) is value


def test_namespaces_name_what_they_offer():
    for name in keras_mtl._NAMESPACES:
        module = getattr(keras_mtl, name)
        assert module.__name__ == f"keras_mtl.{name}"
        for member in getattr(module, "__all__", ()):
            assert hasattr(module, member)


def test_dir_lists_them_before_they_are_used(run_python):
    code = "import keras_mtl\nprint(*dir(keras_mtl))"
    listed = run_python(code).stdout.split()
    assert set(keras_mtl.__all__) <= set(listed)
    assert listed == sorted(listed)


def test_star_imports_exactly_the_public_names():
    names: dict[str, object] = {}
    exec("from keras_mtl import *", names)
    assert set(names) - {"__builtins__"} == set(keras_mtl.__all__)
    assert 25 <= len(keras_mtl.__all__) <= 45


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(AttributeError, match=r"no attribute 'Mixtur'; did you mean 'Mixture'\?"):
        keras_mtl.Mixtur  # noqa: B018
    with pytest.raises(ImportError, match="TaskSchedule"):
        from keras_mtl import TaskSchedule  # noqa: F401
    assert not hasattr(keras_mtl, "__wrapped__")


def test_mypy_and_editors_see_the_same_names():
    """The imports under TYPE_CHECKING are the table, name by name and module by module."""
    (block,) = (
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    imported = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        imported |= {alias.name: node.module for alias in node.names}
    table = {name: f"keras_mtl.{module}" for name, module in keras_mtl._DEFINED_IN.items()}
    assert imported == table | dict.fromkeys(keras_mtl._NAMESPACES, "keras_mtl")


@pytest.mark.parametrize(
    "name",
    [
        "ScoreBook",
        "Mixture",
        "ArraySource",
        "BeamOptions",
        "Engine",
        "load_config",
        "train",
        "evaluate",
    ],
)
def test_names_that_need_no_tensorflow_load_none(run_python, name):
    code = (
        "import sys, keras_mtl\n"
        f"keras_mtl.{name}\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr


def test_an_export_that_cannot_be_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(errors.ExportError, match="did you mean 'saved_model'"):
        keras_mtl.export_model("none", tmp_path / "out", format="savedmodel")
    with pytest.raises(errors.ExportError, match="weight_type='int8': a saved_model is float32"):
        keras_mtl.export_model("none", tmp_path / "out", weight_type="int8")
    with pytest.raises(errors.InputError, match="does not accept options"):
        keras_mtl.export_model("none", tmp_path / "out", format="engine", options={"beam_size": 2})
