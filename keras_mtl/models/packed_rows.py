"""Rows that hold several sentence pairs, as `keras_mtl.data.packed_batch` makes them.

Padding is segment 0 and sees only padding, so it changes no pair. If the other side of its row has
no padding, all keys are masked: the attention weights are then arbitrary but finite, and nothing
reads the result.
"""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class PackedRows:
    """Which pair each position of a row belongs to, and its position in the pair.

    Attributes:
        source_segments: int32 `[batch, source_time]`: 1, 2, … for the pairs of a row; 0 on padding.
        target_segments: int32 `[batch, time]`, the numbers of the same pairs.
        source_positions: int32 `[batch, source_time]`: 0, 1, … in each pair; 0 on padding.
        target_positions: int32 `[batch, time]`.
    """

    source_segments: tf.Tensor
    target_segments: tf.Tensor
    source_positions: tf.Tensor
    target_positions: tf.Tensor

    @classmethod
    def of(cls, inputs: dict[str, tf.Tensor]) -> "PackedRows | None":
        """Takes them from the inputs of a model; None if a row holds one pair."""
        if "source_segments" not in inputs:
            return None
        return cls(**{field.name: inputs[field.name] for field in dataclasses.fields(cls)})

    @property
    def source_mask(self) -> tf.Tensor:
        """Which source positions see each other: bool `[batch, source_time, source_time]`."""
        return _same(self.source_segments, self.source_segments)

    @property
    def memory_mask(self) -> tf.Tensor:
        """Which source positions a target position sees: bool `[batch, time, source_time]`."""
        return _same(self.target_segments, self.source_segments)

    @property
    def target_mask(self) -> tf.Tensor:
        """Which target positions are of one pair: bool `[batch, time, time]`."""
        return _same(self.target_segments, self.target_segments)

    def shift(self, target: tf.Tensor, start_id: int) -> tf.Tensor:
        """Moves each target one position to the right, behind a start token.

        Args:
            target: int `[batch, time]`.
            start_id: the start token.

        Returns:
            Ids of the same shape and type.
        """
        return tf.where(
            self.target_positions == 0,
            tf.cast(start_id, target.dtype),
            tf.roll(target, shift=1, axis=1),
        )


def _same(queries: tf.Tensor, keys: tf.Tensor) -> tf.Tensor:
    return queries[:, :, None] == keys[:, None, :]
