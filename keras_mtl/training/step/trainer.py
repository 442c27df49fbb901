"""The training step: one traced program for all tasks, under any strategy."""

import functools
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orbit
import tensorflow as tf

from keras_mtl.balancing import sum_over_replicas
from keras_mtl.models.quantizers import model_ranges
from keras_mtl.quantization.ranges import measuring
from keras_mtl.training.step.balancing import BalancedStep
from keras_mtl.training.step.batches import columns_of, first_task
from keras_mtl.training.step.static_step import StaticStep


class MultiTaskTrainer(orbit.StandardTrainer):
    """Trains a sequence-to-sequence model on batches of many tasks.

    The loss is the sum of the label-smoothed cross-entropy over all replicas and accumulated
    batches, divided by their total number of target tokens. So the gradient does not depend on the
    distribution of rows over devices. Clipping uses the norm of this gradient. A step with a
    non-finite gradient norm, or one that `norm_tracker` rejects, changes nothing and is counted as
    skipped.

    Args:
        model: a built `keras_mtl.models.Transformer`, or another model with its `token_losses` and
            `variable_decoder_index()`, which returns for each trainable variable the decoder that
            owns it (None: shared).
        optimizer: `keras_mtl.training.step.optimizers.Adam`, built on the model's variables.
        strategy: the strategy under whose scope both were made.
        num_tasks: int >= 1, number of tasks.
        decoder_of_task: ints [num_tasks], the decoder of each task.
        label_smoothing: float in [0, 1).
        global_clipnorm: float >= 0, maximum of the gradient norm; 0 disables clipping.
        accumulation: int >= 1, batches per update. It must be 1 if the optimizer has `num_tasks`;
            each batch must then have a single task.
        scale_learning_rate: whether `set_scales` sets factors on the learning rates of the tasks
            instead of on their losses; requires an optimizer with `num_tasks`.
        jit_compile: whether to compile the forward and backward pass with XLA.
        balancing: `keras_mtl.balancing.Balancing`, made under the strategy's scope; None adds the
            losses.
        mixed: whether a batch has several tasks; only balancing uses it.
        loss_scale: `keras_mtl.training.step.loss_scale.DynamicLossScale` for a model that computes
            in float16; None disables loss scaling.
        norm_tracker: `keras_mtl.training.step.gradient_norm.GradientNormTracker`, which finds
            updates to skip because of their gradient norm; None skips none of them.
        shapes: (rows of a replica, length) of each bucket, by strictly increasing length, for a
            compiled step; None for one graph of any shape.
        trained_by: for each trainable variable, whether each task trains it; None: all tasks do.
            Batches must be of one task.
        routes: `TranslationTask.route` of each task, if the model has adapters; None: the decoders.
    """

    def __init__(
        self,
        model: Any,
        optimizer: Any,
        strategy: tf.distribute.Strategy,
        num_tasks: int,
        decoder_of_task: Sequence[int],
        label_smoothing: float = 0.1,
        global_clipnorm: float = 1.0,
        accumulation: int = 1,
        jit_compile: bool = True,
        scale_learning_rate: bool = False,
        balancing: Any = None,
        mixed: bool = False,
        loss_scale: tf.Tensor | None = None,
        shapes: Sequence[tuple[int, int]] | None = None,
        norm_tracker: Any = None,
        trained_by: Sequence[Sequence[bool] | None] | None = None,
        routes: Sequence[int] | None = None,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.strategy = strategy
        self.num_tasks = num_tasks
        self.label_smoothing = label_smoothing
        self.global_clipnorm = global_clipnorm
        self.accumulation = accumulation
        self.scale_learning_rate = scale_learning_rate
        self.loss_scale = loss_scale
        self.norm_tracker = norm_tracker
        with strategy.scope():
            self.global_step = orbit.utils.create_global_step()
            self._scales = tf.Variable(
                tf.ones([num_tasks]),
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                name="task_scales",
            )
            self._totals = {
                "loss": self._total([num_tasks]),
                "nll": self._total([num_tasks]),
                "tokens": self._total([num_tasks]),
                "source_tokens": self._total([]),
                "skipped": self._total([]),
                "gradient_norm": self._total([]),
            }
            if balancing is not None:
                self._totals["weights"] = self._total([num_tasks])
                self._totals["weighted_steps"] = self._total([num_tasks])
        self._resets_totals = True
        self._decoder_of_task = tf.constant(decoder_of_task, tf.int32)
        self._route_of_task = tf.constant(routes or decoder_of_task, tf.int32)
        self._routes_batches = bool(getattr(model, "adapter_sets", ())) and not mixed
        self._owners = model.variable_decoder_index()
        self._ranges = model_ranges(model)
        trained_by = trained_by or [None] * len(self._owners)
        self.trained_by = [row if row is None else tf.constant(row) for row in trained_by]
        # The strategy compiles a TPU program as a whole; nested jit_compile would fail.
        tpu = isinstance(strategy, tf.distribute.TPUStrategy)
        jit = jit_compile and not tpu
        self._drop_padding = not jit and not tpu
        self._gradients = tf.function(
            self.gradients_of_batch, jit_compile=jit or None, autograph=False
        )
        self._balanced = balancing and BalancedStep(balancing, self, mixed, jit)
        self.static = StaticStep(strategy, self, shapes) if shapes else None
        super().__init__(train_dataset=None)

    @staticmethod
    def _total(shape: Sequence[int]) -> tf.Variable:
        # Each replica adds the sums over all replicas. Totals of single replicas would be rounded
        # differently after a checkpoint, which holds only their sum.
        return tf.Variable(
            tf.zeros(shape),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def set_dataset(self, dataset: Any) -> None:
        """Sets the distributed dataset whose start the next loop reads from.

        Call it after each change of the schedule, because an iterator has prefetched elements that
        were drawn with the old probabilities.
        """
        self.train_dataset = dataset

    @property
    def mark(self) -> Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]] | None:
        """What to map the elements of a dataset with; None for nothing."""
        if self.static is None or len(self.static.shapes.shapes) == 1:
            return None
        return self.static.shapes.mark

    def set_scales(self, scales: tf.Tensor) -> None:
        """Sets the factor on each task's loss or learning rate: float [num_tasks] with mean 1."""
        if self.scale_learning_rate:
            self.optimizer.set_factors(scales)
        else:
            self._scales.assign(tf.cast(scales, tf.float32))

    def continue_loop(self, num_steps: tf.Tensor) -> dict[str, Any]:
        """Continues a loop: same as `train`, but the totals are not reset.

        Args:
            num_steps: int tensor [], number of steps.

        Returns:
            The totals of the loop so far; see `train_loop_end`.
        """
        self._resets_totals = False
        try:
            return self.train(num_steps)
        finally:
            self._resets_totals = True

    def restore_totals(self, totals: Mapping[str, Any]) -> None:
        """Restores the totals of a loop before `continue_loop` continues it.

        Args:
            totals: the result of `train_loop_end`; missing entries become 0.
        """
        for name, total in self._totals.items():
            total.assign(tf.cast(totals.get(name, tf.zeros_like(total)), tf.float32))

    def train_loop_begin(self) -> None:
        if self._resets_totals:
            self.restore_totals({})

    # AutoGraph would take seconds to convert a step, which has nothing to convert.
    @tf.autograph.experimental.do_not_convert
    def train_step(self, iterator: Any) -> None:
        if self.static:
            self.static.run(iterator)
        else:
            batches = [next(iterator) for _ in range(self.accumulation)]
            self.strategy.run(self.replica_step, args=(batches,))
        self.global_step.assign_add(1)

    def train_loop_end(self) -> Any:
        """Returns the sums over the steps of the loop, as NumPy values.

        Returns:
            A dict with the sums over target tokens `loss`, `nll` and `tokens`, float32 [num_tasks],
            and the float32 scalars `source_tokens`, `skipped` (number of skipped steps) and
            `gradient_norm` (sum of the norms before clipping, without skipped steps). With
            balancing also `weights` and `weighted_steps`, float32 [num_tasks]: the sum of each
            task's weights and the number of steps that had the task.
        """
        return {name: total.read_value().numpy() for name, total in self._totals.items()}

    def rows_of_batch(self, batch: dict[str, tf.Tensor]) -> Any:
        """Runs the model.

        Returns:
            `loss`, `nll` and `tokens`, float32 of the shape of `task`. If states of quantizers
            change, also `ranges`, from `ModelRanges.sums`.
        """
        decoder = tf.gather(self._route_of_task, batch["task"])
        if self._routes_batches:  # All rows use the same adapters, which is cheaper.
            decoder = tf.reshape(decoder, [-1])[:1]
        inputs = {name: value for name, value in batch.items() if name != "task"}
        inputs["decoder"] = decoder
        with measuring() as found:
            loss, tokens, nll = self.model.token_losses(
                inputs, self.label_smoothing, training=True, drop_padding=self._drop_padding
            )
        rows = {"loss": loss, "nll": nll, "tokens": tokens}
        if self._ranges:
            used = self.model.copies_of(tf.gather(self._route_of_task, first_task(batch)))
            rows["ranges"] = self._ranges.sums(found, used)
        return rows

    def sums_of_rows(self, rows: dict[str, tf.Tensor], batch: dict[str, tf.Tensor]) -> Any:
        """Returns sums of rows by task, float32 [num_tasks], and those of the whole batch."""
        sums = {
            name: tf.math.unsorted_segment_sum(rows[name], batch["task"], self.num_tasks)
            for name in ("loss", "nll", "tokens")
        }
        if self._ranges:
            sums["ranges"] = rows["ranges"]
        sums["source_tokens"] = tf.reduce_sum(tf.cast(batch["source"] != 0, tf.float32))
        return sums

    def present_loss_scale(self) -> Any:
        """Returns the loss scale of the current update, float32 []; None without loss scaling."""
        return None if self.loss_scale is None else self.loss_scale.value

    def gradients_of_batch(
        self,
        batch: dict[str, tf.Tensor],
        scales: tf.Tensor,
        loss_scale: tf.Tensor | None = None,
        reweight: Any = None,
    ) -> Any:
        """Returns the gradients of the scaled losses of a batch, and its sums by task.

        Args:
            batch: from `columns_of`.
            scales: float32 [num_tasks], factor on the loss of each task.
            loss_scale: float32 [], multiplies the loss and divides the gradients; None: 1.
            reweight: function of sums and scales that returns new scales; None keeps them.
        """
        variables = [variable.value for variable in self.model.trainable_variables]
        with tf.GradientTape() as tape:
            rows = self.rows_of_batch(batch)
            sums = self.sums_of_rows(rows, batch)
            if reweight is not None:
                scales = tf.stop_gradient(reweight(sums, scales))
            total = tf.reduce_sum(rows["loss"] * tf.gather(scales, batch["task"]))
            if loss_scale is not None:
                total *= loss_scale
        gradients = tape.gradient(
            total, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if loss_scale is not None:
            gradients = [gradient / loss_scale for gradient in gradients]
        return gradients, sums

    def replica_step(self, batches: Sequence[dict[str, tf.Tensor]]) -> None:
        """Makes an update of a replica's batches, in its context."""
        gradients, sums = self._merge([self._gradients_of(batch) for batch in batches])
        outcome = self.update(gradients, sums, tf.stack([first_task(batch) for batch in batches]))
        if self.looks_back:
            found = [self.sums_after(batch) for batch in batches]
            self.look_back(outcome, tf.nest.map_structure(lambda *parts: tf.add_n(parts), *found))

    def _gradients_of(self, batch: dict[str, tf.Tensor]) -> Any:
        """Returns a batch's part of the gradients of an update, and its sums."""
        scales = tf.identity(self._scales)
        if self._balanced:
            gradients, sums = self._balanced.gradients_of_batch(batch, scales)
        else:
            gradients, sums = self._gradients(columns_of(batch), scales, self.present_loss_scale())
        if any(row is not None for row in self.trained_by):
            gradients = self._without_others(gradients, first_task(batch))
        return gradients, sums

    def _without_others(self, gradients: Sequence[tf.Tensor], task: tf.Tensor) -> list[tf.Tensor]:
        """Returns gradients with zeros for the variables that a task does not train."""
        return [
            gradient if row is None else tf.where(tf.gather(row, task), gradient, 0.0)
            for gradient, row in zip(gradients, self.trained_by, strict=True)
        ]

    def _merge(self, found: Sequence[Any]) -> Any:
        """Returns gradients and sums of an update's batches from those of each."""
        if self._balanced:
            return self._balanced.merge(found)
        return functools.reduce(
            lambda sums, parts: tf.nest.map_structure(operator.add, sums, parts), found
        )

    def update(self, gradients: Any, sums: Any, tasks: tf.Tensor) -> dict[str, tf.Tensor]:
        """Updates weights, optimizer and totals, in a replica's context.

        Args:
            gradients: of the replica's batches, summed, or stacked if balancing keeps them apart.
            sums: of the replica's batches.
            tasks: int32 [accumulation], the first task of each batch.

        Returns:
            What `look_back` needs.
        """
        outcome: dict[str, tf.Tensor] = {}
        if self._balanced:
            gradients, weights, seen = self._balanced.update_gradients(
                gradients, sums, tasks, tf.identity(self._scales)
            )
        else:
            gradients = sum_over_replicas(gradients)
        sums = self._over_replicas(sums)
        count = tf.reduce_sum(sums["tokens"])
        replicas = self.strategy.num_replicas_in_sync
        norm = tf.linalg.global_norm(gradients) / count
        finite = tf.math.is_finite(norm)
        if self.loss_scale is not None:
            self.loss_scale.update(finite)
        accepted = finite if self.norm_tracker is None else finite & self.norm_tracker.accepts(norm)
        factor = 1.0 / count
        if self.global_clipnorm:
            factor *= tf.minimum(1.0, self.global_clipnorm / tf.maximum(norm, 1e-12))
        # The optimizer sums over replicas again, so divide by their number.
        factor = tf.where(accepted, factor / replicas, float("nan"))
        if self.optimizer.num_tasks:
            self.optimizer.set_task(tasks[0])
        self.optimizer.apply(
            [
                gradient * self._mask(owner, row, tasks, factor)
                for gradient, owner, row in zip(
                    gradients, self._owners, self.trained_by, strict=True
                )
            ],
            self.model.trainable_variables,
        )
        if self._ranges:
            sums = dict(sums)
            ranges = sum_over_replicas(sums.pop("ranges"))
            self._ranges.advance(ranges, self.global_step + 1, accepted)
        if self._balanced:
            outcome = self._balanced.learn(seen, accepted)
            present = tf.cast(seen.present & accepted, tf.float32)
            sums = {
                **sums,
                "weights": tf.math.multiply_no_nan(weights, present),
                "weighted_steps": present,
            }
        for name, value in sums.items():
            self._totals[name].assign_add(value)
        self._totals["gradient_norm"].assign_add(tf.where(accepted, norm, 0.0))
        self._totals["skipped"].assign_add(tf.where(accepted, 0.0, 1.0))
        return outcome

    def _over_replicas(self, sums: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Returns the sums over all replicas, which communicate once."""
        if self.strategy.num_replicas_in_sync == 1:
            return dict(sums)
        together = tf.concat([tf.reshape(each, [-1]) for each in sums.values()], 0)
        parts = tf.split(
            sum_over_replicas(together), [each.shape.num_elements() for each in sums.values()]
        )
        return {
            name: tf.reshape(part, each.shape)
            for part, (name, each) in zip(parts, sums.items(), strict=True)
        }

    @property
    def looks_back(self) -> bool:
        """Whether an update ends with `look_back`."""
        return bool(self._balanced and self._balanced.looks_back)

    def sums_after(self, batch: dict[str, tf.Tensor]) -> Any:
        """Returns losses and tokens of a batch by task, float32 [num_tasks]."""
        return self._balanced.sums_of_batch(batch)

    def look_back(self, outcome: dict[str, tf.Tensor], sums: Any) -> None:
        """Lets balancing learn from the losses after an update, in a replica's context.

        Args:
            outcome: from `update`.
            sums: of `sums_after`, over the replica's batches.
        """
        self._balanced.look_back(outcome, sums)

    def part_of_update(self, batch: dict[str, tf.Tensor], number: tf.Tensor) -> Any:
        """Returns what a batch adds to the arguments of `update`.

        Args:
            batch: the replica's batch.
            number: int32 [], the number of the batch in its update.
        """
        gradients, sums = self._gradients_of(batch)
        place = tf.range(self.accumulation) == number
        if self._stacks:
            gradients = [_at(place, gradient) for gradient in gradients]
        return gradients, sums, _at(place, first_task(batch))

    def accumulated_specs(self) -> Any:
        """Returns the specifications of `part_of_update`."""
        lead = self._balanced.leading_shape(self.accumulation) if self._balanced else ()
        gradients = [
            tf.TensorSpec((*lead, *variable.shape), variable.dtype)
            for variable in self.model.trainable_variables
        ]
        by_task = tf.TensorSpec([self.num_tasks])
        sums = dict.fromkeys(("loss", "nll", "tokens"), by_task)
        sums["source_tokens"] = tf.TensorSpec([])
        if self._ranges:
            sums["ranges"] = tf.TensorSpec(self._ranges.shape)
        return gradients, sums, tf.TensorSpec([self.accumulation], tf.int32)

    def sums_specs(self) -> Any:
        """Returns the specifications of `sums_after`."""
        return (tf.TensorSpec([self.num_tasks]),) * 2

    @property
    def _stacks(self) -> bool:
        return bool(self._balanced and self._balanced.stacks)

    def _mask(
        self, owner: int | None, row: tf.Tensor | None, tasks: tf.Tensor, factor: tf.Tensor
    ) -> Any:
        """Returns the factor, or NaN for a variable that no batch trains.

        Args:
            owner: the only decoder that uses the variable; None: all do.
            row: bool [num_tasks], whether each task trains the variable; None: all do.
            tasks: int32 [accumulation], the task of each batch, which has one.
            factor: float32 [].
        """
        if owner is None and row is None:
            return factor
        used = tf.fill(tf.shape(tasks), True) if row is None else tf.gather(row, tasks)
        if owner is not None:
            used &= tf.gather(self._decoder_of_task, tasks) == owner
        return tf.where(tf.reduce_any(used), factor, float("nan"))


def _at(place: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """Stacks a value at a place, with zeros at the others.

    Args:
        place: bool [count].
        value: any shape.
    """
    place = tf.reshape(place, [-1] + [1] * value.shape.rank)
    return tf.where(place, value, tf.zeros([], value.dtype))
