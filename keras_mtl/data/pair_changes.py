"""What changes the pairs of a task each time they are read: subword sampling and noise.

The changes are a function of the seed, the step, the task and the index of a pair. So they need no
state, and a pair changes in the same way whichever process reads it. They may change the number of
pieces. Shapes, buckets and packed rows are planned before pairs are read, with the most pieces that
a pair may have.
"""

from collections.abc import Sequence

import numpy as np

from keras_mtl.configuration.other_tasks import (
    DENOISING,
    SubwordSamplingConfig,
    is_translation,
)
from keras_mtl.configuration.schema import DataConfig, PairConfig
from keras_mtl.data.keyed_numbers import example_keys
from keras_mtl.data.noise import Noise, Sides, make_noise
from keras_mtl.data.prepare_settings import max_pieces
from keras_mtl.data.subword_samplers import make_sampler
from keras_mtl.data.subword_sampling import SubwordSampler
from keras_mtl.data.vocabulary import Vocabulary

_SIDES = ("source", "target")


class PairChanges:
    """The changes of the pairs of one task.

    Args:
        seed: seed of the run.
        name: name of the task.
        noise: makes source and target from the target; None keeps both.
        samplers: segment source and target again, before the noise; None keeps the segmentation.
        growth: room for the additional pieces of a sampled side, as a share of its pieces.
        most: largest number of pieces of a side.
        noisy_source: whether the noise is added to the source, and the target stays as it is. Both
            sides then hold the text, in the pieces of two vocabularies.
    """

    def __init__(
        self,
        seed: int,
        name: str,
        noise: Noise | None = None,
        samplers: Sequence[SubwordSampler | None] = (None, None),
        growth: float = 0.0,
        most: int = 0,
        noisy_source: bool = False,
    ) -> None:
        self._seed = seed
        self._name = name
        self._noise = noise
        self._samplers = tuple(samplers)
        self._growth = growth
        self._most = most
        self._noisy_source = noisy_source

    def longest(self, lengths: np.ndarray) -> np.ndarray:
        """Returns the most pieces of the longer side; does not decrease with `lengths`.

        Args:
            lengths: int64[...], stored pieces of the longer side.
        """
        return self._grown(lengths) if any(self._samplers) else lengths

    def reserve(self, lengths: np.ndarray) -> np.ndarray:
        """Returns the most pieces of each side, of the same shape.

        Args:
            lengths: int64[k, 2], stored pieces of source and target.
        """
        source, target = (
            lengths[:, side] if sampler is None else self._grown(lengths[:, side])
            for side, sampler in enumerate(self._samplers)
        )
        if self._noise is not None and self._noisy_source:
            source, _ = self._noise.longest(source)
        elif self._noise is not None:
            source, target = self._noise.longest(target)
        return np.stack([source, target], axis=1)

    def _grown(self, lengths: np.ndarray) -> np.ndarray:
        more = lengths + np.ceil(self._growth * lengths).astype(np.int64)
        return np.maximum(lengths, np.minimum(more, self._most))

    def __call__(
        self, tokens: np.ndarray, lengths: np.ndarray, indices: np.ndarray, step: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Changes pairs.

        Args:
            tokens: int[sum(lengths)], the pieces of source 0, target 0, source 1, …
            lengths: int64[2k], the number of pieces of each side.
            indices: int64[k], the index of each pair.
            step: number of batches before that of the pairs.

        Returns:
            As the first two arguments.
        """
        if not len(indices):
            return tokens, lengths
        of_target = np.repeat(np.tile([False, True], len(indices)), lengths)
        sides = Sides(tokens[~of_target], lengths[0::2], tokens[of_target], lengths[1::2])
        if any(self._samplers):
            source = self._sample(0, sides.source, sides.source_lengths, indices, step)
            target = self._sample(1, sides.target, sides.target_lengths, indices, step)
            sides = Sides(*source, *target)
        if self._noise is not None:
            keys = example_keys(self._seed, self._name, "noise", step, indices)
            text = sides[:2] if self._noisy_source else sides[2:]
            noisy = self._noise(*text, keys)
            sides = Sides(*noisy[:2], *sides[2:]) if self._noisy_source else noisy
        return _interleaved(sides)

    def _sample(
        self, side: int, tokens: np.ndarray, lengths: np.ndarray, indices: np.ndarray, step: int
    ) -> tuple[np.ndarray, np.ndarray]:
        sampler = self._samplers[side]
        if sampler is None:
            return tokens, lengths
        keys = example_keys(self._seed, self._name, f"{_SIDES[side]} pieces", step, indices)
        return sampler.sample(tokens, lengths, keys, self._grown(lengths))


def _interleaved(sides: Sides) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pieces of source 0, target 0, source 1, …, and their lengths, int64[2k]."""
    lengths = np.stack([sides.source_lengths, sides.target_lengths], axis=1).ravel()
    firsts = np.cumsum(lengths) - lengths
    tokens = np.empty(int(lengths.sum()), np.int32)
    parts = ((sides.source, sides.source_lengths), (sides.target, sides.target_lengths))
    for side, (pieces, counts) in enumerate(parts):
        before = np.cumsum(counts) - counts
        tokens[np.repeat(firsts[side::2] - before, counts) + np.arange(len(pieces))] = pieces
    return tokens, lengths


def training_changes(
    pairs: Sequence[PairConfig], data: DataConfig, vocabulary: Vocabulary, seed: int
) -> dict[str, PairChanges]:
    """Returns the changes of training pairs by task, of the tasks that have some.

    Args:
        pairs: the tasks, with names.
        data: subword sampling and the longest side.
        vocabulary: the vocabulary of the pairs.
        seed: seed of the run.

    Raises:
        ConfigError: the vocabulary cannot be sampled.
    """
    sampling = data.subword_sampling
    samplers: dict[str, SubwordSampler] = {}
    if sampling.enabled:
        source = make_sampler(vocabulary.source, sampling.alpha, sampling.dropout)
        target = source
        if vocabulary.has_source:
            target = make_sampler(vocabulary, sampling.alpha, sampling.dropout)
        samplers = dict(zip(_SIDES, (source, target), strict=True))
    changes = {}
    for pair in pairs:
        noise = make_noise(vocabulary.source, pair.noise) if pair.kind == DENOISING else None
        if noise is None and not samplers:
            continue
        sampled = _sampled_sides(pair, sampling)
        changes[pair.name] = PairChanges(
            seed,
            pair.name,
            noise,
            [samplers.get(side) if side in sampled else None for side in _SIDES],
            sampling.growth,
            max_pieces(data),
            vocabulary.has_source,
        )
    return changes


def held_out_changes(pairs: Sequence[PairConfig], vocabulary: Vocabulary) -> dict[str, PairChanges]:
    """Returns the changes of dev and test pairs by task: noise that is always the same."""
    return {
        pair.name: PairChanges(
            0,
            pair.name,
            make_noise(vocabulary.source, pair.noise),
            noisy_source=vocabulary.has_source,
        )
        for pair in pairs
        if pair.kind == DENOISING
    }


def _sampled_sides(pair: PairConfig, sampling: SubwordSamplingConfig) -> Sequence[str]:
    if sampling.side == "both" or not is_translation(pair):
        return _SIDES
    return (sampling.side,)
