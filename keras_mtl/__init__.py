"""keras_mtl: one Keras model for many tasks, with adaptive schedules and a fast CPU engine.

Importing the package loads neither TensorFlow nor Keras; the rooms that need them load them.
"""

__version__ = "0.1.0"
