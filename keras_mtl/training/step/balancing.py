"""Balancing of tasks in the training step: the gradients it needs, and how to get them cheaply."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import Balancing, create, sum_over_replicas
from keras_mtl.balancing.base import LOSSES, STATE
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.errors import ConfigError
from keras_mtl.training.step.update_plan import UpdatePlan


def check_balancing(config: ExperimentConfig, plan: UpdatePlan) -> None:
    """Checks `trainer.balancing` and whether the batches give it what it balances.

    Args:
        config: the experiment.
        plan: the plan of its updates.

    Raises:
        ConfigError: the method or a parameter is wrong, or an update has nothing to balance.
    """
    settings = config.trainer.balancing
    if not settings.name:
        if settings.parameters:
            raise ConfigError(
                "trainer.balancing.parameters are given and trainer.balancing.name is empty; name "
                "the method they belong to"
            )
        return
    count = len(config.task.pairs)
    balancer = create(settings.name, count, **settings.parameters)
    here = f"trainer.balancing.name is {settings.name!r}"
    if count < 2:
        raise ConfigError(f"{here}: one task has nothing to balance; leave it empty")
    if plan.of_one_task:
        raise ConfigError(
            f"{here}: weights of losses do not go with scaled moments, moments per task or factors "
            "on the learning rate; set trainer.optimizer.moments: shared and "
            "trainer.schedule.application: gradient, or leave it empty"
        )
    if balancer.uses != STATE and not plan.mixed and plan.accumulation == 1:
        raise ConfigError(
            f"{here}: it compares the tasks of one update, and an update is one batch of one task; "
            f"set trainer.optimizer.gradient_accumulation_steps: {count} (which leaves the "
            "gradient of each task for free), or task.data.granularity: example"
        )


def build_balancing(config: ExperimentConfig, num_tasks: int) -> Balancing | None:
    """Makes what `trainer.balancing` names; call it under the strategy's scope."""
    settings = config.trainer.balancing
    if not settings.name:
        return None
    return Balancing(settings.name, num_tasks, settings.parameters, seed=config.runtime.seed)


def collect(balancing: Balancing | None) -> dict[str, np.ndarray]:
    """Returns what a checkpoint keeps of balancing: arrays by name."""
    if balancing is None:
        return {}
    prefix = f"balancing/{balancing.method}/"
    return {f"{prefix}{name}": value for name, value in balancing.state_dict().items()}


def restore(
    balancing: Balancing | None, arrays: Mapping[str, np.ndarray], index_map: np.ndarray
) -> None:
    """Restores what `collect` returned; if the method changed, the new one starts from its init.

    Args:
        balancing: the method; None restores nothing.
        arrays: arrays of the checkpoint; those of other objects are ignored.
        index_map: int64 [num_tasks], the saved index of each present task, -1 for a new one.

    Raises:
        CheckpointError: an array does not fit the map.
    """
    if balancing is None:
        return
    prefix = f"balancing/{balancing.method}/"
    own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    balancing.load_state_dict(own, index_map)


def mean_weights(
    sums: Mapping[str, np.ndarray], task_names: Sequence[str]
) -> dict[str, float] | None:
    """Returns the mean weight of each task in the steps that had it; None without balancing.

    Args:
        sums: sums of a loop, from the trainer; with balancing they include `weights` and
            `weighted_steps`.
        task_names: in the order of the tasks.
    """
    if "weights" not in sums:
        return None
    counts = sums["weighted_steps"]
    return {
        name: float(sums["weights"][task] / counts[task])
        for task, name in enumerate(task_names)
        if counts[task] > 0
    }


class BalancedStep:
    """Makes the gradient of an update from the batches of several tasks.

    Methods that depend only on their state weight the losses before one backward pass. The others
    need the gradient of each task: if each accumulated batch is of one task, these are available;
    if batches are mixed, there is one backward pass for each task after one forward pass. FAMO
    needs only the losses: on one device without accumulation it makes one backward pass.

    Args:
        balancing: the method and its state.
        trainer: the trainer, with `model`, `strategy`, `accumulation`, `rows_of_batch`,
            `sums_of_rows`, `gradients_of_batch` and `present_loss_scale`.
        mixed: whether a batch is of several tasks.
        jit_compile: compile forward and backward passes with XLA.
    """

    def __init__(self, balancing: Balancing, trainer: Any, mixed: bool, jit_compile: bool) -> None:
        self.balancing = balancing
        self.num_tasks = balancing.num_tasks
        self._trainer = trainer
        self._mixed = mixed
        uses = balancing.balancer.uses
        one_pass = mixed and trainer.accumulation == trainer.strategy.num_replicas_in_sync == 1
        self._inside = uses == LOSSES and one_pass
        self._apart = uses != STATE and not self._inside
        self._shared = [owner is None for owner in trainer.model.variable_decoder_index()]
        jit = jit_compile or None
        self._whole = tf.function(self._gradients, jit_compile=jit)
        self._by_task = tf.function(self._gradients_by_task, jit_compile=jit)
        self._sums = tf.function(self._sums_of_batch, jit_compile=jit)

    def gradients(self, batches: Sequence[dict[str, tf.Tensor]], scales: tf.Tensor) -> Any:
        """Computes the gradient of an update; the state does not change.

        Args:
            batches: the replica's batches, dicts with `source`, `target` and `task`.
            scales: float32 [num_tasks], the schedule's factors on the losses.

        Returns:
            The gradients of the sum over tokens, summed over replicas; the replica's sums by task;
            the weights of the tasks, float32 [num_tasks], 0 for an absent one; what was seen.
        """
        if self._apart:
            return self._combined(batches, scales)
        factors = scales
        if not self._inside:
            all_present = self.balancing.seen(tf.ones([self.num_tasks]))
            factors = scales * self.balancing.weights_of(all_present)
        loss_scale = self._trainer.present_loss_scale()
        found = [self._whole(*_columns(batch), factors, loss_scale) for batch in batches]
        gradients, sums = tf.nest.map_structure(lambda *parts: tf.add_n(parts), *found)
        seen = self._seen(sum_over_replicas([sums["loss"], sums["tokens"]]), scales)
        return sum_over_replicas(gradients), sums, self.balancing.weights_of(seen), seen

    def learn(self, batches: Sequence[dict[str, tf.Tensor]], seen: Any, valid: Any) -> None:
        """Advances the state, after the weights of the model are updated.

        Args:
            batches: as for `gradients`.
            seen: from `gradients`.
            valid: bool [], whether the update was made.
        """
        self.balancing.learn(seen, valid)
        if self.balancing.balancer.looks_back:
            found = [self._sums(*_columns(batch)) for batch in batches]
            loss, tokens = sum_over_replicas(
                [tf.add_n(list(part)) for part in zip(*found, strict=True)]
            )
            self.balancing.look_back(seen, tf.math.divide_no_nan(loss, tokens), valid)

    def _combined(self, batches: Sequence[dict[str, tf.Tensor]], scales: tf.Tensor) -> Any:
        loss_scale = self._trainer.present_loss_scale()
        if self._mixed:
            found = [self._by_task(*_columns(batch), scales, loss_scale) for batch in batches]
            parts, sums = tf.nest.map_structure(lambda *parts: tf.add_n(parts), *found)
            assignment = tf.eye(self.num_tasks)
        else:
            found = [self._whole(*_columns(batch), scales, loss_scale) for batch in batches]
            parts = [tf.stack(list(part)) for part in zip(*(g for g, _ in found), strict=True)]
            sums = tf.nest.map_structure(lambda *parts: tf.add_n(parts), *(s for _, s in found))
            # A batch is of one task, so its first row speaks for all.
            tasks = tf.stack([batch["task"][0] for batch in batches])
            assignment = tf.one_hot(tasks, self.num_tasks, axis=0)
        totals = sum_over_replicas([sums["loss"], sums["tokens"]])
        seen = self._seen(totals, scales)
        gradients, weights, seen = self.balancing.combine(
            sum_over_replicas(parts), assignment, seen.shares, seen.losses, self._shared
        )
        return gradients, sums, weights, seen

    def _seen(self, totals: Any, scales: tf.Tensor) -> Any:
        """Mean losses; the tokens of a task, times its factor, are its share of the update."""
        loss, tokens = totals
        return self.balancing.seen(scales * tokens, tf.math.divide_no_nan(loss, tokens))

    def _gradients(
        self,
        source: tf.Tensor,
        target: tf.Tensor,
        tasks: tf.Tensor,
        scales: tf.Tensor,
        loss_scale: tf.Tensor | None,
    ) -> Any:
        reweight = self._reweight if self._inside else None
        return self._trainer.gradients_of_batch(source, target, tasks, scales, loss_scale, reweight)

    def _reweight(self, sums: Any, scales: tf.Tensor) -> Any:
        """Factors of the losses from the losses themselves."""
        return scales * self.balancing.weights_of(
            self._seen([sums["loss"], sums["tokens"]], scales)
        )

    def _gradients_by_task(
        self,
        source: tf.Tensor,
        target: tf.Tensor,
        tasks: tf.Tensor,
        scales: tf.Tensor,
        loss_scale: tf.Tensor | None,
    ) -> Any:
        """Like the trainer's gradients of a batch, [num_tasks, ...] for each variable."""
        variables = [variable.value for variable in self._trainer.model.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            rows = self._trainer.rows_of_batch(source, target, tasks)
            scaled = rows["loss"] * tf.gather(scales, tasks)
            if loss_scale is not None:
                scaled *= loss_scale
        by_task = [
            tape.gradient(
                scaled,
                variables,
                output_gradients=tf.cast(tasks == task, tf.float32),
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            for task in range(self.num_tasks)
        ]
        # tf.stack makes dense tensors of an embedding's slices.
        gradients = [
            tf.stack([tf.convert_to_tensor(g) for g in part]) for part in zip(*by_task, strict=True)
        ]
        if loss_scale is not None:
            gradients = [gradient / loss_scale for gradient in gradients]
        return gradients, self._trainer.sums_of_rows(rows, source, tasks)

    def _sums_of_batch(self, source: tf.Tensor, target: tf.Tensor, tasks: tf.Tensor) -> Any:
        rows = self._trainer.rows_of_batch(source, target, tasks)
        sums = self._trainer.sums_of_rows(rows, source, tasks)
        return sums["loss"], sums["tokens"]


def _columns(batch: Any) -> Any:
    return batch["source"], batch["target"], batch["task"]
