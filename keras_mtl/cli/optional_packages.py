"""Makes the import of Keras faster: packages that it imports only if they are installed.

Keras imports matplotlib, OpenCV, pandas and scikit-learn, if installed, for plots, drawings, data
frames and wrappers that the program does not use. They are installed because tf-models-official
depends on them, and take a third of the time of `import tensorflow`.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import FrameType, ModuleType

_OPTIONAL = frozenset({"cv2", "matplotlib", "pandas", "sklearn"})


def hide_from_keras() -> None:
    """Lets Keras start as if its optional packages were not installed.

    All other modules can import them. It acts on imports after the call.
    """
    if _HIDING not in sys.meta_path:
        sys.meta_path.insert(0, _HIDING)


class _HidingFinder:
    """A finder that knows no module, but refuses those that Keras asks for and can do without."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in _OPTIONAL and _importer().startswith("keras.src."):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


_HIDING = _HidingFinder()


def _importer() -> str:
    """Returns the name of the module that executes the import statement."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if not name.startswith("importlib."):
            return name
        frame = frame.f_back
    return ""
