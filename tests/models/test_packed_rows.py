"""A pair has the same loss and gradient in a row of its own and among others."""

import numpy as np
import pytest
import tensorflow as tf
from test_transformer import VARIANTS, make

# (source, target) lengths of the pairs of each row; the second row ends with padding.
ROWS = [[(5, 7), (3, 2), (6, 9)], [(8, 4), (2, 6)]]
SOURCE_LENGTH, TARGET_LENGTH = 14, 20
DECODER = 1


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    return [
        [(rng.integers(3, 23, s), rng.integers(3, 23, t)) for s, t in lengths] for lengths in ROWS
    ]


def packed(pairs):
    """Returns the inputs of packed rows."""
    inputs = {}
    for side, (name, length) in enumerate((("source", SOURCE_LENGTH), ("target", TARGET_LENGTH))):
        arrays = np.zeros((3, len(pairs), length), np.int32)
        for row, members in enumerate(pairs):
            start = 0
            for number, pair in enumerate(members):
                cells = slice(start, start + len(pair[side]))
                arrays[0, row, cells] = pair[side]
                arrays[1, row, cells] = number + 1
                arrays[2, row, cells] = np.arange(len(pair[side]))
                start = cells.stop
        for array, suffix in zip(arrays, ("", "_segments", "_positions"), strict=True):
            inputs[name + suffix] = tf.constant(array)
    inputs["decoder"] = tf.fill([len(pairs), TARGET_LENGTH], DECODER)
    return inputs


def single(pair):
    """Returns the inputs of a row that holds one pair, without padding."""
    source, target = (tf.constant(ids[None], tf.int32) for ids in pair)
    return {"source": source, "target": target, "decoder": tf.fill([1], DECODER)}


def losses_and_gradients(model, inputs, drop_padding=False):
    variables = [variable.value for variable in model.trainable_variables]
    with tf.GradientTape() as tape:
        loss, tokens, nll = model.token_losses(inputs, 0.1, drop_padding=drop_padding)
        total = tf.reduce_sum(loss)
    gradients = tape.gradient(total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    return (loss, tokens, nll), [tf.convert_to_tensor(gradient) for gradient in gradients]


def by_pair(values, segments):
    """Sums values of tokens, [rows, time], by pair, row by row."""
    return np.concatenate(
        [
            np.bincount(numbers, row, minlength=numbers.max() + 1)[1:]
            for row, numbers in zip(np.array(values), np.array(segments), strict=True)
        ]
    )


# With other sub-layers, one case protects what a packed row changes in them: positions.
CASES = [
    pytest.param(
        drop_padding,
        name,
        marks=[pytest.mark.nightly] if number > 3 and (number, drop_padding) != (4, True) else [],
    )
    for drop_padding in (False, True)
    for number, name in enumerate(VARIANTS)
]


@pytest.mark.parametrize(("drop_padding", "variant"), CASES)
def test_each_pair_has_its_own_loss_and_gradient(pairs, variant, drop_padding):
    # The rows are longer than any sentence that the model takes.
    model = make(**VARIANTS[variant], max_length=10)
    inputs = packed(pairs)
    found, gradients = losses_and_gradients(model, inputs, drop_padding)
    alone = [losses_and_gradients(model, single(pair)) for row in pairs for pair in row]
    for index, values in enumerate(found):
        assert values.shape == (2, TARGET_LENGTH)
        assert not np.array(values)[np.array(inputs["target"]) == 0].any()
        expected = [float(each[index][0]) for each, _ in alone]
        np.testing.assert_allclose(
            by_pair(values, inputs["target_segments"]), expected, rtol=1e-6, atol=1e-6
        )
    for variable, gradient, *parts in zip(
        model.trainable_variables, gradients, *(part for _, part in alone), strict=True
    ):
        expected = np.sum(parts, axis=0)
        scale = max(1.0, np.abs(expected).max())
        # Sums in float32, in another order.
        np.testing.assert_allclose(gradient, expected, atol=2e-6 * scale, err_msg=variable.path)


def test_a_pair_does_not_see_its_neighbors(pairs):
    """Not even in the last bit: what another pair says adds exact zeros."""
    model = make()
    changed = [[*pairs[0][:2], (pairs[0][2][0][::-1], pairs[0][2][1][::-1])], pairs[1]]
    (before, _, _), _ = losses_and_gradients(model, packed(pairs))
    (after, _, _), _ = losses_and_gradients(model, packed(changed))
    same = np.array(packed(pairs)["target_segments"]) != 3
    same[1] = True
    assert np.array_equal(np.array(before)[same], np.array(after)[same])
    assert not np.array_equal(before, after)


def test_logits_of_packed_rows_are_those_of_the_pairs(pairs):
    model = make()
    logits = model(packed(pairs))
    start = 0
    for pair in pairs[0]:
        stop = start + len(pair[1])
        np.testing.assert_allclose(logits[0, start:stop], model(single(pair))[0], atol=1e-5)
        start = stop


def test_xla_compiles_packed_rows(pairs):
    model = make(positions="learned", decoder_layers=1)
    inputs = packed(pairs)
    compiled = tf.function(
        lambda inputs: losses_and_gradients(model, inputs), jit_compile=True, autograph=False
    )
    found, gradients = compiled(inputs)
    expected, expected_gradients = losses_and_gradients(model, inputs)
    for one, other in zip([*found, *gradients], [*expected, *expected_gradients], strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)
