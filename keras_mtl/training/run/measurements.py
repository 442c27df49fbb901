"""Measurements of the model between training steps, for schedules that learn from them.

The chief measures with its copy of the weights, and all workers learn its numbers. The pairs depend
only on the seed and the step, and the state of dropout is restored afterwards. So a run that
resumes measures the same, and a measurement does not change the steps that follow.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.evaluation.evaluator import no_pair
from keras_mtl.evaluation.likelihood import ModelLikelihood, PairIds, padded
from keras_mtl.evaluation.pairs import PairReader, PairSet
from keras_mtl.schedules import Measure
from keras_mtl.training.step.workers import Workers

# Rows of a pass that computes logits, which have the size of the vocabulary.
_ROWS = 16


class Measurements:
    """Measures what a schedule needs.

    Args:
        measure: what to measure.
        model: the built model.
        strategy: the strategy under whose scope it was made.
        tasks: the tasks of the model.
        pairs: the prepared pairs; those of denoising tasks with noise.
        seed: seed of the choice of pairs and of dropout.

    Raises:
        DataError: a task has no dev pairs, and the measurement needs them.
    """

    def __init__(
        self,
        measure: Measure,
        model: Any,
        strategy: tf.distribute.Strategy,
        tasks: Sequence[TranslationTask],
        pairs: PairSet,
        seed: int,
    ) -> None:
        self._measure = measure
        self._model = model
        self._names = [task.name for task in tasks]
        self._ids = PairIds.of_tasks(pairs.vocabulary, tasks)
        self._pairs = pairs
        self._likelihood = ModelLikelihood(model, self._ids)
        self._limit = model.max_length
        self._seed = seed
        if measure.uses_dev:
            for name in self._names:
                if not len(pairs.reader(name, "dev")):
                    raise no_pair(name, "dev")
        # One copy of each weight: the tape cannot differentiate by a mirrored variable.
        self._variables = [
            strategy.experimental_local_results(variable.value)[0]
            for variable in model.trainable_variables
        ]
        self._uncertainty = tf.function(self._uncertainty_of_rows, autograph=False)
        self._two_gradients = tf.function(self._moments_of_halves, autograph=False)
        self._unit_gradient = tf.function(self._unit_gradient_of_rows, autograph=False)

    def take(self, step: int) -> dict[str, np.ndarray]:
        """Measures the model.

        Args:
            step: number of updates so far.

        Returns:
            Numbers of the tasks for `ScoreBook.measure`, float64[N] each.
        """
        if self._measure.quantity == "dev_loss":
            return {"dev_loss": self._dev_losses()}
        if self._measure.quantity == "gradient":
            return self._gradients(step)
        if self._measure.quantity == "alignment":
            return {"alignment": self._alignment(step)}
        return {self._measure.quantity: self._with_dropout(step, self._mean_uncertainty)}

    def _generator(self, task: int, split: str, step: int) -> np.random.Generator:
        key = [self._seed & (2**64 - 1), step]
        counter = [0, task, split == "train", 0]
        return np.random.Generator(np.random.Philox(key=key, counter=counter))

    def _chosen(self, generator: np.random.Generator, reader: PairReader) -> np.ndarray:
        """Returns the sorted indices of random pairs, int64."""
        count = min(self._measure.pairs, len(reader))
        return np.sort(generator.choice(len(reader), count, replace=False))

    def _batch(self, task: int, split: str, step: int) -> dict[str, np.ndarray]:
        """Returns random pairs of a task: int32 arrays `source`, `target` and `decoder`."""
        name = self._names[task]
        reader = self._pairs.reader(name, split)
        generator = self._generator(task, split, step)
        chosen = self._chosen(generator, reader)
        count = len(chosen)
        source, target = self._ids.read(name, reader, chosen)
        # A random order, because the pairs of a store are sorted by length.
        order = generator.permutation(count)
        return {
            "source": padded([source[place] for place in order], self._limit, count),
            "target": padded([target[place] for place in order], self._limit, count),
            "decoder": np.full(count, self._ids.decoders[name], np.int32),
        }

    def _dev_losses(self) -> np.ndarray:
        """Returns the mean loss of a token of each task, without dropout, float64[N].

        The pairs are the same at every step, so a difference of two losses has no noise of their
        choice.
        """
        found = np.zeros(len(self._names))
        for task, name in enumerate(self._names):
            reader = self._pairs.reader(name, "dev")
            chosen = self._chosen(self._generator(task, "dev", 0), reader)
            loss, tokens = self._likelihood.total(name, reader, chosen)
            found[task] = loss / tokens
        return found

    def _with_dropout(self, step: int, compute: Callable[[int], np.ndarray]) -> np.ndarray:
        """Calls a function of the step with its own dropout, and restores the state of dropout."""
        state = self._model.seed_generator.state
        saved = tf.convert_to_tensor(state)
        state.assign(tf.cast([self._seed % 2**31, step % 2**31], saved.dtype))
        try:
            return compute(step)
        finally:
            state.assign(saved)

    def _mean_uncertainty(self, step: int) -> np.ndarray:
        found = np.zeros(len(self._names))
        for task in range(len(self._names)):
            batch = self._batch(task, "dev", step)
            sums = np.zeros(4)
            for _ in range(self._measure.passes):
                for first in range(0, len(batch["source"]), _ROWS):
                    rows = {key: tf.constant(v[first : first + _ROWS]) for key, v in batch.items()}
                    sums += np.array([float(value) for value in self._uncertainty(rows)])
            entropy, tokens, probability, sentences = sums
            entropies = self._measure.quantity == "entropy"
            found[task] = entropy / tokens if entropies else 1 - probability / sentences
        return found

    def _uncertainty_of_rows(self, rows: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, ...]:
        """Returns sums of entropies, tokens, mean largest probabilities, and sentences."""
        logits = tf.cast(self._model(dict(rows), training=True), tf.float32)
        logs = tf.nn.log_softmax(logits)
        real = tf.cast(rows["target"] != 0, tf.float32)
        entropy = -tf.reduce_sum(tf.exp(logs) * logs, axis=-1)
        lengths = tf.reduce_sum(real, axis=1)
        largest = tf.reduce_sum(real * tf.reduce_max(logs, axis=-1), axis=1) / lengths
        return (
            tf.reduce_sum(real * entropy),
            tf.reduce_sum(real),
            tf.reduce_sum(tf.exp(largest)),
            tf.cast(tf.shape(real)[0], tf.float32),
        )

    def _gradients(self, step: int) -> dict[str, np.ndarray]:
        found = np.zeros((2, len(self._names)))
        for task in range(len(self._names)):
            batch = self._batch(task, "train", step)
            half = max(1, len(batch["source"]) // 2)
            # A task with a single pair has two equal halves, and no variance.
            halves = [
                {key: tf.constant(value[part]) for key, value in batch.items()}
                for part in (slice(0, half), slice(-half, None))
            ]
            found[:, task] = [float(value) for value in self._two_gradients(*halves)]
        return {"gradient_square": np.maximum(found[0], 0.0), "gradient_variance": found[1]}

    def _moments_of_halves(
        self, one: Mapping[str, tf.Tensor], two: Mapping[str, tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns estimates without bias of the squared norm and the variance of the whole."""
        first, second = self._gradient(one), self._gradient(two)
        difference = [a - b for a, b in zip(first, second, strict=True)]
        # Of a mean of two halves: a quarter of the variance of their difference.
        return _dot(first, second), 0.25 * _dot(difference, difference)

    def _alignment(self, step: int) -> np.ndarray:
        """Returns the mean cosine of each training gradient with all dev gradients, float64[N]."""
        count = len(self._names)
        # The mean of cosines is the product with the mean of the dev gradients of length 1.
        total = [tf.zeros(variable.shape) for variable in self._variables]
        for task in range(count):
            unit = self._unit_gradient(_constants(self._batch(task, "dev", step)))
            total = [a + b for a, b in zip(total, unit, strict=True)]
        found = np.zeros(count)
        for task in range(count):
            unit = self._unit_gradient(_constants(self._batch(task, "train", step)))
            found[task] = float(_dot(unit, total)) / count
        return found

    def _unit_gradient_of_rows(self, rows: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        gradient = self._gradient(rows)
        norm = tf.sqrt(_dot(gradient, gradient))
        return [tf.math.divide_no_nan(part, norm) for part in gradient]

    def _gradient(self, rows: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """Returns the gradient of the mean loss of a token, without dropout or smoothing."""
        with tf.GradientTape() as tape:
            _, tokens, losses = self._model.token_losses(dict(rows), training=False)
            total = tf.reduce_sum(losses)
        parts = tape.gradient(
            total, self._variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        count = tf.reduce_sum(tokens)
        return [tf.cast(tf.convert_to_tensor(part), tf.float32) / count for part in parts]


def build_measurements(
    measure: Measure | None,
    model: Any,
    workers: Workers,
    tasks: Sequence[TranslationTask],
    pairs: PairSet,
    seed: int,
) -> Callable[[int], dict[str, np.ndarray]] | None:
    """Returns a function of the step that measures on the chief; None if nothing is measured."""
    if measure is None:
        return None
    taken: Measurements | None = None

    def of_chief(step: int) -> dict[str, list[float]]:
        nonlocal taken
        if taken is None:
            taken = Measurements(measure, model, workers.strategy, tasks, pairs, seed)
        return {name: values.tolist() for name, values in taken.take(step).items()}

    def take(step: int) -> dict[str, np.ndarray]:
        found = workers.from_chief(lambda: of_chief(step))
        return {name: np.array(values) for name, values in found.items()}

    return take


def _constants(batch: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(value) for name, value in batch.items()}


def _dot(first: Sequence[tf.Tensor], second: Sequence[tf.Tensor]) -> tf.Tensor:
    """Returns the inner product of two gradients, float32 []."""
    return tf.add_n([tf.reduce_sum(a * b) for a, b in zip(first, second, strict=True)])
