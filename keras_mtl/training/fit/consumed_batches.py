"""The number of batches that a model was trained on, saved and restored with its weights.

It differs from the iterations of the optimizer: loss scaling skips updates, gradient accumulation
makes one update from several batches, and a backup may be made between two updates.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras.src.saving.keras_saveable import KerasSaveable  # It has no public name.

# Also the name of the group in weight files, so it must not change.
_ATTRIBUTE = "_keras_mtl_consumed_batches"
_KEY = "batches"


class ConsumedBatches(KerasSaveable):
    """Adds the number of batches to the weight files of a model.

    Keras saves every saveable attribute of a model, so the files of `BackupAndRestore` and
    `ModelCheckpoint` contain the number. It is not a variable: the weights, the configuration and
    the exported model do not change, and a model without the attribute can load the file, too.

    Args:
        count: returns the number of batches that the weights were trained on.
        on_save: called with that number before the weights are written.
    """

    def __init__(self, count: Callable[[], int], on_save: Callable[[int], None]) -> None:
        self._count = count
        self._on_save = on_save
        self._restored: int | None = None

    def attach(self, model: keras.Model) -> None:
        """Attaches this object to a model, instead of an earlier one."""
        setattr(model, _ATTRIBUTE, self)

    @property
    def restored(self) -> int | None:
        """The number loaded with weights since the last call of `forget`, or None."""
        return self._restored

    def forget(self) -> None:
        """Forgets the restored number, once training has used it."""
        self._restored = None

    def save_own_variables(self, store: Any) -> None:
        """Writes the number. Keras calls this."""
        count = self._count()
        self._on_save(count)
        store[_KEY] = np.array(count, np.int64)

    def load_own_variables(self, store: Any) -> None:
        """Reads the number, which weights of older versions do not have. Keras calls this."""
        self._restored = int(np.asarray(store[_KEY])) if _KEY in store else None

    def _obj_type(self) -> str:
        # Keras has a fixed list of types. It expects no variables and no children in a loss.
        return "Loss"
