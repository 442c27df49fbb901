"""The runs that survival.py disturbs, and what must be the same at their end."""

import contextlib
import dataclasses
import functools
import json
import multiprocessing
import os
import random
import socket
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

STEPS = 60
CONFIG: dict[str, Any] = {
    "task": {
        "pairs": [
            {"source": "en", "target": "fr", "max_pairs": 900, "baseline": 3.0},
            {"source": "en", "target": "es", "max_pairs": 200, "baseline": 3.0},
            {"source": "en", "target": "gl", "max_pairs": 40, "baseline": 2.0},
        ],
        "data": {
            "corpora": [{"reader": "cldr", "options": {"pairs": 1500}}],
            "vocabulary": {"size": 700},
            "dev_pairs": 16,
            "max_length": 64,
            "bucket_lengths": [32, 64],
            "tokens_per_batch": 512,
        },
        "model": {
            "hidden_dim": 32,
            "num_heads": 2,
            "intermediate_dim": 64,
            "encoder_layers": 1,
            "decoder_layers": 1,
            "dropout": 0.1,
        },
        "decoding": {"max_length": 12},
    },
    "trainer": {
        "train_steps": STEPS,
        "steps_per_loop": 5,
        "checkpoint_interval": 4,
        "max_to_keep": 3,
        "schedule": {"name": "inverse_ratio", "parameters": {"ema": 0.5}},
        "optimizer": {"warmup_steps": 20, "learning_rate": 1.0, "ema_momentum": 0.9},
        "evaluation": {
            "interval": 10,
            "metric": "neg_log_perplexity",
            "max_pairs": 8,
            "lag": 7,
            "workers": 1,
        },
        "log_batches": True,
    },
    "runtime": {"jit_compile": False, "seed": 3},
}
# Sections of fields of a configuration.
VARIANTS: dict[str, dict[str, Any]] = {
    "batch": {},
    "batch-async": {"trainer.async_checkpointing": True, "trainer.checkpoint_interval": 2},
    "batch-accumulated": {"trainer.optimizer.gradient_accumulation_steps": 2},
    "batch-packed": {"task.data.packing": True, "task.data.bucket_lengths": []},
    "example": {"task.data.granularity": "example", "trainer.evaluation.max_tasks": 2},
    "example-packed": {
        "task.data.granularity": "example",
        "task.data.packing": True,
        "task.data.bucket_lengths": [],
    },
    # Everything that decides by scores or by what has been read.
    "limited": {
        "task.data.packing": True,
        "task.data.bucket_lengths": [],
        "trainer.schedule.max_epochs": 9.0,
        "trainer.schedule.overfit_patience": 1,
        "trainer.best": {"macro": 2, "worst": 1, "tasks": 1},
        "trainer.stopping": {"patience": 2, "min_steps": 48, "min_delta": 100.0},
        "trainer.optimizer.plateau": {"patience": 1, "min_delta": 100.0},
        "trainer.optimizer.max_norm_deviation": 4.0,
    },
}
# Events depend on the clock in these keys.
_CLOCK = ("tokens_per_second", "seconds", "waited_seconds")
# At these steps, the loss of the third task is NaN.
_NAN_STEPS = tuple(range(6, STEPS, 5))

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["keras_mtl.cli.main", "keras_mtl.training.run.loop"])


@dataclasses.dataclass(frozen=True)
class Setting:
    """What the processes of a run have in common.

    Attributes:
        config: the configuration file.
        workers: number of workers, >= 1.
        graph: whether to trace the training step. That takes most of the time of so short a run.
        clock: seed of jumps of the clocks; 0 for none.
    """

    config: Path
    workers: int = 1
    graph: bool = False
    clock: int = 0


def write_config(directory: Path, variant: str) -> Path:
    """Writes the configuration of a variant; all variants share their prepared data."""
    config = json.loads(json.dumps(CONFIG))
    config["task"]["data"]["data_dir"] = str(directory / "data")
    for path, value in VARIANTS[variant].items():
        *sections, field = path.split(".")
        functools.reduce(lambda part, name: part[name], sections, config)[field] = value
    file = directory / f"{variant}.json"
    file.write_text(json.dumps(config))
    return file


def start(model_dir: Path, setting: Setting) -> list[BaseProcess]:
    """Starts the processes of a run. Its files stdout-N.txt and stderr-N.txt are replaced."""
    cluster = [f"127.0.0.1:{port}" for port in _free_ports(setting.workers)]
    running = [
        CONTEXT.Process(target=_train, args=(model_dir, setting, cluster, index))
        for index in range(setting.workers)
    ]
    for process in running:
        process.start()
    return list(running)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _train(model_dir: Path, setting: Setting, cluster: list[str], index: int) -> None:
    """Runs `keras-mtl train` in this process, and ends it."""
    model_dir.mkdir(exist_ok=True)
    for descriptor, name in ((1, "stdout"), (2, "stderr")):
        file = os.open(model_dir / f"{name}-{index}.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
    words = ["train", "--config_file", str(setting.config), "--model_dir", str(model_dir)]
    if setting.workers > 1:
        task = {"type": "worker", "index": index}
        os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": cluster}, "task": task})
        words += ["--params_override", "runtime.distribution_strategy=multi_worker_mirrored"]
    import tensorflow as tf

    from keras_mtl.cli.main import main

    tf.config.run_functions_eagerly(not setting.graph)
    _make_losses_nan()
    if setting.clock:
        _make_clocks_jump(random.Random(setting.clock))
    sys.exit(main(words))


def _make_losses_nan() -> None:
    """Makes loss and gradient of the third task NaN at some steps, in every run alike."""
    import tensorflow as tf

    from keras_mtl.training.step.trainer import MultiTaskTrainer

    rows_of_batch = MultiTaskTrainer.rows_of_batch

    def with_nan(self: Any, batch: Any) -> Any:
        rows = rows_of_batch(self, batch)
        now = tf.reduce_any(tf.cast(self.global_step, tf.int64) == list(_NAN_STEPS))
        # As a factor, it makes the gradient NaN; the gradient of a constant would be 0.
        factor = tf.where(now & (batch["task"] == 2), float("nan"), 1.0)
        return {**rows, "loss": rows["loss"] * factor}

    MultiTaskTrainer.rows_of_batch = with_nan


def _make_clocks_jump(chance: random.Random) -> None:
    """Makes the wall clock jump by up to a day, also backwards, and the others forwards."""
    from keras_mtl.training.run.progress import Progress
    from keras_mtl.training.run.step_loop import Pace

    offsets = {"time": 0.0, "monotonic": 0.0, "perf_counter": 0.0}
    for name in offsets:
        real = getattr(time, name)

        def jumping(name: str = name, real: Any = real) -> float:
            if chance.random() < 0.2:
                low = -86400.0 if name == "time" else 0.0
                offsets[name] += chance.uniform(low, 86400.0)
            return real() + offsets[name]

        for kind in (Pace, Progress):  # They have kept the clock as a default argument.
            defaults = kind.__init__.__defaults__ or ()
            kind.__init__.__defaults__ = tuple(
                jumping if value is real else value for value in defaults
            )
        setattr(time, name, jumping)


def logged_batches(model_dir: Path) -> int:
    """Returns the number of batches in the log of batches."""
    file = model_dir / "batches.tsv"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def skipped_steps(model_dir: Path) -> int:
    """Returns how many steps a run has skipped, according to its last event of training."""
    events = map(json.loads, (model_dir / "metrics.jsonl").read_text().splitlines())
    return max(event.get("skipped", 0) for event in events)


def checkpoints(model_dir: Path) -> list[Path]:
    """Returns the indices of the complete checkpoints, oldest first."""
    return sorted(
        model_dir.glob("ckpt-*.index"), key=lambda path: int(path.stem.removeprefix("ckpt-"))
    )


def contents(model_dir: Path) -> dict[str, object]:
    """Returns all that must be the same at the end of a run."""
    import tensorflow as tf

    found: dict[str, object] = {"batches": (model_dir / "batches.tsv").read_text()}
    with (model_dir / "metrics.jsonl").open() as file:
        for number, line in enumerate(file):
            event = json.loads(line)
            found[f"event {number}"] = {k: v for k, v in event.items() if k not in _CLOCK}
    for scores in sorted((model_dir / "best").rglob("scores.json")):
        found[str(scores.relative_to(model_dir))] = scores.read_text()
    for name, directory in (("last", model_dir), ("best", model_dir / "best")):
        newest = checkpoints(directory)[-1]
        found[f"{name}/step"] = newest.stem
        reader = tf.train.load_checkpoint(str(newest.with_suffix("")))
        for key in reader.get_variable_to_shape_map():
            if not key.startswith("_CHECKPOINTABLE"):
                value = reader.get_tensor(key)
                found[f"{name}/{key}"] = value.tobytes() if hasattr(value, "tobytes") else value
    return found


def differences(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    """Returns the names of what differs."""
    return [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
