"""`keras-mtl train` whose steps last longer.

TensorFlow keeps the main thread for the whole step, as it does in a step of a large model.
"""

import signal
import time

import tensorflow as tf

from keras_mtl.cli import main
from keras_mtl.training.step.trainer import MultiTaskTrainer


def train(seconds: float, words: list[str]) -> int:
    """Runs the subcommand, once in a process; each step lasts `seconds` longer."""
    # A job in the background of a script ignores it; then the command would too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    train_step = MultiTaskTrainer.train_step

    def slow_step(self, iterator):
        train_step(self, iterator)
        tf.py_function(lambda: time.sleep(seconds), [], [])

    MultiTaskTrainer.train_step = slow_step
    return main.main(["train", *words])
