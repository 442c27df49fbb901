"""The training steps that benchmarks/training.py compares.

Each class has `run(steps)`, which trains on its batches in turn and returns wall and CPU seconds.
"""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from official.nlp.modeling.models import seq2seq_transformer

from keras_mtl.models import Transformer
from keras_mtl.training.step.optimizers import Adam

SMOOTHING = 0.1
DROPOUT = 0.1


def _specs(batches):
    """Returns a signature of the batches' arrays; sizes that differ between batches are unknown."""
    specs = {}
    for name in batches[0]:
        shapes = [batch[name].shape for batch in batches]
        sizes = [
            size if len({s[i] for s in shapes}) == 1 else None for i, size in enumerate(shapes[0])
        ]
        specs[name] = tf.TensorSpec(sizes, tf.int32)
    return specs


class TensorFlowStep:
    """A training step in this process.

    Args:
        build: function of sizes that returns the gradient-taking step and the variables.
        size: sizes of the model.
        batches: dicts of int32 arrays.
        jit: whether to compile with XLA.
        remapping: whether TensorFlow's graph remapper is on.
    """

    def __init__(self, build, size, batches, jit, remapping):
        self._remapping = remapping
        self._batches = [
            {name: tf.constant(array) for name, array in batch.items()} for batch in batches
        ]
        step, self.parameters = build(size, jit)
        self._step = tf.function(step, input_signature=[_specs(batches)], jit_compile=jit)

    def run(self, steps):
        # Read at each call of a tf.function, which keeps one program for each setting.
        tf.config.optimizer.set_experimental_options({"remapping": self._remapping})
        start, cpu_start = time.perf_counter(), time.process_time()
        for i in range(steps):
            loss = self._step(self._batches[i % len(self._batches)])
        float(loss)
        return time.perf_counter() - start, time.process_time() - cpu_start


def ours(size, jit):
    """The step of keras_mtl's trainer on one device: loss, gradients and update."""
    model = Transformer(
        vocabulary_size=size["vocabulary"],
        hidden_dim=size["dim"],
        num_heads=size["heads"],
        intermediate_dim=size["ff"],
        encoder_layers=size["layers"],
        decoder_layers=size["layers"],
        dropout=DROPOUT,
        attention_dropout=DROPOUT,
        activation_dropout=DROPOUT,
    )
    optimizer = Adam(1e-4)
    optimizer.build(model.trainable_variables)

    def step(inputs):
        with tf.GradientTape() as tape:
            loss, tokens, _ = model.token_losses(
                inputs, SMOOTHING, training=True, drop_padding=not jit
            )
            total = tf.reduce_sum(loss) / tf.reduce_sum(tokens)
        gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return total

    return step, sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def garden(size, jit):
    """The step of Model Garden's translation task."""
    del jit
    options = {
        "num_layers": size["layers"],
        "num_attention_heads": size["heads"],
        "intermediate_size": size["ff"],
        "activation": "relu",
        "dropout_rate": DROPOUT,
        "attention_dropout_rate": DROPOUT,
        "intermediate_dropout": DROPOUT,
        "use_bias": False,
        "norm_first": True,
        "norm_epsilon": 1e-6,
    }
    model = seq2seq_transformer.Seq2SeqTransformer(
        vocab_size=size["vocabulary"],
        embedding_width=size["dim"],
        dropout_rate=DROPOUT,
        encoder_layer=seq2seq_transformer.TransformerEncoder(**options),
        decoder_layer=seq2seq_transformer.TransformerDecoder(**options),
    )
    model({"inputs": tf.ones([2, 4], tf.int32), "targets": tf.ones([2, 4], tf.int32)})
    optimizer = tf_keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)

    def step(inputs):
        source, target = inputs["source"], inputs["target"]
        with tf.GradientTape() as tape:
            logits = model({"inputs": source, "targets": target}, training=True)
            # The translation loss of Model Garden: smoothed one-hot targets, padding masked.
            count = size["vocabulary"]
            low = SMOOTHING / (count - 1)
            soft = tf.one_hot(target, count, on_value=1.0 - SMOOTHING, off_value=low)
            loss = tf.nn.softmax_cross_entropy_with_logits(logits=logits, labels=soft)
            weights = tf.cast(tf.not_equal(target, 0), tf.float32)
            total = tf.reduce_sum(loss * weights) / tf.reduce_sum(weights)
        gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return total

    return step, sum(int(np.prod(v.shape)) for v in model.trainable_variables)


class TorchPeer:
    """A process that trains PyTorch's Transformer, eager and compiled.

    Args:
        python: interpreter that has PyTorch.
        size: sizes of the model, and `threads`, 0 for all cores.
        batches: dicts of int32 arrays.
        names: `eager`, `compiled` or both.
    """

    def __init__(self, python, size, batches, names):
        with tempfile.TemporaryDirectory() as directory:
            settings, data = Path(directory, "settings.json"), Path(directory, "batches.npz")
            text = {**size, "smoothing": SMOOTHING, "dropout": DROPOUT, "contestants": names}
            settings.write_text(json.dumps(text), encoding="utf-8")
            sides = ("source", "target")
            np.savez(data, **{f"{s}{i}": b[s] for i, b in enumerate(batches) for s in sides})
            script = Path(__file__).with_name("training_peer.py")
            self._process = subprocess.Popen(
                [python, script, settings, data],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                # Threads that spin while they wait would count as work.
                env={**os.environ, "OMP_WAIT_POLICY": "PASSIVE"},
            )
            # The first step also says that the files are read.
            self.ask(names[0], 1)

    def ask(self, name, steps):
        """Trains for some steps; returns wall and CPU seconds."""
        self._process.stdin.write(json.dumps([name, steps]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the PyTorch process has failed; its message is above")
        return json.loads(line)

    def close(self):
        self._process.stdin.close()
        self._process.wait()


class TorchStep:
    """One of the training steps of a `TorchPeer`."""

    parameters = None

    def __init__(self, peer, name):
        self._peer, self._name = peer, name

    def run(self, steps):
        return self._peer.ask(self._name, steps)
