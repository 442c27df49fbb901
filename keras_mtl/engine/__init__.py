"""The Python side of the C++ engine. Only `load_ops` imports TensorFlow.

| module | contents |
|---|---|
| `library` | the C++ core: loading, version, instruction set |
| `ops` | the TensorFlow operations: loading, version |
| `engine` | `Engine`, an open model file that translates |
| `hypothesis` | `Hypothesis`, one result of a search |
| `model_file` | reading and writing model files |
| `arrays` | the weights of a model as named arrays |
| `arguments` | conversion of token ids and beam search options for C++ |

Each name below loads its module on first use, so `import keras_mtl.engine` is cheap.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_mtl.engine.engine import Engine
    from keras_mtl.engine.hypothesis import Hypothesis
    from keras_mtl.engine.library import NativeError
    from keras_mtl.engine.model_file import is_model_file, open_model_file, write_model_file
    from keras_mtl.engine.ops import load_ops, ops_are_available

_MODULES = {
    "Engine": "engine",
    "Hypothesis": "hypothesis",
    "NativeError": "library",
    "is_model_file": "model_file",
    "load_ops": "ops",
    "open_model_file": "model_file",
    "ops_are_available": "ops",
    "write_model_file": "model_file",
}

__all__ = [
    "Engine",
    "Hypothesis",
    "NativeError",
    "is_model_file",
    "load_ops",
    "open_model_file",
    "ops_are_available",
    "write_model_file",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
