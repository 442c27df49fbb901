"""Model Garden's own interleaving trainer, with our schedules as its task sampler."""

import numpy as np
import orbit
import pytest
import tensorflow as tf
import tf_keras
from official.core import base_task
from official.core import config_definitions as cfg
from official.modeling.multitask import base_model, evaluator, interleaving_trainer, multitask

from keras_mtl.errors import ConfigError, InputError
from keras_mtl.garden.task_sampler import ScheduleTaskSampler

NAMES = ("easy", "hard")
BASELINES = {"easy": 0.9, "hard": 0.9}


class ToyTask(base_task.Task):
    """The sign of one number; the hard task has half of its labels wrong."""

    def build_inputs(self, params, input_context=None):
        rng = np.random.default_rng(len(self.name))
        x = rng.normal(size=(64, 1)).astype(np.float32)
        y = (x > 0).astype(np.float32)
        if self.name == "hard":
            y[::2] = 1 - y[::2]
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(16).repeat()

    def build_losses(self, labels, model_outputs, aux_losses=None):
        return tf.reduce_mean(tf_keras.losses.binary_crossentropy(labels, model_outputs))

    def build_metrics(self, training=True):
        return [tf_keras.metrics.BinaryAccuracy(name="accuracy")]


class ToyModel(base_model.MultiTaskBaseModel):
    """A logistic regression for each task; its checkpoints hold the sampler."""

    def __init__(self, names=NAMES):
        self._names = names
        super().__init__()

    def _instantiate_sub_tasks(self):
        return {
            name: tf_keras.Sequential(
                [tf_keras.layers.Dense(1, "sigmoid", kernel_initializer="ones", input_shape=(1,))]
            )
            for name in self._names
        }


def make(directory, name="inverse_ratio", parameters=None):
    """A controller of Model Garden's trainer and evaluator, and the sampler."""
    tasks = {name: ToyTask(cfg.TaskConfig(), name=name) for name in NAMES}
    multi_task = multitask.MultiTask(tasks, task_weights={"easy": 30, "hard": 10})
    model = ToyModel()
    sampler = ScheduleTaskSampler(
        multi_task.task_weights, name, parameters, BASELINES, metric="accuracy"
    )
    model.checkpoint_items = {"task_sampler": sampler}
    trainer = interleaving_trainer.MultiTaskInterleavingTrainer(
        multi_task, model, tf_keras.optimizers.SGD(0.1), sampler
    )
    controller = orbit.Controller(
        trainer=trainer,
        evaluator=evaluator.MultiTaskEvaluator(list(tasks.values()), model, trainer.global_step),
        global_step=trainer.global_step,
        train_actions=[sampler.train_action(trainer)],
        eval_actions=[sampler.eval_action(trainer)],
        checkpoint_manager=tf.train.CheckpointManager(
            trainer.checkpoint,
            str(directory),
            max_to_keep=2,
            step_counter=trainer.global_step,
            checkpoint_interval=50,
        ),
        steps_per_loop=50,
    )
    return controller, trainer, sampler


def drawn(trainer):
    return np.array([int(trainer.task_step_counter(name).numpy()) for name in NAMES])


def test_the_trainer_follows_the_schedule_and_goes_on_after_a_restart(tmp_path):
    controller, trainer, sampler = make(tmp_path)
    controller.train(50)
    assert abs(drawn(trainer)[1] - 25) < 12  # No score yet: every task alike.
    controller.evaluate(steps=4)
    scores = dict(zip(NAMES, sampler.book.scores, strict=True))
    assert scores["easy"] > 0.9 > 0.7 > scores["hard"]
    weights = 1 / (np.minimum(1, sampler.book.ratios()) + 0.05)
    np.testing.assert_allclose(sampler.probabilities(50), weights / weights.sum())
    controller.train(250)
    share = (drawn(trainer)[1] - 25) / 200
    assert share == pytest.approx(sampler.probabilities(250)[1], abs=0.1)
    controller.save_checkpoint()

    _, again, restored = make(tmp_path)
    assert int(again.global_step.numpy()) == 250
    np.testing.assert_array_equal(restored.probabilities(250), sampler.probabilities(250))
    np.testing.assert_array_equal(restored.book.scores, sampler.book.scores)


def test_losses_reach_schedules_that_live_on_them(tmp_path):
    controller, _, sampler = make(tmp_path, "bandit")
    controller.train(100)
    assert sampler.book.loss_weight.sum() == 100
    # The loss of the hard task stays high, so the bandit goes there.
    assert sampler.probabilities(100)[1] > 0.5


def test_a_draw_always_has_a_task():
    rng = np.random.default_rng(0)
    for count in (1, 2, 12, 33, 63):
        weights = rng.random(count) + 0.01
        weights[-1] = 0 if count > 1 else 1
        names = [f"task {number}" for number in range(count)]
        parameters = {"weights": dict(zip(names, weights.tolist(), strict=True))}
        sampler = ScheduleTaskSampler(dict.fromkeys(names, 1.0), "constant", parameters)
        bounds = np.append(0, sampler.task_cumulative_distribution(tf.constant(7, tf.int64)))
        for draw in (0.0, 0.5, np.float32(1) - np.float32(2**-24)):
            hit = np.flatnonzero((draw >= bounds[:-1]) & (draw < bounds[1:]))
            assert len(hit) == 1
            assert weights[hit[0]] > 0
        np.testing.assert_allclose(
            np.diff(bounds)[: max(0, count - 2)],
            (weights / weights.sum())[: max(0, count - 2)],
            atol=1e-6,
        )


def test_probabilities_follow_the_step():
    sampler = ScheduleTaskSampler({"easy": 0.75, "hard": 0.25}, "cooldown", {"switch_step": 5})
    bounds = tf.function(sampler.task_cumulative_distribution)
    shares = [float(bounds(tf.constant(step, tf.int64))[0]) for step in (4, 5)]
    assert shares == pytest.approx([3**0.2 / (3**0.2 + 1), 0.75])


def test_what_does_not_fit_is_named():
    weights = {"easy": 1.0, "hard": 1.0}
    with pytest.raises(ConfigError, match="unknown task 'hart'; did you mean 'hard'"):
        ScheduleTaskSampler(weights, "uniform", baselines={"hart": 1.0})
    with pytest.raises(ConfigError, match="'implicit' scales updates"):
        ScheduleTaskSampler(weights, "implicit", baselines=BASELINES)
    sampler = ScheduleTaskSampler(weights, "inverse_ratio", baselines=BASELINES)
    with pytest.raises(InputError, match="no metric 'accuracy'; did you mean 'accurary'"):
        sampler.update(1, {"easy": {"accurary": 0.5}})
    with pytest.raises(InputError, match="unknown task 'hart'"):
        sampler.update(1, {"hart": 0.5})


def test_a_checkpoint_follows_its_tasks_by_name(tmp_path):
    def make_sampler(*names):
        weights, baselines = dict.fromkeys(names, 1.0), dict.fromkeys(names, 0.9)
        return ScheduleTaskSampler(weights, "inverse_ratio", baselines=baselines)

    before = make_sampler("easy", "hard")
    before.update(5, {"easy": 0.8, "hard": 0.3})
    path = tf.train.Checkpoint(task_sampler=before).write(str(tmp_path / "sampler"))
    after = make_sampler("hard", "new", "easy")
    tf.train.Checkpoint(task_sampler=after).read(path).assert_existing_objects_matched()
    assert after.book.scores[[0, 2]].tolist() == [0.3, 0.8]
    assert np.isnan(after.book.scores[1])
    shares, old = after.probabilities(5), before.probabilities(5)
    assert shares[0] / shares[2] == pytest.approx(old[1] / old[0])
    assert shares[1] == shares.max()


def test_scores_of_another_metric_are_forgotten(tmp_path):
    def make_sampler(metric, higher_is_better):
        baselines = {"easy": 0.5, "hard": 0.5}
        weights = {"easy": 1.0, "hard": 1.0}
        return ScheduleTaskSampler(
            weights, "inverse_ratio", None, baselines, metric, higher_is_better
        )

    before = make_sampler("accuracy", True)
    before.update(5, {"easy": 0.4, "hard": 0.3})
    path = tf.train.Checkpoint(task_sampler=before).write(str(tmp_path / "sampler"))
    same = make_sampler("accuracy", True)
    tf.train.Checkpoint(task_sampler=same).read(path)
    assert same.book.scores.tolist() == [0.4, 0.3]
    for other in (make_sampler("loss", False), make_sampler("f1", True)):
        with pytest.warns(UserWarning, match=r"saved scores are of 'accuracy'"):
            tf.train.Checkpoint(task_sampler=other).read(path)
        assert np.isnan(other.book.scores).all()
    loss = make_sampler("loss", False)
    with pytest.warns(UserWarning, match="they are dropped"):
        tf.train.Checkpoint(task_sampler=loss).read(path)
    loss.update(6, {"easy": 0.6, "hard": 3.0})
    shares = loss.probabilities(6)
    assert shares[1] > 0.75  # The loss of `hard` is six times its baseline.
