"""Balancing of tasks in the training step: computes the required gradients at the lowest cost."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import Balancing, create, sum_over_replicas
from keras_mtl.balancing.base import LOSSES, STATE
from keras_mtl.configuration.components import UnknownName
from keras_mtl.configuration.schema import BalancingConfig
from keras_mtl.errors import ConfigError
from keras_mtl.training.step.batches import columns_of, first_task
from keras_mtl.training.step.update_plan import UpdatePlan


def check_balancing(settings: BalancingConfig, plan: UpdatePlan) -> None:
    """Checks the method of `trainer.balancing` and whether the updates provide its inputs.

    Args:
        settings: the section `trainer.balancing`.
        plan: the plan of the updates.

    Raises:
        ConfigError: the method or a parameter is invalid, or an update has nothing to balance.
    """
    if not settings.name:
        return
    count = plan.num_tasks
    try:
        balancer = create(settings.name, count, **settings.parameters)
    except UnknownName as error:
        raise ConfigError(f"trainer.balancing.name {error.text}") from error
    except ConfigError as error:
        raise ConfigError(f"trainer.balancing.parameters: {error}") from error
    if balancer.uses != STATE and not plan.mixed and plan.accumulation == 1:
        raise ConfigError(
            f"trainer.balancing.name = {settings.name!r} compares the tasks of an update, but "
            "every update has one batch of one task. Set "
            f"trainer.optimizer.gradient_accumulation_steps: {count} (then the gradient of each "
            "task costs nothing extra), or task.data.granularity: example"
        )


def build_balancing(settings: BalancingConfig, num_tasks: int, seed: int) -> Balancing | None:
    """Creates the method of `trainer.balancing`. Call it in the strategy's scope."""
    if not settings.name:
        return None
    return Balancing(settings.name, num_tasks, settings.parameters, seed=seed)


def collect(balancing: Balancing | None) -> dict[str, np.ndarray]:
    """Returns the state of balancing for a checkpoint: arrays by name."""
    if balancing is None:
        return {}
    prefix = f"balancing/{balancing.method}/"
    return {f"{prefix}{name}": value for name, value in balancing.state_dict().items()}


def restore(
    balancing: Balancing | None, arrays: Mapping[str, np.ndarray], index_map: np.ndarray
) -> None:
    """Restores the state from `collect`; a method that has changed keeps its initial state.

    Args:
        balancing: the method; None restores nothing.
        arrays: arrays of the checkpoint; those of other objects are ignored.
        index_map: int64 [num_tasks], the saved index of each current task, -1 for a new one.

    Raises:
        CheckpointError: the shape of an array does not match the map.
    """
    if balancing is None:
        return
    prefix = f"balancing/{balancing.method}/"
    own = {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}
    balancing.load_state_dict(own, index_map)


def mean_weights(
    sums: Mapping[str, np.ndarray], task_names: Sequence[str]
) -> dict[str, float] | None:
    """Returns the mean weight of each task over the steps that had it; None without balancing.

    Args:
        sums: sums of a loop, from the trainer; with balancing they include `weights` and
            `weighted_steps`.
        task_names: names of the tasks, in their order.
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
    """Computes the gradient of an update from the batches of several tasks.

    Methods that depend only on their state weight the losses before a single backward pass. Other
    methods need the gradient of each task. If each accumulated batch has one task, these gradients
    are already available; if batches are mixed, one forward pass is followed by one backward pass
    per task. FAMO needs only the losses: on one device without accumulation, it needs a single
    backward pass.

    Args:
        balancing: the method and its state.
        trainer: the trainer, with `model`, `strategy`, `accumulation`, `rows_of_batch`,
            `sums_of_rows`, `gradients_of_batch` and `present_loss_scale`.
        mixed: whether a batch has several tasks.
        jit_compile: whether to compile forward and backward passes with XLA.
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
        """Computes the gradient of an update without changing the state.

        Args:
            batches: the replica's batches, dicts with `source`, `target` and `task`.
            scales: float32 [num_tasks], the schedule's factors on the losses.

        Returns:
            A tuple of the gradients of the sum over tokens, summed over replicas; the replica's
            sums by task; the weights of the tasks, float32 [num_tasks], 0 for absent tasks; the
            observations for `learn`.
        """
        if self._apart:
            return self._combined(batches, scales)
        factors = scales
        if not self._inside:
            all_present = self.balancing.seen(tf.ones([self.num_tasks]))
            factors = scales * self.balancing.weights_of(all_present)
        loss_scale = self._trainer.present_loss_scale()
        found = [self._whole(columns_of(batch), factors, loss_scale) for batch in batches]
        gradients, sums = tf.nest.map_structure(lambda *parts: tf.add_n(parts), *found)
        seen = self._seen(sum_over_replicas([sums["loss"], sums["tokens"]]), scales)
        return sum_over_replicas(gradients), sums, self.balancing.weights_of(seen), seen

    def learn(self, batches: Sequence[dict[str, tf.Tensor]], seen: Any, valid: Any) -> None:
        """Advances the state after the update of the model's weights.

        Args:
            batches: the argument of `gradients`.
            seen: the observations that `gradients` returned.
            valid: bool [], whether the update was applied.
        """
        self.balancing.learn(seen, valid)
        if self.balancing.balancer.looks_back:
            found = [self._sums(columns_of(batch)) for batch in batches]
            loss, tokens = sum_over_replicas(
                [tf.add_n(list(part)) for part in zip(*found, strict=True)]
            )
            self.balancing.look_back(seen, tf.math.divide_no_nan(loss, tokens), valid)

    def _combined(self, batches: Sequence[dict[str, tf.Tensor]], scales: tf.Tensor) -> Any:
        loss_scale = self._trainer.present_loss_scale()
        if self._mixed:
            found = [self._by_task(columns_of(batch), scales, loss_scale) for batch in batches]
            parts, sums = tf.nest.map_structure(lambda *parts: tf.add_n(parts), *found)
            assignment = tf.eye(self.num_tasks)
        else:
            found = [self._whole(columns_of(batch), scales, loss_scale) for batch in batches]
            parts = [tf.stack(list(part)) for part in zip(*(g for g, _ in found), strict=True)]
            sums = tf.nest.map_structure(lambda *parts: tf.add_n(parts), *(s for _, s in found))
            tasks = tf.stack([first_task(batch) for batch in batches])
            assignment = tf.one_hot(tasks, self.num_tasks, axis=0)
        totals = sum_over_replicas([sums["loss"], sums["tokens"]])
        seen = self._seen(totals, scales)
        gradients, weights, seen = self.balancing.combine(
            sum_over_replicas(parts), assignment, seen.shares, seen.losses, self._shared
        )
        return gradients, sums, weights, seen

    def _seen(self, totals: Any, scales: tf.Tensor) -> Any:
        """Returns the observations: mean losses, and as shares the tokens times the factors."""
        loss, tokens = totals
        return self.balancing.seen(scales * tokens, tf.math.divide_no_nan(loss, tokens))

    def _gradients(
        self,
        batch: dict[str, tf.Tensor],
        scales: tf.Tensor,
        loss_scale: tf.Tensor | None,
    ) -> Any:
        reweight = self._reweight if self._inside else None
        return self._trainer.gradients_of_batch(batch, scales, loss_scale, reweight)

    def _reweight(self, sums: Any, scales: tf.Tensor) -> Any:
        """Returns the factors of the losses, computed from the losses."""
        return scales * self.balancing.weights_of(
            self._seen([sums["loss"], sums["tokens"]], scales)
        )

    def _gradients_by_task(
        self,
        batch: dict[str, tf.Tensor],
        scales: tf.Tensor,
        loss_scale: tf.Tensor | None,
    ) -> Any:
        """Same as the trainer's `gradients_of_batch`, but [num_tasks, ...] for each variable."""
        variables = [variable.value for variable in self._trainer.model.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            rows = self._trainer.rows_of_batch(batch)
            scaled = rows["loss"] * tf.gather(scales, batch["task"])
            if loss_scale is not None:
                scaled *= loss_scale
        by_task = [
            tape.gradient(
                scaled,
                variables,
                output_gradients=tf.cast(batch["task"] == task, tf.float32),
                unconnected_gradients=tf.UnconnectedGradients.ZERO,
            )
            for task in range(self.num_tasks)
        ]
        # convert_to_tensor makes the sparse gradients of embeddings dense.
        gradients = [
            tf.stack([tf.convert_to_tensor(g) for g in part]) for part in zip(*by_task, strict=True)
        ]
        if loss_scale is not None:
            gradients = [gradient / loss_scale for gradient in gradients]
        return gradients, self._trainer.sums_of_rows(rows, batch)

    def _sums_of_batch(self, batch: dict[str, tf.Tensor]) -> Any:
        rows = self._trainer.rows_of_batch(batch)
        sums = self._trainer.sums_of_rows(rows, batch)
        return sums["loss"], sums["tokens"]
