"""Chooses the family of draws of a mixture."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_mtl.data.batch_draws import BatchDraws, BlendedDraws, TaskBatches, TaskPlans
from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.draws import Draws
from keras_mtl.data.mixture_checks import check_max_epochs
from keras_mtl.data.packed_draws import PackedPlans
from keras_mtl.data.packed_pools import PackedCutter
from keras_mtl.data.packing import PackedShape
from keras_mtl.data.pair_reading import PairSources
from keras_mtl.data.pools import BucketCutter, PooledDraws
from keras_mtl.data.task_sources import TaskSource
from keras_mtl.errors import ConfigError


def make_draws(
    sources: Sequence[TaskSource],
    pairs: PairSources | None,
    buckets: Sequence[Bucket] | PackedShape,
    seed: int,
    granularity: str,
    draw: str,
    pool_examples: int | None,
    max_epochs: np.ndarray | None = None,
) -> Draws[Any]:
    """Makes the draws of a mixture.

    Args:
        sources: the tasks.
        pairs: their pairs, as of `PairSources.of`.
        buckets: the shapes of batches.
        seed: seed of the run.
        granularity: `batch` or `example`.
        draw: `random` or `blend`.
        pool_examples: number of examples of a pool; None chooses it.
        max_epochs: float64[N], largest number of passes over the data of each task; None: any.

    Raises:
        ConfigError: rows are packed, and a source is not a `TranslationSource`; or a single batch
            exceeds the passes of its task.
    """
    draws = _draws(sources, pairs, buckets, seed, granularity, draw, pool_examples, max_epochs)
    if max_epochs is not None:
        names = [source.name for source in sources]
        check_max_epochs(names, draws.passes(draws.first())[1], max_epochs)
    return draws


def _draws(
    sources: Sequence[TaskSource],
    pairs: PairSources | None,
    buckets: Sequence[Bucket] | PackedShape,
    seed: int,
    granularity: str,
    draw: str,
    pool_examples: int | None,
    max_epochs: np.ndarray | None,
) -> Draws[Any]:
    batches: TaskBatches[Any]
    if isinstance(buckets, PackedShape):
        if pairs is None:
            raise ConfigError(
                "rows of several examples need sources of sentence pairs (TranslationSource), and "
                f"these are {', '.join(sorted({type(source).__name__ for source in sources}))}; "
                "give buckets instead of a PackedShape"
            )
        if granularity == "example":
            packed = PackedCutter(sources, pairs, buckets, seed, pool_examples)
            return PooledDraws(sources, packed, seed, draw, max_epochs)
        batches = PackedPlans(sources, pairs, buckets, seed)
    elif granularity == "example":
        cutter = BucketCutter(sources, pairs, buckets, seed, pool_examples)
        return PooledDraws(sources, cutter, seed, draw, max_epochs)
    else:
        batches = TaskPlans(sources, buckets, seed)
    return BlendedDraws(batches) if draw == "blend" else BatchDraws(batches, seed)
