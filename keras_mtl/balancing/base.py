"""The base class of balancing methods: pure functions of the data of a step and a flat state.

A step has N tasks. Task i has a mean loss L_i, the gradient g_i of that loss, and a share q_i >= 0.
Without balancing, the step descends Σ q_i L_i; this is called the plain step. A method gives each
task a weight w_i, and the step descends along Σ q_i w_i g_i. Weights of 1 give the plain step. The
shares come from the sampling schedule: a task with more rows of the batch keeps more of the update.
A task with a share of 0 is absent from the step, and its loss is ignored.

Most methods of gradient surgery form linear combinations of the g_i whose coefficients depend only
on inner products. They get the N x N Gram matrix and never read a gradient. All other methods
derive from `Combiner`.
"""

import abc
import dataclasses
from typing import ClassVar

import numpy as np
import tensorflow as tf

State = dict[str, tf.Tensor]

STATE = "state"
LOSSES = "losses"
GRADIENTS = "gradients"


@dataclasses.dataclass(frozen=True)
class Seen:
    """The data of a step that a balancing method sees.

    Args:
        step: int32 [], number of balanced steps before this one.
        shares: float32 [N], >= 0; weight of each task in the plain step, 0 for an absent task.
        losses: float32 [N], mean loss of each task, 1 for an absent task; None before the forward
            pass.
        gram: float32 [N, N], inner products of the gradients of the L_i with respect to the shared
            variables, 0 for an absent task; None if no per-task gradients are known.
    """

    step: tf.Tensor
    shares: tf.Tensor
    losses: tf.Tensor | None = None
    gram: tf.Tensor | None = None

    @property
    def present(self) -> tf.Tensor:
        """Which tasks are present in the step, bool [N]."""
        return self.shares > 0

    @property
    def known_losses(self) -> tf.Tensor:
        """The losses, float32 [N]; available after the forward pass."""
        if self.losses is None:
            raise ValueError("the losses of this step are not known yet")
        return self.losses

    @property
    def gramian(self) -> tf.Tensor:
        """The Gram matrix, float32 [N, N]; available after the backward pass."""
        if self.gram is None:
            raise ValueError("the Gram matrix of this step is not known")
        return self.gram

    @property
    def contributions(self) -> tf.Tensor:
        """Inner products of the contributions q_i g_i to the plain step, float32 [N, N]."""
        return self.shares[:, None] * self.gramian * self.shares[None, :]


class Balancer(abc.ABC):
    """Base class of methods that weight the losses or gradients of the tasks of a step.

    A subclass defines `name` and `weights`, and if it has state also `init` and `update`. Every
    axis of an array of the state is an axis of tasks. Parameters of a subclass are keyword-only.

    Args:
        num_tasks: N >= 1.
        seed: seed of random draws, any int32.

    Attributes:
        name: name under which the class is registered.
        uses: what `weights` depends on in addition to the state and the step: `"state"`
            (nothing), `"losses"`, or `"gradients"` (gradients and losses).
        shared_only: whether the weights apply only to the variables that all tasks share; other
            variables then take the plain step.
        looks_back: whether `update_after` learns from the losses after the update of the model.

    Example:
        ```python
        import tensorflow as tf
        from keras_mtl import balancing

        @balancing.register
        class InverseLoss(balancing.Balancer):
            name = "inverse_loss"
            uses = "losses"

            def weights(self, state, seen):
                return 1.0 / tf.maximum(seen.known_losses, 1e-6)

        layer = balancing.Balancing("inverse_loss", num_tasks=2)
        layer.weights_of(layer.seen(tf.constant([0.5, 0.5]), tf.constant([4.0, 1.0])))  # 0.25, 1
        ```
    """

    name: ClassVar[str]
    uses: ClassVar[str] = STATE
    shared_only: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False

    def __init__(self, num_tasks: int, seed: int = 0) -> None:
        self.num_tasks = num_tasks
        self.seed = seed

    def init(self) -> dict[str, np.ndarray]:
        """Returns the state before the first step; float32 arrays whose axes are axes of tasks."""
        return {}

    @abc.abstractmethod
    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns the weights of the step.

        Args:
            state: from `init` or `update`.
            seen: data of the step; `uses` determines whether losses and Gram matrix are available.

        Returns:
            float32 [N]; the weights of absent tasks are ignored.
        """

    def update(self, state: State, seen: Seen) -> State:
        """Returns the state after a step.

        Args:
            state: from `init` or `update`.
            seen: data of the step, with losses; with the Gram matrix if `uses` is `"gradients"`.
        """
        del seen
        return dict(state)

    def update_after(self, state: State, seen: Seen, losses_after: tf.Tensor) -> State:
        """Returns the state after the losses of the same batch with the updated model are known.

        Args:
            state: from `init` or `update`.
            seen: data of the step, with losses.
            losses_after: float32 [N].
        """
        del seen, losses_after
        return dict(state)

    def uniform(self, step: tf.Tensor, shape: tf.Tensor | list[int], number: int = 0) -> tf.Tensor:
        """Returns random numbers in [0, 1) that depend only on the seed, `step` and `number`.

        The same step gives the same numbers after a restart. With XLA the numbers are different,
        because TensorFlow's generators are.
        """
        return tf.random.stateless_uniform(shape, self._key(step, number), alg="philox")

    def normal(self, step: tf.Tensor, shape: list[int]) -> tf.Tensor:
        """Returns standard normal numbers that depend only on the seed and `step`."""
        return tf.random.stateless_normal(shape, self._key(step, 0), alg="philox")

    def _key(self, step: tf.Tensor, number: int) -> tf.Tensor:
        # An odd multiplier gives each variable of a step its own key; int32 wraps around.
        mixed = (self.seed + 0x9E3779B1 * number + 2**31) % 2**32 - 2**31
        return tf.stack([tf.constant(mixed, tf.int32), tf.cast(step, tf.int32)])


class Combiner(Balancer):
    """Base class of methods that weights cannot express; they compute each shared gradient.

    A subclass defines `name` and `combine`. No Gram matrix is computed for it.

    Args:
        num_tasks: N >= 1.
        seed: seed of random draws, any int32.
    """

    uses = GRADIENTS
    shared_only = True

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Returns ones: no task is preferred as a whole."""
        del state, seen
        return tf.ones([self.num_tasks])

    @abc.abstractmethod
    def combine(self, contributions: tf.Tensor, seen: Seen, number: int) -> tf.Tensor:
        """Returns the gradient of one shared variable.

        Args:
            contributions: float32 [N, ...], q_i times the gradient of L_i.
            seen: data of the step, with losses.
            number: number of the variable, which gives it its own random draws.

        Returns:
            float32 [...], of the shape of the variable.
        """


def mean_over(values: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Returns the mean over the present tasks, float32 []; 0 if there is none."""
    present = tf.cast(present, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(values * present), tf.reduce_sum(present))
