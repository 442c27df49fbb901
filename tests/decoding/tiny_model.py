"""A model directory as training writes it, with a model that has seen a few steps."""

import json

import numpy as np
import tensorflow as tf

from keras_mtl.configuration import files
from keras_mtl.configuration.overriding import set_values
from keras_mtl.configuration.schema import ExperimentConfig, PairConfig
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_files import write_vocabulary
from keras_mtl.data.vocabulary_training import TaskText, train_vocabulary
from keras_mtl.decoding.loading import load_model
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.models.factory import build_model

PAIRS = {
    "en-fr": [("one red house", "une maison rouge"), ("two trees", "deux arbres"),
              ("the cat sleeps", "le chat dort"), ("good morning", "bonjour")],
    "en-uk": [("one red house", "червоний будинок"), ("two trees", "два дерева"),
              ("the cat sleeps", "кіт спить"), ("good morning", "добрий ранок")],
    "en-ja": [("one red house", "赤い家"), ("two trees", "二本の木"),
              ("the cat sleeps", "猫が眠る"), ("good morning", "おはよう")],
}  # fmt: skip
LANGUAGES = {name: name.split("-")[1] for name in PAIRS}
LINES = [
    "one red house",
    "",
    "good morning, the cat",
    "   ",
    "two  trees\u00a0and cafe\u0301",
    "Ωμέγα 猫 \U0001f600 ẞ",  # Byte fallback: none of these is in the vocabulary of the source.
    "the cat sleeps " * 3,
]


def make_vocabulary(separate=False):
    """Trains the vocabulary; `separate` gives sources their own, with the tags."""
    texts = [
        TaskText(name, 30 * len(pairs), lambda pairs=pairs: iter(pairs * 30))
        for name, pairs in PAIRS.items()
    ]
    if not separate:
        return train_vocabulary(texts, LANGUAGES.values(), size=320, temperature=1.0)
    source = train_vocabulary(texts, LANGUAGES.values(), size=285, temperature=1.0, sides=[0])
    target = train_vocabulary(texts, [], size=317, temperature=1.0, sides=[1])
    return Vocabulary(target.model_bytes, source=source)


def make_model_dir(path, sharing="full", steps=30, separate=False, **fields):
    """Writes the directory; returns (model, vocabulary, tasks). `fields` are of `task.model`."""
    tf.keras.utils.set_random_seed(5)
    vocabulary = make_vocabulary(separate)
    own = sharing == "encoder"
    tasks = [
        TranslationTask(name, "en", target, i if own else 0)
        for i, (name, target) in enumerate(LANGUAGES.items())
    ]
    config = ExperimentConfig()
    config.task.pairs = [PairConfig(name=t.name, source="en", target=t.target) for t in tasks]
    corpus = {"reader": "parallel", "options": {"source_file": "a", "target_file": "b"}}
    set_values(config.task.data, {"max_length": 48, "corpora": [corpus]})
    set_values(
        config.task.model,
        {"size": "tiny", "hidden_dim": 32, "num_heads": 2, "intermediate_dim": 64, "dropout": 0.0,
         "attention_dropout": 0.0, "activation_dropout": 0.0, "encoder_layers": 1,
         "decoder_layers": 1, "max_length": 48, "sharing": sharing, **fields}
    )  # fmt: skip
    set_values(config.task.decoding, {"max_length": 24, "num_hypotheses": 2, "batch_size": 3})
    decoders = tuple(LANGUAGES.values()) if own else ("",)
    model = build_model(
        config.task.model,
        vocabulary.size,
        decoders,
        source_vocabulary_size=vocabulary.source_size,
    )
    train(model, vocabulary, tasks, steps)
    path.mkdir(parents=True)
    files.save_params(config, path / "params.yaml")
    write_vocabulary(path, vocabulary)
    entries = [vars(task) for task in tasks]
    (path / "tasks.json").write_text(
        json.dumps({"vocabulary_hash": vocabulary.hash, "tasks": entries})
    )
    save(model, path / "ckpt-30")
    return model, vocabulary, tasks


def load(path):
    """Reads what `make_model_dir` has written; returns (model, vocabulary, tasks)."""
    loaded = load_model(path)
    return loaded.model, loaded.vocabulary, list(loaded.tasks.tasks)


def save(model, prefix):
    """Writes a checkpoint that holds more than the model, as the trainer's does."""
    tf.train.Checkpoint(model=model, step=tf.Variable(30)).write(str(prefix))


def train(model, vocabulary, tasks, steps):
    optimizer = tf.keras.optimizers.Adam(0.01)

    @tf.function(reduce_retracing=True, autograph=False)
    def step(source, target, decoder):
        with tf.GradientTape() as tape:
            logits = model({"source": source, "target": target, "decoder": decoder})
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(
                target, tf.cast(logits, "float32")
            )
            loss = tf.reduce_sum(tf.where(target > 0, loss, 0.0)) / len(PAIRS)
        variables = model.trainable_variables
        optimizer.apply(tape.gradient(loss, variables), variables)

    optimizer.build(model.trainable_variables)
    batches = []
    for task in tasks:
        sources, targets = zip(*PAIRS[task.name], strict=True)
        own = vocabulary.source
        tag, eos = own.tag_id(task.target), vocabulary.eos_id
        sources = [[tag, *own.encode(text), eos] for text in sources]
        targets = [[*vocabulary.encode(text), eos] for text in targets]
        both = [tf.ragged.constant(rows, dtype=tf.int32) for rows in (sources, targets)]
        arrays = [rows.to_tensor() for rows in both]
        batches.append((*arrays, tf.fill([len(sources)], np.int32(task.decoder))))
    for i in range(steps):
        step(*batches[i % len(batches)])
