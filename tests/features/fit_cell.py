"""Trains the model of a configuration with `model.fit`, stopped and unstopped."""

from pathlib import Path
from typing import Any

import numpy as np

EPOCHS, STEPS = 2, 2
# Columns of a batch that the model does not read.
OTHERS = ("task", "weight", "step", "bucket")


class Fit:
    """The objects of a run of `fit`, made as in a new process.

    Args:
        config: the configuration.
        directory: directory of the state.
        graph: whether the step is traced.
    """

    def __init__(self, config: Any, directory: Path, graph: bool) -> None:
        import keras
        import tensorflow as tf

        import keras_mtl
        from keras_mtl.configuration.draft import Draft
        from keras_mtl.data.batch_shapes import batch_shapes, training_sources
        from keras_mtl.evaluation.tasks import translation_tasks
        from keras_mtl.models.variables import freeze
        from keras_mtl.training.run.building import build_model
        from keras_mtl.training.run.planning import plan_training
        from keras_mtl.training.step.distribution import configure_runtime

        plan = plan_training(Draft(config))
        task, trainer = config.task, config.trainer
        prepared = keras_mtl.prepare(config, log=lambda line: None)
        configure_runtime(config.runtime)  # The dtype policy.
        keras.utils.set_random_seed(config.runtime.seed)
        sources = training_sources(prepared, task, config.runtime.seed)
        self.mixture = keras_mtl.Mixture(
            sources,
            plan.schedule.make({each.name: each.train_size for each in prepared.tasks}),
            batch_shapes(task.data, sources, 1),
            seed=config.runtime.seed,
            granularity=task.data.granularity,
            draw=trainer.schedule.draw,
            application=trainer.schedule.application if plan.schedule.scaling else None,
        )
        self.model = build_model(
            task.model, prepared.vocabulary.size, task.pairs, prepared.vocabulary.source_size
        )
        freeze(self.model, trainer.freeze)
        if task.model.init:
            keras_mtl.warm_start(
                self.model, prepared.vocabulary, [each.from_ for each in task.model.init]
            )
        optimizer = keras.optimizers.Adam(0.01)
        if trainer.schedule.application == "learning_rate":
            moments = trainer.optimizer.moments or "scaled"
            optimizer = keras_mtl.Adam(0.01, num_tasks=len(task.pairs), moments=moments)
        self.model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            run_eagerly=not graph,
            jit_compile=bool(config.runtime.jit_compile),
        )
        routes = tf.constant([each.route for each in translation_tasks(task.model, task.pairs)])

        def element(batch: dict[str, Any]) -> tuple[Any, Any, Any]:
            inputs = {name: value for name, value in batch.items() if name not in OTHERS}
            inputs["decoder"] = tf.gather(routes, batch["task"])
            weight = batch["weight"]
            if weight.shape.rank == 1:
                weight = weight[:, None]
            return inputs, batch["target"], weight * tf.cast(batch["target"] != 0, tf.float32)

        self._element = element
        names = [pair.name for pair in task.pairs]
        self._scores = {name: 1.0 + number for number, name in enumerate(names)}
        self._directory = directory

    def run(self, epochs: int) -> list[np.ndarray]:
        """Trains until the end of an epoch; returns the weights."""
        import keras

        import keras_mtl

        self.model.fit(
            self.mixture.dataset(steps=STEPS, map_fn=self._element),
            epochs=epochs,
            verbose=0,
            callbacks=[
                keras_mtl.TaskScheduling(
                    self.mixture,
                    lambda: self._scores,
                    state_path=self._directory / "tasks.npz",
                ),
                keras.callbacks.BackupAndRestore(
                    self._directory / "backup", delete_checkpoint=False
                ),
            ],
        )
        return [np.array(variable) for variable in self.model.weights]


def train_and_resume(config: Any, directory: Path, graph: bool) -> None:
    """Asserts that `fit` changes the weights, and that a run that is stopped gets the same."""
    fit = Fit(config, directory / "whole", graph)
    before = [np.array(variable) for variable in fit.model.trainable_variables]
    whole = fit.run(EPOCHS)
    after = [np.array(variable) for variable in fit.model.trainable_variables]
    changed = [not np.array_equal(*each) for each in zip(before, after, strict=True)]
    assert np.mean(changed) > 0.7
    assert all(np.isfinite(value).all() for value in after)
    Fit(config, directory / "parts", graph).run(EPOCHS - 1)
    parts = Fit(config, directory / "parts", graph).run(EPOCHS)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_array_equal(one, other)
