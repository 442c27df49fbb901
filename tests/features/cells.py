"""Tries the cells of one feature on a tiny model. Runs in processes of its own.

A cell is a function of a `Case`. It raises an error if the feature does not work as
`listing.COLUMNS` says.
"""

import functools
import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from tests.features import fit_cell
from tests.features.listing import Feature, merged
from tests.processes import execute_eagerly
from tests.training.same_run import assert_same_run, tensors

STEPS, HALF = 4, 2
# Arrays of the smallest model, a recurrent one.
LEAST = 20
LINES = ["Monday", "two trees", "June 5, 2020 and 3 hours", ""]
OPTIONS = {"beam_size": 1, "length_penalty": "none", "max_length": 12, "batch_size": 8}
BASE: dict[str, Any] = {
    "task": {
        "pairs": [
            {"source": "en", "target": "fr", "max_pairs": 300, "baseline": 3.0},
            {"source": "en", "target": "es", "max_pairs": 60, "baseline": 3.0},
        ],
        "data": {
            "corpora": [{"reader": "cldr", "options": {"pairs": 500}}],
            "vocabulary": {"size": 600},
            "dev_fraction": 0.05,
            "test_fraction": 0.05,
            "dev_pairs": 8,
            "test_pairs": 8,
            "max_length": 32,
            "bucket_lengths": [32],
            "tokens_per_batch": 512,  # 8 rows for each of two devices.
        },
        "model": {
            "size": "tiny",
            "hidden_dim": 16,
            "num_heads": 2,
            "intermediate_dim": 32,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "max_length": 64,
            # Devices draw different numbers. Packed runs have dropout.
            "dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
        },
        "decoding": OPTIONS,
    },
    "trainer": {
        "train_steps": STEPS,
        "steps_per_loop": HALF,
        "checkpoint_interval": HALF,
        "schedule": {"name": "uniform"},
        # A large epsilon, so that weights whose true gradient is 0 do not follow its rounding.
        "optimizer": {"warmup_steps": 4, "learning_rate": 0.1, "epsilon": 1e-3},
        "evaluation": {
            "interval": HALF,
            "metric": "chrf",
            "max_pairs": 2,
            "backend": "native",
            "samples": 0,
        },
        "log_batches": True,
    },
    "runtime": {"jit_compile": False, "seed": 3},
}
PACKED = {
    "task": {
        "data": {"granularity": "example", "packing": True, "bucket_lengths": []},
        "model": {"dropout": 0.1, "attention_dropout": 0.1, "activation_dropout": 0.1},
    }
}
# Fields of `task.data` that change what is prepared.
_OF_DATA = ("corpora", "source_vocabulary")
MIRRORED = {"runtime": {"distribution_strategy": "mirrored", "num_replicas": 2}}


class Case:
    """A feature, and the directory of its runs.

    Args:
        feature: the feature.
        directory: the directory.
        base: directory of the runs of the default Transformer.
    """

    def __init__(self, feature: Feature, directory: Path, base: Path) -> None:
        self.feature = feature
        self.directory = directory
        self.base = base

    def config(self, column: str, *changes: dict[str, Any]) -> Any:
        """Returns the configuration of a run."""
        import keras_mtl

        values = functools.reduce(merged, (*changes, self.feature.overrides(column)), BASE)
        values["task"]["data"]["data_dir"] = str(self.data_dir)
        text = json.dumps(values).replace('"BASE"', json.dumps(str(self.base / "train")))
        file = self.directory / f"{column}.json"
        file.write_text(text)
        return keras_mtl.load_config(file)

    @property
    def data_dir(self) -> Path:
        """Prepared data, of the default Transformer if the feature needs no others."""
        task = self.feature.override.get("task", {})
        own = "pairs" in task or any(key in task.get("data", {}) for key in _OF_DATA)
        return (self.directory if own else self.base) / "data"

    def path(self, name: str) -> Path:
        return self.directory / name


def run(config: Any, directory: Path) -> Any:
    import keras_mtl

    return keras_mtl.train(config, directory, log=lambda line: None)


def train(case: Case) -> None:
    result = run(case.config("train"), case.path("train"))
    assert result.step == STEPS
    assert result.scores
    own, base = weights(case.path("train")), weights(case.base / "train")
    if case.feature.kind == "training":
        assert {k: v.shape for k, v in own.items()} == {k: v.shape for k, v in base.items()}
    same = own.keys() == base.keys() and all(
        own[name].shape == value.shape and np.allclose(own[name], value, atol=1e-5)
        for name, value in base.items()
    )
    if case.feature.effect != "any":
        assert same == (case.feature.effect == "equal"), "effect"


def resume(case: Case) -> None:
    resumed(case, "train", case.path("train"))


def resumed(case: Case, column: str, whole: Path, *changes: dict[str, Any]) -> None:
    """Continues a copy of a run without its newest checkpoint."""
    again = whole.with_name(f"{whole.name}-again")
    shutil.copytree(whole, again)
    for file in again.glob(f"ckpt-{STEPS}.*"):
        file.unlink()
    assert list(again.glob(f"ckpt-{HALF}.index"))
    assert run(case.config(column, *changes), again).step == STEPS
    assert_same_run(whole, again, LEAST)


def packed(case: Case) -> None:
    assert run(case.config("packed", PACKED), case.path("packed")).step == STEPS
    resumed(case, "packed", case.path("packed"), PACKED)


def fit(case: Case) -> None:
    fit_cell.train_and_resume(case.config("fit"), case.path("fit"), case.feature.graph)


def weights(directory: Path) -> dict[str, np.ndarray]:
    """Returns the weights of the model in the newest checkpoint."""
    found = tensors(directory)
    return {name: value for name, value in found.items() if name.startswith("model/")}


def mirrored(case: Case) -> None:
    assert run(case.config("mirrored", MIRRORED), case.path("mirrored")).step == STEPS
    expected, found = weights(case.path("train")), weights(case.path("mirrored"))
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        if "/quantization/" in name:  # Ranges are averaged over devices.
            continue
        pair = (found[name], value)
        if case.feature.signs:
            pair = tuple(without_keys(name, one) for one in pair)
        np.testing.assert_allclose(*pair, rtol=1e-3, atol=case.feature.tolerance, err_msg=name)


def without_keys(name: str, value: np.ndarray) -> np.ndarray:
    """Returns a weight without the biases of keys, whose gradient is 0 up to rounding."""
    if "qkv/bias" in name:
        query, _, values = np.split(value, 3)
        return np.concatenate([query, values])
    return np.split(value, 2)[1] if "key_value/bias" in name else value


def workers(case: Case) -> None:
    """Trains as one of two workers; the other process does the same."""
    changes = {"runtime": {"distribution_strategy": "multi_worker_mirrored"}}
    assert run(case.config("workers", changes), case.path("workers")).step == STEPS


Found = list[list[tuple[str, float]]]


def translations(path: Path, tasks: list[str], **options: Any) -> Found:
    """Returns text and score of the translation of each line, for each task."""
    import keras_mtl

    translator = keras_mtl.load_translator(path, **options)
    return [
        [(each[0].text, float(each[0].score)) for each in translator.hypotheses(LINES, task)]
        for task in tasks
    ]


def assert_equal(found: Found, wanted: Found) -> None:
    """The weights are nearly random, so that scores say more than texts."""
    for ours, theirs in zip(found, wanted, strict=True):
        texts = [[text.split() for text, _ in each] for each in (ours, theirs)]
        assert texts[0] == texts[1]
        scores = [[score for _, score in each] for each in (ours, theirs)]
        np.testing.assert_allclose(*scores, rtol=1e-4, atol=1e-4)


def tasks_of(case: Case) -> list[str]:
    from keras_mtl.decoding.tasks import TaskList

    found = TaskList.read(case.path("train")).tasks
    return [task.name for task in found if task.kind == "translation"]


def exported(case: Case, format: str, **options: Any) -> Path:
    import keras_mtl

    name = "-".join([format, *options.values()])
    return keras_mtl.export_model(case.path("train"), case.path(name), format=format, **options)


def expected(case: Case) -> Found:
    """Returns what TensorFlow translates."""
    file = case.path("translations.json")
    if not file.exists():
        found = translations(case.path("train"), tasks_of(case), backend="tf")
        file.write_text(json.dumps(found))
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def engine_float32(case: Case) -> None:
    path = exported(case, "engine", weight_type="float32")
    if case.feature.rounding:
        assert_near(case, path)
    else:
        assert_equal(translations(path, tasks_of(case)), expected(case))


def engine_int8(case: Case) -> None:
    assert_near(case, exported(case, "engine", weight_type="int8"))


def in_float32(case: Case) -> Found:
    """Returns the translations of a model that computes in float32."""
    if case.feature.rounding:
        return translations(case.path("engine-float32"), tasks_of(case))
    return expected(case)


def assert_near(case: Case, path: Path) -> None:
    """TensorFlow gives each token of an engine's translations nearly the same probability."""
    import keras_mtl

    for task, found in zip(tasks_of(case), translations(path, tasks_of(case)), strict=True):
        texts = [text for text, _ in found]
        scores = [
            keras_mtl.load_scorer(each, **options).score(LINES, texts, task)
            for each, options in ((path, {}), (case.path("train"), {"backend": "tf"}))
        ]
        for one, other in zip(*scores, strict=True):
            np.testing.assert_allclose(one, other, atol=0.2)


def saved_model(case: Case) -> None:
    traced(case, "saved_model", expected(case))


def saved_model_native(case: Case) -> None:
    traced(case, "saved_model_native", in_float32(case))


def traced(case: Case, format: str, wanted: Found) -> None:
    import tensorflow as tf

    tf.config.run_functions_eagerly(False)
    assert_equal(translations(exported(case, format), tasks_of(case)), wanted)


def ctranslate2(case: Case) -> None:
    import ctranslate2 as peer
    import sentencepiece

    lines = [line for line in LINES if line]
    found = {}
    for about in sorted(exported(case, "ctranslate2").rglob("keras_mtl.json")):
        content = json.loads(about.read_text(encoding="utf-8"))
        own = about.with_name("source_sentencepiece.model")
        shared = about.with_name("sentencepiece.model")
        source_pieces, pieces = (
            sentencepiece.SentencePieceProcessor(model_file=str(file))
            for file in (own if own.exists() else shared, shared)
        )
        translator = peer.Translator(str(about.parent), compute_type="float32", intra_threads=1)
        for task in content["tasks"]:
            results = translator.translate_batch(
                [[task["tag"], *source_pieces.encode(line, out_type=str)] for line in lines],
                beam_size=1,
                length_penalty=0.0,
                max_decoding_length=OPTIONS["max_length"],
                return_scores=True,
                suppress_sequences=[[token] for token in content["suppress"]],
            )
            found[task["name"]] = [
                (pieces.decode(each.hypotheses[0]), each.scores[0]) for each in results
            ]
    wanted = [
        [each for each, line in zip(lists, LINES, strict=True) if line]
        for lists in in_float32(case)
    ]
    assert_equal([found[task] for task in tasks_of(case)], wanted)


CELLS = {
    "train": train,
    "resume": resume,
    "fit": fit,
    "packed": packed,
    "mirrored": mirrored,
    "workers": workers,
    "engine_float32": engine_float32,
    "engine_int8": engine_int8,
    "ctranslate2": ctranslate2,
    "saved_model": saved_model,
    "saved_model_native": saved_model_native,
}


def seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def attempt(feature: Feature, directory: Path, base: Path, columns: list[str], file: str) -> int:
    """Tries some cells, one after the other, and writes {column: [error, CPU seconds]}."""
    from keras_mtl.errors import KerasMtlError

    if not feature.graph:  # Tracing takes most of the time of so short a run.
        execute_eagerly()
    case = Case(feature, directory, base)
    found: dict[str, tuple[str, float]] = {}
    for column in columns:
        start, error = seconds(), ""
        try:
            CELLS[column](case)
        except KerasMtlError as problem:
            error = f"refused: {problem}"
        except AssertionError as problem:
            error = f"failed: {problem}"[:2000] or "failed"
        found[column] = error, seconds() - start
        (directory / file).write_text(json.dumps(found))
    return 0


def attempt_as_worker(
    feature: Feature, directory: Path, base: Path, cluster: list[str], index: int
) -> int:
    """Tries the cell of several workers, as one of them."""
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": task})
    return attempt(feature, directory, base, ["workers"], f"worker-{index}.json")
