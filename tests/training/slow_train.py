"""`keras-mtl train` whose steps last longer: python slow_train.py SECONDS ARGUMENT ...

TensorFlow keeps the main thread for the whole step, as it does in a step of a large model.
"""

import signal
import sys
import time

import tensorflow as tf

from keras_mtl.cli import main
from keras_mtl.training.step.trainer import MultiTaskTrainer

# A job in the background of a script ignores it; then the command would too.
signal.signal(signal.SIGINT, signal.default_int_handler)
SECONDS = float(sys.argv[1])
train_step = MultiTaskTrainer.train_step


def slow_step(self, iterator):
    train_step(self, iterator)
    tf.py_function(lambda: time.sleep(SECONDS), [], [])


MultiTaskTrainer.train_step = slow_step
# TensorFlow is imported: what the command itself would set before comes too late.
sys.exit(main.main(sys.argv[2:]))
