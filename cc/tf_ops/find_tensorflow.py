"""Prints the location of TensorFlow as a CMake list: directory, version, C++ ABI flag.

Prints nothing if TensorFlow is not installed. The script does not import TensorFlow: that takes
seconds and may fail on the build machine.
"""

import importlib.metadata
import importlib.util
import mmap
import pathlib
import sys

LIBRARY = "libtensorflow_framework.so.2"


def main() -> int:
    """Runs the script; returns the exit code."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None or not spec.submodule_search_locations:
        return 0
    directory = pathlib.Path(next(iter(spec.submodule_search_locations)))
    if not (directory / LIBRARY).is_file() or not (directory / "include").is_dir():
        return 0
    print(directory, _version(), _abi(directory / LIBRARY), sep=";", end="")
    return 0


def _version() -> str:
    """Returns the version from the metadata of the package that provides the module."""
    for package in importlib.metadata.packages_distributions().get("tensorflow", []):
        if package.startswith("tensorflow"):
            return importlib.metadata.version(package)
    raise SystemExit("TensorFlow has no package metadata. Reinstall it with pip.")


def _abi(library: pathlib.Path) -> int:
    """Returns the value of _GLIBCXX_USE_CXX11_ABI that the library was compiled with."""
    with (
        library.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        return int(content.find(b"NSt7__cxx1112basic_string") >= 0)


if __name__ == "__main__":
    sys.exit(main())
