import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.models import projected_cross_entropy

RNG = np.random.default_rng(0)
STATES = RNG.normal(scale=2.0, size=(3, 5, 4)).astype(np.float32)
TABLE = RNG.normal(size=(7, 4)).astype(np.float32)
LABELS = RNG.integers(1, 7, (3, 5)).astype(np.int32)
LABELS[1, 3:] = 0
LABELS[2] = 0


def reference(states, table, labels, smoothing):
    """The same by logits and a one-hot tensor, in float64."""
    states, table = states.astype(np.float64), table.astype(np.float64)
    x = states @ table.T
    log_p = x - x.max(-1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
    one_hot = np.eye(7)[labels]
    mask = labels != 0

    def of_target(soft):
        loss = -(soft * log_p).sum(-1) * mask
        gradient = (np.exp(log_p) - soft) * mask[..., None]
        return loss.sum(1), gradient @ table, np.einsum("btv,btd->vd", gradient, states)

    loss = of_target(one_hot * (1 - smoothing) + (1 - one_hot) * smoothing / 6)
    return loss, mask.sum(1), of_target(one_hot)


MODES = [(False, False), (False, True), (True, False)]


@pytest.mark.parametrize(
    ("smoothing", "jit", "drop", "chunk"),
    [
        *((smoothing, *mode, 0) for smoothing in (0.0, 0.1, 0.6) for mode in MODES),
        # Of 15 tokens, of which 8 are no padding.
        *((0.1, *mode, 4) for mode in MODES),
        (0.0, False, True, 15),
    ],
)
def test_equals_one_hot_labels(smoothing, jit, drop, chunk):
    @tf.function(jit_compile=jit, autograph=False)
    def compute(states, table):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([states, table])
            loss, tokens, nll = projected_cross_entropy(
                states, table, LABELS, smoothing, drop_padding=drop, chunk=chunk
            )
        gradients = [tape.gradient(value, [states, table]) for value in (loss, nll)]
        return (loss, *gradients[0]), tokens, (nll, *gradients[1])

    outputs = compute(tf.constant(STATES), tf.constant(TABLE))
    expected = reference(STATES, TABLE, LABELS, smoothing)
    for values, wanted in zip(tf.nest.flatten(outputs), tf.nest.flatten(expected), strict=True):
        assert values.dtype == tf.float32
        np.testing.assert_allclose(values, wanted, rtol=1e-5, atol=1e-5)


def test_gradient_by_differences():
    def loss(states, table):
        losses, _, nll = projected_cross_entropy(states, table, LABELS[:2, :3], 0.2)
        return tf.reduce_sum(losses * [1.0, 0.5]) + 0.5 * tf.reduce_sum(nll)

    values = [tf.constant(STATES[:2, :3]), tf.constant(TABLE)]
    theoretical, numerical = tf.test.compute_gradient(loss, values, delta=1e-2)
    for ours, theirs in zip(theoretical, numerical, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


def test_large_and_bfloat16_states():
    loss, _, nll = projected_cross_entropy(tf.constant(STATES * 1e4), TABLE, LABELS, 0.1)
    assert np.isfinite(loss).all()
    assert np.isfinite(nll).all()
    half = tf.cast(STATES, tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(half)
        loss = projected_cross_entropy(half, TABLE, LABELS, 0.1)[0]
    assert loss.dtype == tf.float32
    rounded = [tf.cast(tf.cast(x, tf.bfloat16), tf.float32).numpy() for x in (STATES, TABLE)]
    exact = reference(*rounded, LABELS, 0.1)[0]
    np.testing.assert_allclose(loss, exact[0], rtol=0.01)
    gradient = tape.gradient(loss, half)
    assert gradient.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(gradient, tf.float32), exact[1], atol=0.03)


def test_nothing_but_padding():
    empty = np.zeros_like(LABELS)
    for drop in (False, True):
        loss, tokens, nll = projected_cross_entropy(
            tf.constant(STATES), TABLE, empty, 0.1, drop_padding=drop
        )
        assert not np.any([loss, tokens, nll])


def test_smoothing_out_of_range():
    with pytest.raises(ValueError, match=r"not 1\.0"):
        projected_cross_entropy(tf.constant(STATES), TABLE, LABELS, 1.0)
