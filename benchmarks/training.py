"""Compares our training step with Model Garden's Seq2SeqTransformer, in target tokens per second.

    python benchmarks/training.py [--rounds 5] [--steps 4] [--sizes d128 d256] [--json FILE]

Both models have the same sizes, tied embeddings, dropout, label smoothing and Adam, and train on
the same batches. Each step is forward, loss, gradients and update, in float32. Each model is timed
with and without XLA, in alternating rounds of one process, and its better median counts. Model
Garden's loss is that of its translation task (`metrics.transformer_loss`): one-hot labels.
keras_mtl trains without TensorFlow's graph remapper on CPUs, and is timed so. Model Garden leaves
it on; its speed without the remapper is printed too, with our ratio to its best setting.

There are two kinds of batches: `full` (every position of rows x length is a token) and `ragged`
(lengths drawn from 60 % to 100 % of the bucket, as in a bucket of similar lengths). Padding does
not count as tokens. The ratio by CPU time is more reliable on a machine that also runs other
programs: it measures the work, not how well two cores are used.

Measured on two cores (AMD Zen 5), medians of 3 rounds, target tokens/s, best of each and their
ratio:

            full rows                 ragged rows
    d128    16,318 / 11,402  1.43     14,602 / 8,508  1.72
    d256     5,670 /  4,349  1.30      4,834 / 3,416  1.42 (1.34 with the remapper off for both)
"""

import argparse
import json
import os
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
import tf_keras
from official.nlp.modeling.models import seq2seq_transformer

from keras_mtl.models import Transformer
from keras_mtl.training.step.optimizers import Adam

VOCABULARY = 8000
SMOOTHING = 0.1
DROPOUT = 0.1
SIZES = {
    "d128": {"dim": 128, "heads": 4, "ff": 512, "layers": 2},
    "d256": {"dim": 256, "heads": 4, "ff": 1024, "layers": 3},
}


def make_batches(kind, count, rows, length, seed):
    generator = np.random.default_rng(seed)
    batches = []
    for _ in range(count):
        pair = []
        for _ in range(2):
            ids = generator.integers(3, VOCABULARY, (rows, length)).astype(np.int32)
            if kind == "ragged":
                lengths = generator.integers(int(0.6 * length), length + 1, rows)
                ids[np.arange(length)[None] >= lengths[:, None]] = 0
            pair.append(ids)
        batches.append((tf.constant(pair[0]), tf.constant(pair[1]), int((pair[1] > 0).sum())))
    return batches


def ours(size, jit):
    model = Transformer(
        vocabulary_size=VOCABULARY,
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

    @tf.function(jit_compile=jit)
    def step(source, target):
        with tf.GradientTape() as tape:
            inputs = {"source": source, "target": target}
            loss, tokens, _ = model.token_losses(
                inputs, SMOOTHING, training=True, drop_padding=not jit
            )
            total = tf.reduce_sum(loss) / tf.reduce_sum(tokens)
        gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return total

    return step, sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def garden(size, jit):
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
        vocab_size=VOCABULARY,
        embedding_width=size["dim"],
        dropout_rate=DROPOUT,
        encoder_layer=seq2seq_transformer.TransformerEncoder(**options),
        decoder_layer=seq2seq_transformer.TransformerDecoder(**options),
    )
    model({"inputs": tf.ones([2, 4], tf.int32), "targets": tf.ones([2, 4], tf.int32)})
    optimizer = tf_keras.optimizers.Adam(1e-4)
    optimizer.build(model.trainable_variables)

    @tf.function(jit_compile=jit)
    def step(source, target):
        with tf.GradientTape() as tape:
            logits = model({"inputs": source, "targets": target}, training=True)
            # The translation loss of Model Garden: smoothed one-hot targets, padding masked.
            confidence = 1.0 - SMOOTHING
            low = SMOOTHING / (VOCABULARY - 1)
            soft = tf.one_hot(target, VOCABULARY, on_value=confidence, off_value=low)
            loss = tf.nn.softmax_cross_entropy_with_logits(logits=logits, labels=soft)
            weights = tf.cast(tf.not_equal(target, 0), tf.float32)
            total = tf.reduce_sum(loss * weights) / tf.reduce_sum(weights)
        gradients = tape.gradient(total, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return total

    return step, sum(int(np.prod(v.shape)) for v in model.trainable_variables)


class Contestant:
    """A training step, and whether TensorFlow's graph remapper is on for it."""

    def __init__(self, build, size, jit, remapping):
        self._remapping = remapping
        self.step, self.parameters = build(size, jit)

    def run(self, batches, steps):
        """Wall seconds, CPU seconds and target tokens without padding of `steps` steps."""
        # Read at each call of a tf.function, which keeps one program for each setting.
        tf.config.optimizer.set_experimental_options({"remapping": self._remapping})
        tokens = 0
        start, cpu_start = time.perf_counter(), time.process_time()
        for i in range(steps):
            source, target, count = batches[i % len(batches)]
            loss = self.step(source, target)
            tokens += count
        float(loss)
        return time.perf_counter() - start, time.process_time() - cpu_start, tokens


CONTESTANTS = {
    "ours xla": (ours, True, False),
    "ours graph": (ours, False, False),
    "garden xla": (garden, True, True),
    "garden graph": (garden, False, True),
    "garden graph, no remapper": (garden, False, False),
}


def ratio(figures, tuned):
    """Our best over Model Garden's best, by default or also with the remapper off."""
    best = {"ours": 0.0, "garden": 0.0}
    for key, figure in figures.items():
        if tuned or "remapper" not in key:
            best[key.split()[0]] = max(best[key.split()[0]], figure)
    return best["ours"] / best["garden"]


def compare(name, kind, rows, length, rounds, steps):
    batches = make_batches(kind, 4, rows, length, seed=1)
    contestants = {}
    for key, settings in CONTESTANTS.items():
        build, *options = settings
        contestant = Contestant(build, SIZES[name], *options)
        compiled, _, _ = contestant.run(batches, 1)
        contestant.run(batches, 1)
        contestants[key] = contestant
        print(f"  {key}: {contestant.parameters:,} parameters, first step {compiled:.1f} s")
    rates = {key: [] for key in contestants}
    cpu_rates = {key: [] for key in contestants}
    for _ in range(rounds):
        for key, contestant in contestants.items():
            seconds, cpu_seconds, tokens = contestant.run(batches, steps)
            rates[key].append(tokens / seconds)
            cpu_rates[key].append(tokens / cpu_seconds)
    medians = {key: statistics.median(values) for key, values in rates.items()}
    cpu_medians = {key: statistics.median(values) for key, values in cpu_rates.items()}
    for key, values in rates.items():
        spread = f"{min(values):,.0f} to {max(values):,.0f}"
        print(
            f"  {key:25s} {medians[key]:9,.0f} target tokens/s ({spread}), "
            f"{cpu_medians[key]:8,.0f} per CPU second"
        )
    ratios = {
        "ratio": ratio(medians, False),
        "cpu_ratio": ratio(cpu_medians, False),
        "ratio_tuned": ratio(medians, True),
        "cpu_ratio_tuned": ratio(cpu_medians, True),
    }
    print(
        "  ratio of the best: {ratio:.2f}, of CPU time {cpu_ratio:.2f}; with the remapper off for "
        "both: {ratio_tuned:.2f}, of CPU time {cpu_ratio_tuned:.2f}".format(**ratios),
        flush=True,
    )
    return {
        "size": name,
        "batch": kind,
        "tokens_per_second": medians,
        "tokens_per_cpu_second": cpu_medians,
        **ratios,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps in each round")
    parser.add_argument("--rows", type=int, default=128)
    parser.add_argument("--length", type=int, default=32)
    parser.add_argument("--sizes", nargs="+", choices=sorted(SIZES), default=sorted(SIZES))
    parser.add_argument("--kinds", nargs="+", choices=("full", "ragged"), default=["full"])
    parser.add_argument("--json", help="write the results to this file")
    arguments = parser.parse_args()
    results = []
    for name in arguments.sizes:
        for kind in arguments.kinds:
            size = SIZES[name]
            print(
                f"{name}: d {size['dim']}, {size['layers']}+{size['layers']} layers, "
                f"V {VOCABULARY}, batch {arguments.rows} x {arguments.length}, {kind} rows"
            )
            results.append(
                compare(
                    name, kind, arguments.rows, arguments.length, arguments.rounds, arguments.steps
                )
            )
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(results, file, indent=2)


if __name__ == "__main__":
    main()
