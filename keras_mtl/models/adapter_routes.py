"""Which adapters the rows of a batch use, from the numbers of their decoders and adapters."""

from collections.abc import Sequence

import tensorflow as tf

from keras_mtl.configuration.adapters import AdapterSet, split_route
from keras_mtl.errors import InputError
from keras_mtl.layers.adapter_rows import AdapterRows
from keras_mtl.models.packed_rows import PackedRows


def decoder_of(sets: Sequence[AdapterSet], route: tf.Tensor | None) -> tf.Tensor | None:
    """Returns the index of the decoder of each row.

    Args:
        sets: the sets of adapters of the model.
        route: from `keras_mtl.configuration.adapters.route_of`, of any shape.
    """
    return route if route is None else split_route(route, _counts(sets))[0]


def source_rows(
    sets: Sequence[AdapterSet], route: tf.Tensor | None, packed: PackedRows | None
) -> AdapterRows | None:
    """Returns the adapters of an encoder's rows; None if the model has none.

    Args:
        sets: the sets of adapters of the model.
        route: int32 `[batch]`, `[1]` if all rows are of one task, or `[batch, time]`, at the
            positions of the target, if rows hold several pairs.
        packed: the pairs of each row, if rows hold several.

    Raises:
        InputError: the model has adapters, but there is no route.
    """
    if not sets:
        return None
    return AdapterRows(tuple(_source_indices(sets, _given(route), packed)))


def target_rows(
    sets: Sequence[AdapterSet], route: tf.Tensor | None, packed: PackedRows | None
) -> AdapterRows | None:
    """Returns the adapters of a decoder's rows; see `source_rows`."""
    if not sets:
        return None
    route = _given(route)
    own = split_route(route, _counts(sets))[1]
    return AdapterRows(tuple(own), tuple(_source_indices(sets, route, packed)))


def _source_indices(
    sets: Sequence[AdapterSet], route: tf.Tensor, packed: PackedRows | None
) -> list[tf.Tensor]:
    if packed is not None and route.shape.rank == 2:
        # The first target position of the pair that a source position belongs to.
        place = tf.argmax(tf.cast(packed.memory_mask, tf.int32), axis=1, output_type=tf.int32)
        route = tf.gather(route, place, batch_dims=1)
    return split_route(route, _counts(sets))[1]


def _counts(sets: Sequence[AdapterSet]) -> list[int]:
    return [len(each.members) for each in sets]


def _given(route: tf.Tensor | None) -> tf.Tensor:
    if route is None:
        raise InputError(
            "the model has adapters, but inputs['decoder'] is missing; give "
            "keras_mtl.decoding.tasks.TranslationTask.route of the task of each row"
        )
    return route
