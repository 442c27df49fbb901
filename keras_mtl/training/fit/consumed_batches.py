"""The number of batches that a model was trained on, saved and restored with its weights.

An optimizer's iterations are not that number: loss scaling skips updates, gradient accumulation
does one update for several batches, and a backup may be made between two updates.
"""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras.src.saving.keras_saveable import KerasSaveable  # It has no public name.

# Also names the group in weight files, so it stays as it is.
_ATTRIBUTE = "_keras_mtl_consumed_batches"
_KEY = "batches"


class ConsumedBatches(KerasSaveable):
    """Part of what `save_weights` and `save` write of a model and `load_weights` reads.

    Keras saves every saveable attribute of a model, so the number is in the files of
    `BackupAndRestore` and `ModelCheckpoint`. It is not a variable: the model's weights, its
    configuration and what is exported do not change, and a model without the attribute loads the
    file too.

    Args:
        count: returns the number of batches that the weights have seen.
        on_save: called with that number before the weights are written.
    """

    def __init__(self, count: Callable[[], int], on_save: Callable[[int], None]) -> None:
        self._count = count
        self._on_save = on_save
        self._restored: int | None = None

    def attach(self, model: keras.Model) -> None:
        """Makes this the number of a model, in place of an earlier one."""
        setattr(model, _ATTRIBUTE, self)

    @property
    def restored(self) -> int | None:
        """The number that came with weights since the last `forget`; None if there was none."""
        return self._restored

    def forget(self) -> None:
        """Forgets the restored number, which training has taken in."""
        self._restored = None

    def save_own_variables(self, store: Any) -> None:
        """Writes the number; called by Keras."""
        count = self._count()
        self._on_save(count)
        store[_KEY] = np.array(count, np.int64)

    def load_own_variables(self, store: Any) -> None:
        """Reads the number; called by Keras. Weights of older versions have none."""
        self._restored = int(np.asarray(store[_KEY])) if _KEY in store else None

    def _obj_type(self) -> str:
        # Keras knows a fixed list of kinds. Of a loss it expects no variables and no children.
        return "Loss"
