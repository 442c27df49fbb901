"""Chooses the family of draws of a mixture."""

from collections.abc import Sequence
from typing import Any

from keras_mtl.data.batch_draws import BatchDraws, BlendedDraws, TaskBatches, TaskPlans
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.draws import Draws
from keras_mtl.data.packed_draws import PackedPlans
from keras_mtl.data.packed_pools import PackedCutter
from keras_mtl.data.packing import PackedShape
from keras_mtl.data.pools import BucketCutter, Cutter, PooledDraws
from keras_mtl.data.task_sources import TaskSource


def make_draws(
    sources: Sequence[TaskSource],
    buckets: Sequence[Bucket] | PackedShape,
    seed: int,
    granularity: str,
    draw: str,
    pool_examples: int | None,
) -> Draws[Any]:
    """Makes the draws of a mixture; the arguments are those of `Mixture`."""
    if granularity == "example":
        cutter: Cutter = (
            PackedCutter(sources, buckets, seed, pool_examples)
            if isinstance(buckets, PackedShape)
            else BucketCutter(sources, buckets, seed, pool_examples)
        )
        return PooledDraws(sources, cutter, seed, draw)
    batches: TaskBatches[Any] = (
        PackedPlans(sources, buckets, seed)
        if isinstance(buckets, PackedShape)
        else TaskPlans(sources, buckets, seed)
    )
    return BlendedDraws(batches) if draw == "blend" else BatchDraws(batches, seed)
