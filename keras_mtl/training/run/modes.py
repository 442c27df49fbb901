"""What `keras-mtl train` and Model Garden's drivers do with a model. Needs no TensorFlow."""

MODES = ("train", "eval", "train_and_eval")
"""The last one is the default."""
