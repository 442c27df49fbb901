"""Compares runs on the same tasks: a page, pictures and tables.

The package reads the directories of runs. It needs neither TensorFlow nor the models.
"""

from keras_mtl.report.groups import Group, group_runs
from keras_mtl.report.runs import Run, read_run
from keras_mtl.report.writing import write_report

__all__ = ["Group", "Run", "group_runs", "read_run", "write_report"]
