"""Which way imports go, and what they cost."""

import ast
import pathlib

import pytest

import keras_mtl

PACKAGE = pathlib.Path(keras_mtl.__file__).parent

# Left to right: each room imports from rooms before it and from itself.
ROOMS = (
    ("errors", "files", "hardware", "interrupts"),
    ("components", "search_options", "metrics"),
    (
        *("yaml_loader", "plugins", "config_paths", "sublayers"),
        *("config", "overrides", "validation", "experiments", "registry"),
    ),
    ("native",),
    ("schedules",),
    ("data",),
    ("layers",),
    ("models",),
    ("balancing",),
    ("decoding",),
    ("quantization",),
    ("export",),
    ("training",),
    ("garden",),
    ("charts",),
    ("plotting",),
    ("simulation",),
    ("report",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}

# Modules of data/ and others that a machine without TensorFlow's four seconds must be able to load.
FREE_OF_TENSORFLOW = (
    *(
        "errors",
        "files",
        "hardware",
        "interrupts",
        "components",
        "search_options",
        "metrics",
        "yaml_loader",
        "plugins",
        "config_paths",
        "sublayers",
        "native",
        "schedules",
    ),
    *("data", "charts", "plotting", "simulation", "report", "cli"),
)
HEAVY = ("tensorflow", "keras", "tf_keras", "tensorflow_text", "official", "orbit")


def modules(room=None):
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if room is None or parts[0] == room:
            yield path, parts


def imported_rooms(tree):
    """Yields (room, line) of every import of our own, wherever in the file it stands."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            if node.module == "keras_mtl":
                names = [f"keras_mtl.{alias.name}" for alias in node.names]
            else:
                names = [node.module or ""]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "keras_mtl" and rest:
                yield rest.split(".")[0], node.lineno


def test_every_import_points_left():
    wrong = []
    for path, parts in modules():
        if parts[0] == "__init__":
            continue
        assert parts[0] in RANK, f"{path}: room {parts[0]!r} is in no list; add it to ROOMS"
        for room, line in imported_rooms(ast.parse(path.read_text(encoding="utf-8"))):
            if RANK.get(room, len(ROOMS)) > RANK[parts[0]]:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {parts[0]} imports {room}")
    assert not wrong, "\n".join(wrong)


def test_the_package_imports_nothing_of_its_own():
    """Otherwise `import keras_mtl` would load what it promises to load later."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    assert not list(imported_rooms(tree))


def test_rooms_that_are_free_of_tensorflow(run_python):
    names = []
    for room in FREE_OF_TENSORFLOW:
        for _, parts in modules(room):
            names.append(".".join(["keras_mtl", *parts]).removesuffix(".__init__"))
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = [heavy for heavy in {HEAVY} if heavy in sys.modules]\n"
        "    assert not loaded, f'{name} imports {loaded}'\n"
    )
    done = run_python(code, *names)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("attempts", [3])
def test_import_is_fast(run_python, attempts):
    """`import keras_mtl` stays below 0.2 s; the best of a few, because a machine may be busy."""
    code = (
        "import sys, time\n"
        "start = time.perf_counter()\n"
        "import keras_mtl\n"
        "print(time.perf_counter() - start)\n"
        f"assert not [heavy for heavy in {HEAVY} if heavy in sys.modules]\n"
    )
    seconds = []
    for _ in range(attempts):
        done = run_python(code)
        assert done.returncode == 0, done.stderr
        seconds.append(float(done.stdout))
    assert min(seconds) < 0.2


def test_no_file_is_longer_than_500_lines():
    """A file that wants to be longer holds two ideas."""
    root = PACKAGE.parent
    folders = [PACKAGE, root / "tests", root / "cc", root / "benchmarks"]
    files = [p for folder in folders for p in folder.rglob("*") if p.suffix in (".py", ".cc", ".h")]
    long = {
        str(p.relative_to(root)): n for p in files if (n := len(p.read_text().splitlines())) > 500
    }
    assert not long
