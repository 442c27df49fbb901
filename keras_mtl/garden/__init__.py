"""Use with TensorFlow Model Garden."""

from keras_mtl.garden.task_sampler import ScheduleTaskSampler

__all__ = ["ScheduleTaskSampler"]
