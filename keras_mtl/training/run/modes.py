"""Modes of `keras-mtl train` and Model Garden's drivers. Does not import TensorFlow."""

MODES = ("train", "eval", "train_and_eval")
"""The default is `train_and_eval`."""
