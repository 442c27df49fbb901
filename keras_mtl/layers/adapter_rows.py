"""Which adapters the rows of a batch use."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class AdapterRows:
    """The index of the adapter of each row, for each set of adapters; -1 for none.

    An index is int32 `[batch]`; or `[batch, time]` if a row holds several sentence pairs; or `[1]`
    if all rows use the same adapter, which is the cheapest.

    Attributes:
        own: for the positions of the stack.
        memory: for the positions of the memory that a decoder attends to.
    """

    own: tuple[tf.Tensor, ...]
    memory: tuple[tf.Tensor, ...] = ()
