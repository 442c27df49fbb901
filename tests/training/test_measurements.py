"""Measurements of a model for schedules, against what must come out."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.errors import DataError
from keras_mtl.models import Transformer
from keras_mtl.schedules import Measure
from keras_mtl.training.run.measurements import Measurements

VOCABULARY = 40
TASKS = [TranslationTask("en-fr", "en", "fr"), TranslationTask("en-de", "en", "de")]


class Words:
    eos_id = 2
    source = property(lambda self: self)  # One vocabulary serves both sides.

    def tag_id(self, language):
        return {"fr": 4, "de": 5}[language]


@dataclasses.dataclass
class Reader:
    sources: list
    targets: list

    def __len__(self):
        return len(self.sources)

    def gather(self, indices):
        return [self.sources[i] for i in indices], [self.targets[i] for i in indices]


class Pairs:
    """Pairs by task and split; every pair of the second task is the same."""

    vocabulary = Words()

    def __init__(self, sizes=(9, 6)):
        rng = np.random.default_rng(0)
        self._readers = {}
        for split in ("train", "dev"):
            sides = [[rng.integers(6, VOCABULARY, 5) for _ in range(sizes[0])] for _ in range(2)]
            self._readers["en-fr", split] = Reader(*sides)
            same = [[np.arange(8, 12)] * sizes[1], [np.arange(20, 23)] * sizes[1]]
            self._readers["en-de", split] = Reader(*same)

    def reader(self, task, split):
        return self._readers[task, split]


@pytest.fixture(scope="module")
def model():
    model = Transformer(
        VOCABULARY,
        hidden_dim=8,
        num_heads=2,
        intermediate_dim=16,
        encoder_layers=1,
        decoder_layers=1,
        dropout=0.3,
        seed=1,
        max_length=20,
    )
    model.build(None)
    return model


def take(model, quantity, step=3, sizes=(9, 6), **settings):
    measure = Measure(quantity, **{"pairs": 4, **settings})
    strategy = tf.distribute.get_strategy()
    return Measurements(measure, model, strategy, TASKS, Pairs(sizes), seed=7).take(step)


@pytest.mark.nightly  # It traces a model.
def test_dev_losses_are_of_the_same_pairs_at_every_step(model):
    first, second = (take(model, "dev_loss", step=step)["dev_loss"] for step in (3, 40))
    np.testing.assert_array_equal(first, second)
    # All dev pairs of the second task are the same: the loss of one of them.
    inputs = {
        "source": tf.constant([[5, *range(8, 12), 2]]),
        "target": tf.constant([[*range(20, 23), 2]]),
        "decoder": tf.constant([0]),
    }
    _, tokens, losses = model.token_losses(inputs)
    assert first[1] == pytest.approx(float(losses[0] / tokens[0]), rel=1e-5)
    assert first[0] != first[1]


@pytest.mark.nightly  # It traces a model for each quantity.
def test_measurements(model):
    state = model.seed_generator.state.numpy()
    entropy = take(model, "entropy", passes=2)["entropy"]
    assert (entropy > 0.8 * np.log(VOCABULARY)).all()  # A new model is uncertain.
    assert (entropy <= np.log(VOCABULARY) + 1e-5).all()
    np.testing.assert_array_equal(model.seed_generator.state.numpy(), state)
    np.testing.assert_array_equal(take(model, "entropy", passes=2)["entropy"], entropy)
    # Other pairs and other dropout at another step.
    assert (take(model, "entropy", step=4, passes=2)["entropy"] != entropy).all()
    improbable = take(model, "improbability")["improbability"]
    assert ((improbable > 0.5) & (improbable < 1 - 1 / VOCABULARY)).all()

    alignment = take(model, "alignment")["alignment"]
    assert (np.abs(alignment) <= 1).all()
    # All gradients of the second task are equal: cosines of 1 with itself, and c with the first.
    across = 2 * alignment[1] - 1
    assert -1 < across < 1

    found = take(model, "gradient")
    assert found["gradient_variance"][0] > 0
    assert found["gradient_variance"][1] == pytest.approx(0, abs=1e-10)
    assert found["gradient_square"][1] > 0
    # The same pair in a batch of its own has the same gradient.
    single = take(model, "gradient", sizes=(9, 1))
    np.testing.assert_allclose(single["gradient_square"][1], found["gradient_square"][1], rtol=1e-4)


def test_a_task_without_dev_pairs_is_refused(model):
    with pytest.raises(DataError, match="en-de"):
        take(model, "entropy", sizes=(9, 0))
