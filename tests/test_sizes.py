"""No file and no function is longer than a reader can hold in mind."""

import ast
import pathlib

ROOT = pathlib.Path(__file__).parent.parent
PYTHON_DIRECTORIES = ("keras_mtl", "tests", "benchmarks", "scripts")
# A file that wants to be longer holds two ideas, and so does a function.
FILE_LINES = 500
FUNCTION_LINES = 80


def files(directories, suffixes):
    for directory in directories:
        for path in sorted((ROOT / directory).rglob("*")):
            if path.suffix in suffixes:
                yield path


def long_functions(tree):
    """Yields the name and the number of lines of each long function.

    Decorators count. The docstring does not: it describes every argument and has an example.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            text = node.body[0] if ast.get_docstring(node) is not None else None
            lines = node.end_lineno - first + 1
            if text is not None:
                lines -= text.end_lineno - text.lineno + 1
            if lines > FUNCTION_LINES:
                yield node.name, lines


def test_no_file_is_too_long():
    long = {}
    for path in files((*PYTHON_DIRECTORIES, "cc"), (".py", ".cc", ".h")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > FILE_LINES:
            long[str(path.relative_to(ROOT))] = lines
    assert not long


def test_no_function_is_too_long():
    long = {}
    for path in files(PYTHON_DIRECTORIES, (".py",)):
        for name, lines in long_functions(ast.parse(path.read_text(encoding="utf-8"))):
            long[f"{path.relative_to(ROOT)}:{name}"] = lines
    assert not long
