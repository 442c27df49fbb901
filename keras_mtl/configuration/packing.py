"""Checks of the fields that packed batches have."""

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.schema import DataConfig


def check(draft: Draft, data: DataConfig) -> None:
    """Adds to a draft what is wrong with `task.data.packing` and `task.data.packed_lengths`."""
    field, lengths = "task.data.packed_lengths", data.packed_lengths
    if not data.packing:
        if lengths:
            draft.problem(
                field, f"= {lengths} has no effect without packing; set task.data.packing: true"
            )
        return
    if data.bucket_lengths:
        draft.problem(
            "task.data.bucket_lengths",
            f"= {data.bucket_lengths}: packed batches have one shape; remove it, or set "
            "task.data.packing: false",
        )
    if not lengths:
        return
    if len(lengths) != 2 or min(lengths) < data.max_length:
        draft.problem(
            field,
            f"= {lengths}: expected the source and the target tokens of a row, each at least "
            f"task.data.max_length = {data.max_length}",
        )
    elif max(lengths) > data.tokens_per_batch:
        draft.problem(
            field,
            f"= {lengths}: one row does not fit into task.data.tokens_per_batch = "
            f"{data.tokens_per_batch}",
        )
