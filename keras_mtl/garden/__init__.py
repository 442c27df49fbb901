"""Use with TensorFlow Model Garden: command line, experiments, schedules for its trainer."""

from keras_mtl.garden.task_sampler import ScheduleTaskSampler

__all__ = ["ScheduleTaskSampler"]
