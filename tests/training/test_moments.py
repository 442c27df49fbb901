"""Moments of a checkpoint follow their tasks, and survive a change of their kind."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl.errors import CheckpointError
from keras_mtl.schedules import task_index_map
from keras_mtl.training.run.checkpoints import read_all
from keras_mtl.training.step.moments import moments_state, optimizer_state, restore_moments
from keras_mtl.training.step.optimizers import Adam


def trained(names, moments="per_task", tasks=(0, 1, 1), average=0.5):
    """An optimizer of two weights after some updates."""
    weights = [keras.Variable(np.ones(shape, np.float32)) for shape in ((2, 3), (3,))]
    per_task = len(names) if moments == "per_task" else 0
    optimizer = Adam(0.1, num_tasks=per_task, moments=moments, average_momentum=average)
    optimizer.build(weights)
    rng = np.random.default_rng(1)
    for task in tasks:
        if per_task:
            optimizer.set_task(task)
        optimizer.apply([tf.constant(rng.normal(size=w.shape), w.dtype) for w in weights], weights)
    return optimizer


def parts(optimizer):
    return {"optimizer": optimizer_state(optimizer)}


def save(optimizer, directory):
    checkpoint = tf.train.Checkpoint(**parts(optimizer), moments=moments_state(optimizer))
    return checkpoint.write(str(directory / "ckpt"))


def restored(prefix, old_names, names, moments="per_task"):
    optimizer = trained(names, moments, tasks=[0] * 7)
    read_all(tf.train.Checkpoint(**parts(optimizer)), prefix)
    restore_moments(optimizer, prefix, task_index_map(old_names, names))
    return optimizer


def test_the_same_tasks_get_the_same_bits(tmp_path):
    names = ["a", "b"]
    before = trained(names)
    after = restored(save(before, tmp_path), names, names)
    slots = ("momentums", "velocities", "averages")
    for slot in slots:
        for expected, found in zip(getattr(before, slot), getattr(after, slot), strict=True):
            np.testing.assert_array_equal(expected.numpy(), found.numpy())
    assert after.task_updates.numpy().tolist() == [1, 2]
    assert int(after.iterations.numpy()) == 3


def test_moments_follow_their_task_by_its_name(tmp_path):
    before = trained(["a", "b", "c"], tasks=(0, 1, 1, 2))
    after = restored(save(before, tmp_path), ["a", "b", "c"], ["c", "new", "b"])
    assert after.task_updates.numpy().tolist() == [1, 0, 2]
    for slot in ("momentums", "velocities"):
        for old, new in zip(getattr(before, slot), getattr(after, slot), strict=True):
            np.testing.assert_array_equal(new.numpy()[[0, 2]], old.numpy()[[2, 1]])
            assert not new.numpy()[1].any()


def test_each_task_starts_from_shared_moments_and_back(tmp_path):
    names = ["a", "b"]
    shared = trained(names, "shared")
    per_task = restored(save(shared, tmp_path), names, names)
    assert per_task.task_updates.numpy().tolist() == [3, 3]
    for old, new in zip(shared.momentums, per_task.momentums, strict=True):
        np.testing.assert_array_equal(new.numpy(), np.stack([old.numpy()] * 2))
    again = restored(save(per_task, tmp_path), names, names, "shared")
    for old, new in zip(shared.velocities, again.velocities, strict=True):
        np.testing.assert_allclose(new.numpy(), old.numpy(), rtol=1e-6)

    uneven = trained(names, tasks=(0, 1, 1))
    mean = restored(save(uneven, tmp_path), names, names, "shared")
    old, new = uneven.momentums[0].numpy(), mean.momentums[0].numpy()
    np.testing.assert_allclose(new, (old[0] + 2 * old[1]) / 3, rtol=1e-6)


def test_moments_of_other_weights_are_refused(tmp_path):
    prefix = save(trained(["a", "b"]), tmp_path)
    optimizer = Adam(num_tasks=2, moments="per_task")
    optimizer.build([keras.Variable(np.ones((5, 3), np.float32))])
    with pytest.raises(CheckpointError, match=r"moments/momentum/0.*\(2, 2, 3\).*\(2, 5, 3\)"):
        restore_moments(optimizer, prefix, np.array([0, 1]))
