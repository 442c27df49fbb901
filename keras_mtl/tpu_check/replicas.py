"""A strategy under which the program of one of many TPU replicas is lowered on a CPU.

TensorFlow's TPUStrategy requires a TPU. This strategy traces the same calls: a sum over replicas
becomes XLA's all-reduce, as under TPUStrategy. Its programs are lowered, but cannot run.

Variables whose value a TPU copies from its first replica, such as counters, are plain variables
here. The programs lack these copies of a few bytes.
"""

from typing import Any

import tensorflow as tf
from tensorflow.compiler.tf2xla.ops import gen_xla_ops  # Not available from a public module.
from tensorflow.python.distribute.one_device_strategy import OneDeviceExtended


class LoweringStrategy(tf.distribute.Strategy):
    """A strategy of replicas that exist only in the lowered programs.

    Args:
        replicas: number of replicas, >= 1.
    """

    def __init__(self, replicas: int) -> None:
        super().__init__(_Extended(self, replicas))


class _Extended(OneDeviceExtended):
    def __init__(self, strategy: LoweringStrategy, replicas: int) -> None:
        super().__init__(strategy, "/CPU:0")
        self._replicas = replicas

    @property
    def _num_replicas_in_sync(self) -> int:
        return self._replicas

    def _reduce_to(self, reduce_op: Any, value: Any, destinations: Any, options: Any) -> Any:
        del destinations, options
        if reduce_op != tf.distribute.ReduceOp.SUM:
            raise NotImplementedError(f"a reduction other than a sum: {reduce_op}")
        if self._replicas == 1:
            return value
        return gen_xla_ops.xla_all_reduce(
            input=value,
            group_assignment=[list(range(self._replicas))],
            reduce_op="Add",
            mode="CrossReplica",
        )
