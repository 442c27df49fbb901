"""TensorFlow Model Garden: command line, experiments, and schedules for its multi-task trainer."""

from keras_mtl.garden.task_sampler import ScheduleTaskSampler

__all__ = ["ScheduleTaskSampler"]
