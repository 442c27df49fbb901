"""What every balancing method is: a pure function of what a step has seen and a flat state.

A step has N tasks. Task i has a mean loss L_i, its gradient g_i, and a share q_i >= 0: without
balancing the step descends Σ q_i L_i. A method gives each task a weight w_i, and the step descends
along Σ q_i w_i g_i; weights of 1 are the plain step. Shares carry what a sampling schedule decides:
a task that has more of the batch keeps more of the update. A share of 0 is a task that the step has
not seen, whatever its loss says.

Most methods of gradient surgery only form linear combinations of the g_i, with coefficients that
depend on nothing but inner products. They get the Gram matrix, N x N, and never touch a gradient. A
`Combiner` is for the others.
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
    """What a step has seen of its tasks.

    Args:
        step: int32 [], steps balanced before this one.
        shares: float32 [N], >= 0; weight of each task in the plain step, 0 for an absent one.
        losses: float32 [N], mean loss of each task, 1 for an absent one; None before the forward
            pass.
        gram: float32 [N, N], inner products of the gradients of the L_i by the shared variables, 0
            for an absent task; None if no per-task gradients are known.
    """

    step: tf.Tensor
    shares: tf.Tensor
    losses: tf.Tensor | None = None
    gram: tf.Tensor | None = None

    @property
    def present(self) -> tf.Tensor:
        """bool [N], the tasks that the step has."""
        return self.shares > 0

    @property
    def known_losses(self) -> tf.Tensor:
        """The losses; only read them after the forward pass."""
        if self.losses is None:
            raise ValueError("the losses of this step are not known yet")
        return self.losses

    @property
    def gramian(self) -> tf.Tensor:
        """The Gram matrix; only read it after the backward pass."""
        if self.gram is None:
            raise ValueError("the Gram matrix of this step is not known")
        return self.gram

    @property
    def contributions(self) -> tf.Tensor:
        """float32 [N, N], inner products of the contributions q_i g_i to the plain step."""
        return self.shares[:, None] * self.gramian * self.shares[None, :]


class Balancer(abc.ABC):
    """Decides how the losses or the gradients of several tasks make one step.

    A subclass gives `name` and `weights`, and if it has state also `init` and `update`. Every
    axis of an array of the state is an axis of tasks. Its own parameters are keyword-only.

    Args:
        num_tasks: N >= 1.
        seed: seed of random draws, any int32.

    Attributes:
        uses: what `weights` depends on in addition to the state and the step: `"state"`
            (nothing), `"losses"` or `"gradients"` (losses too).
        shared_only: whether the weights act on only the variables that all tasks share; the others
            then take the plain step.
        looks_back: whether `update_after` learns from the losses after the update of the weights.
    """

    name: ClassVar[str]
    uses: ClassVar[str] = STATE
    shared_only: ClassVar[bool] = False
    looks_back: ClassVar[bool] = False

    def __init__(self, num_tasks: int, seed: int = 0) -> None:
        self.num_tasks = num_tasks
        self.seed = seed

    def init(self) -> dict[str, np.ndarray]:
        """State before the first step; float32 arrays."""
        return {}

    @abc.abstractmethod
    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Weights of the step.

        Args:
            state: from `init` or `update`.
            seen: with losses and Gram matrix as far as `uses` asks for them.

        Returns:
            float32 [N]; what it says of an absent task does not matter.
        """

    def update(self, state: State, seen: Seen) -> State:
        """State after a step; `seen` has the losses, and the Gram matrix if `uses` says so."""
        del seen
        return dict(state)

    def update_after(self, state: State, seen: Seen, losses_after: tf.Tensor) -> State:
        """State after the losses of the same batch under the new weights, float32 [N]."""
        del seen, losses_after
        return dict(state)

    def uniform(self, step: tf.Tensor, shape: tf.Tensor | list[int], number: int = 0) -> tf.Tensor:
        """Random numbers in [0, 1) that depend only on seed, step and number.

        The same step gives the same numbers after a restart. XLA draws other ones than the plain
        graph, because TensorFlow's generators do.
        """
        return tf.random.stateless_uniform(shape, self._key(step, number), alg="philox")

    def normal(self, step: tf.Tensor, shape: list[int]) -> tf.Tensor:
        """Standard normal numbers that depend only on seed and step."""
        return tf.random.stateless_normal(shape, self._key(step, 0), alg="philox")

    def _key(self, step: tf.Tensor, number: int) -> tf.Tensor:
        # An odd multiplier keeps variables of one step apart; int32 wraps around.
        mixed = (self.seed + 0x9E3779B1 * number + 2**31) % 2**32 - 2**31
        return tf.stack([tf.constant(mixed, tf.int32), tf.cast(step, tf.int32)])


class Combiner(Balancer):
    """A method that no weights express: it makes each shared gradient out of the tasks' own.

    A subclass gives `name` and `combine`. No Gram matrix is computed for it.
    """

    uses = GRADIENTS
    shared_only = True

    def weights(self, state: State, seen: Seen) -> tf.Tensor:
        """Ones: no task is preferred as a whole."""
        del state, seen
        return tf.ones([self.num_tasks])

    @abc.abstractmethod
    def combine(self, contributions: tf.Tensor, seen: Seen, number: int) -> tf.Tensor:
        """Gradient of one shared variable.

        Args:
            contributions: float32 [N, ...], q_i times the gradient of L_i by the variable.
            seen: with losses.
            number: number of the variable, which tells its random draws from those of others.

        Returns:
            float32 [...].
        """


def mean_over(values: tf.Tensor, present: tf.Tensor) -> tf.Tensor:
    """Mean over the tasks that are present, float32 []; 0 when none is."""
    present = tf.cast(present, tf.float32)
    return tf.math.divide_no_nan(tf.reduce_sum(values * present), tf.reduce_sum(present))
