"""Which way imports go, and what they cost."""

import ast
import pathlib

import keras_mtl
from keras_mtl.cli.main import COMMANDS

PACKAGE = pathlib.Path(keras_mtl.__file__).parent

# Each room imports from rooms before it and from itself. The longest name that fits a module
# counts.
ROOMS = (
    ("errors", "files", "hardware", "interrupts", "messages", "run_files"),
    ("remote_files",),
    ("events",),
    ("figures.charts", "figures.attention"),
    ("configuration.components", "metrics"),
    ("configuration",),
    ("engine",),
    ("schedules",),
    ("data",),
    ("quantization",),
    ("layers",),
    ("models",),
    ("balancing",),
    ("decoding",),
    ("export",),
    ("evaluation",),
    ("training.run.modes",),
    ("training.step",),
    ("training.run",),
    ("training.fit",),
    ("training",),
    ("garden",),
    ("simulation",),
    ("proposal",),
    ("figures",),
    ("report",),
    ("tpu_check",),
    ("api",),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(ROOMS) for name in names}

# What a user must be able to load without waiting four seconds for TensorFlow.
FREE_OF_TENSORFLOW = (
    *("errors", "files", "hardware", "interrupts", "messages", "run_files", "remote_files"),
    *("events", "metrics"),
    "configuration",
    *("engine", "schedules", "data", "figures", "simulation", "proposal", "report", "cli", "api"),
    # What translates with an engine file, and what finds out which model a path holds.
    *("decoding.checkpoint_files", "decoding.engine_file", "decoding.engine_search"),
    *("decoding.engine_translator", "decoding.model_kinds", "decoding.native_beam_search"),
    *("decoding.options", "decoding.scoring", "decoding.tasks", "decoding.text_translator"),
    "decoding.translators",
    *("tpu_check.chips", "tpu_check.compile_hlo", "tpu_check.compiler", "tpu_check.report"),
    *("tpu_check.results", "tpu_check.search"),
)
HEAVY = ("tensorflow", "keras", "tf_keras", "tensorflow_text", "official", "orbit")


def modules(room=None):
    """Yields the path and the dotted name, without ``keras_mtl.``, of each module of a room."""
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")
        if room is None or is_in(name, room):
            yield path, name


def is_in(name, room):
    return name == room or name.startswith(f"{room}.")


def rank(name):
    """The place of a module's room in `ROOMS`; None for a module in none of them."""
    fitting = [room for room in RANK if is_in(name, room)]
    return RANK[max(fitting, key=len)] if fitting else None


def imported_modules(tree):
    """Yields (module or name in one, line) of every import of our own, also inside functions."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            package, _, rest = name.partition(".")
            if package == "keras_mtl" and rest:
                yield rest, node.lineno


def circles(imports):
    """Returns the sets of modules of which each reaches each other one.

    Args:
      imports: names of the modules that a module imports, by its name.
    """
    reached = {}
    for start in imports:
        reached[start], waiting = set(), [start]
        while waiting:
            new = imports[waiting.pop()] - reached[start]
            reached[start] |= new
            waiting += new
    found = []
    for name in imports:
        circle = {other for other in reached[name] if name in reached[other]}
        if name in circle and circle not in found:
            found.append(circle)
    return found


def test_every_import_points_to_an_earlier_room():
    wrong = []
    for path, name in modules():
        if name == "__init__":
            continue
        own = rank(name)
        assert own is not None, f"{path}: in no room; add it to ROOMS"
        for imported, line in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
            if (rank(imported) or 0) > own:
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {name} imports {imported}")
    assert not wrong, "\n".join(wrong)


def test_no_subcommand_imports_another():
    """What two subcommands share belongs to a helper module of `cli` or to a lower room."""
    subcommands = {command.module.removeprefix("keras_mtl.") for command in COMMANDS.values()}
    wrong = []
    for path, name in modules("cli"):
        for imported, line in imported_modules(ast.parse(path.read_text(encoding="utf-8"))):
            other = next((known for known in subcommands if is_in(imported, known)), None)
            if other not in (None, name):
                wrong.append(f"{path.relative_to(PACKAGE)}:{line}: {name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle():
    """Counts every import, also inside functions and for type checking."""
    known = {name for _, name in modules()}
    imports = {}
    for path, name in modules():
        found = imported_modules(ast.parse(path.read_text(encoding="utf-8")))
        # A name of a module, or the module itself.
        targets = {t if t in known else t.rpartition(".")[0] for t, _ in found}
        imports[name] = targets & known - {name}
    found = circles(imports)
    assert not found, f"modules that import each other: {[sorted(circle) for circle in found]}"


def test_circles_are_found():
    imports = {"a": {"b", "d"}, "b": {"c"}, "c": {"a"}, "d": {"e"}, "e": set()}
    assert circles(imports) == [{"a", "b", "c"}]


def test_the_package_imports_nothing_of_its_own():
    """Otherwise `import keras_mtl` would load what it promises to load later."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            assert not list(imported_modules(node))


def test_rooms_that_are_free_of_tensorflow(run_python):
    names = []
    for room in FREE_OF_TENSORFLOW:
        names += [f"keras_mtl.{name}" for _, name in modules(room)]
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]:\n"
        "    importlib.import_module(name)\n"
        f"    loaded = [heavy for heavy in {HEAVY} if heavy in sys.modules]\n"
        "    assert not loaded, f'{name} imports {loaded}'\n"
    )
    done = run_python(code, *names)
    assert done.returncode == 0, done.stderr


def test_the_package_loads_nothing_heavy(run_python):
    code = (
        "import sys\n"
        "import keras_mtl\n"
        f"loaded = [heavy for heavy in {(*HEAVY, 'numpy')} if heavy in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    done = run_python(code)
    assert done.returncode == 0, done.stderr
