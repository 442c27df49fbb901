import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.models import label_smoothed_cross_entropy

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=3.0, size=(3, 5, 7)).astype(np.float32)
LABELS = RNG.integers(1, 7, (3, 5)).astype(np.int32)
LABELS[1, 3:] = 0
LABELS[2] = 0


def reference(logits, labels, smoothing):
    """The same by a one-hot tensor, in float64."""
    x = logits.astype(np.float64)
    log_p = x - x.max(-1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(-1, keepdims=True))
    one_hot = np.eye(7)[labels]
    soft = one_hot * (1 - smoothing) + (1 - one_hot) * smoothing / 6
    mask = labels != 0
    loss = -(soft * log_p).sum(-1) * mask
    nll = -(one_hot * log_p).sum(-1) * mask
    gradient = (np.exp(log_p) - soft) * mask[..., None]
    nll_gradient = (np.exp(log_p) - one_hot) * mask[..., None]
    return loss.sum(1), mask.sum(1), nll.sum(1), gradient, nll_gradient


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.6])
def test_equals_one_hot_labels(smoothing, jit):
    @tf.function(jit_compile=jit)
    def compute(logits):
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(logits)
            outputs = label_smoothed_cross_entropy(logits, LABELS, smoothing)
        return outputs, tape.gradient(outputs[0], logits), tape.gradient(outputs[2], logits)

    outputs, gradient, nll_gradient = compute(tf.constant(LOGITS))
    *expected, expected_gradient, expected_nll_gradient = reference(LOGITS, LABELS, smoothing)
    for value, wanted in zip(outputs, expected, strict=True):
        assert value.dtype == tf.float32
        np.testing.assert_allclose(value, wanted, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)
    np.testing.assert_allclose(nll_gradient, expected_nll_gradient, atol=1e-6)


def test_gradient_by_differences():
    logits = tf.constant(LOGITS[:1, :2])

    def loss(x):
        losses, _, nll = label_smoothed_cross_entropy(x, LABELS[:1, :2], 0.2)
        return tf.reduce_sum(losses) + 0.5 * tf.reduce_sum(nll)

    (theoretical,), (numerical,) = tf.test.compute_gradient(loss, [logits], delta=1e-2)
    np.testing.assert_allclose(theoretical, numerical, atol=2e-3)


def test_large_and_bfloat16_logits():
    logits = tf.constant(LOGITS * 1e4)
    loss, _, nll = label_smoothed_cross_entropy(logits, LABELS, 0.1)
    assert np.isfinite(loss).all()
    assert np.isfinite(nll).all()
    half = tf.cast(LOGITS, tf.bfloat16)
    with tf.GradientTape() as tape:
        tape.watch(half)
        loss = label_smoothed_cross_entropy(half, LABELS, 0.1)[0]
    assert loss.dtype == tf.float32
    exact = reference(tf.cast(half, tf.float32).numpy(), LABELS, 0.1)
    np.testing.assert_allclose(loss, exact[0], rtol=1e-5)
    gradient = tape.gradient(loss, half)
    assert gradient.dtype == tf.bfloat16
    np.testing.assert_allclose(tf.cast(gradient, tf.float32), exact[3], atol=0.004)


def test_smoothing_out_of_range():
    with pytest.raises(ValueError, match=r"not 1\.0"):
        label_smoothed_cross_entropy(tf.constant(LOGITS), LABELS, 1.0)
