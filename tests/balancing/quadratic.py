"""Two tasks with known losses and gradients: L_i = ½ |θ − a_i|² scaled, θ in the plane."""

import numpy as np
import tensorflow as tf

from keras_mtl.balancing import Balancing

START = np.array([1.0, 2.0], np.float32)


class Quadratic:
    """L_i(θ) = ½ s_i |θ − a_i|² + b_i, so g_i = s_i (θ − a_i).

    Args:
      centres: a, float [N, 2].
      scales: s, float [N].
      offsets: b, float [N].
    """

    def __init__(self, centres, scales=None, offsets=None):
        self.centres = np.asarray(centres, np.float32)
        count = len(self.centres)
        self.scales = np.ones(count, np.float32) if scales is None else np.float32(scales)
        self.offsets = np.zeros(count, np.float32) if offsets is None else np.float32(offsets)
        self.theta = tf.Variable(START)

    @classmethod
    def with_gradients(cls, gradients, offsets=None):
        """Tasks whose gradients at the start are these."""
        return cls(START - np.asarray(gradients, np.float32), offsets=offsets)

    def losses(self):
        """float32 [N], at the present θ."""
        distances = tf.reduce_sum(tf.square(self.theta - self.centres), axis=1)
        return 0.5 * self.scales * distances + self.offsets

    def direction(self, balancing, shares=None):
        """Direction of one step, float32 [2], as a tensor."""
        with tf.GradientTape(persistent=True) as tape:
            losses = self.losses()
        gradients, _ = balancing.gradients(tape, losses, [self.theta], shares=shares)
        return gradients[0]

    def step(self, balancing, shares=None, jit=False):
        """Direction of one step, float32 [2]."""
        direction = tf.function(self.direction, jit_compile=True) if jit else self.direction
        return direction(balancing, shares).numpy()

    def steps(self, balancing, count):
        """Directions of steps at one place, float32 [count, 2], in graph execution."""
        direction = tf.function(lambda: self.direction(balancing))
        return np.array([direction().numpy() for _ in range(count)])


def direction(method, gradients, shares=None, losses=None, jit=False, **parameters):
    """What a method makes of these gradients in its first step; the losses are ½|g|² + b."""
    gradients = np.asarray(gradients, np.float32)
    own = 0.5 * np.sum(gradients**2, axis=1)
    offsets = np.zeros_like(own) if losses is None else np.float32(losses) - own
    problem = Quadratic.with_gradients(gradients, offsets)
    return problem.step(Balancing(method, len(gradients), parameters), shares, jit)
