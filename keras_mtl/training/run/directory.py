"""The directory of a run: its files, and the check that a configuration can resume in it."""

import contextlib
import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_mtl.configuration.adapters import AdapterChoice, adapter_sets
from keras_mtl.configuration.files import diff, load_params, save_params
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.configuration.stack_sharing import BY_STACK, copies_of_stacks, described
from keras_mtl.data.prepare import PreparedData
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_files import read_vocabulary, write_vocabulary
from keras_mtl.decoding.checkpoint_files import BEST
from keras_mtl.decoding.tasks import TaskList
from keras_mtl.errors import CheckpointError
from keras_mtl.evaluation.tasks import translation_tasks
from keras_mtl.files import replace_file
from keras_mtl.run_files import (
    METRICS_FILE,
    PARAMS_FILE,
    SOURCE_VOCABULARY_FILE,
    TASKS_FILE,
    VOCABULARY_FILE,
)

# Fields that a checkpoint depends on: they determine the weights' shapes and the cursors' meaning.
FIXED_FIELDS = (
    "task.model.architecture",
    "task.model.size",
    "task.model.hidden_dim",
    "task.model.num_heads",
    "task.model.intermediate_dim",
    "task.model.encoder_layers",
    "task.model.decoder_layers",
    "task.model.activation",
    "task.model.self_attention",
    "task.model.self_attention_parameters",
    "task.model.transparent_attention",
    "task.model.feed_forward",
    "task.model.feed_forward_parameters",
    "task.model.norm",
    "task.model.norm_parameters",
    "task.model.norm_position",
    "task.model.positions",
    "task.model.max_length",
    "task.model.tie_embeddings",
    "task.model.tie_projection",
    "task.model.sharing",
    "task.model.stacks",
    "task.model.adapters",
    "task.model.init",
    "task.model.quantization",
    "task.data.max_length",
    "task.data.tokens_per_batch",
    "task.data.bucket_lengths",
    "task.data.granularity",
    "task.data.packing",
    "task.data.packed_lengths",
    "trainer.optimizer.name",
    "trainer.optimizer.parameters",
    "trainer.optimizer.gradient_accumulation_steps",
    "trainer.optimizer.ema_momentum",
    "trainer.freeze",
    "runtime.seed",
)


class RunDirectory:
    """The directory of one run.

    Args:
        path: the directory; it is created if it does not exist.

    Attributes:
        path: `pathlib.Path` of the directory.
        best: directory of the best checkpoint.
        pending: directory of the weights whose validation is not in effect yet.
        has_checkpoint: whether the directory had a checkpoint when the object was made.

    Raises:
        CheckpointError: the directory cannot be created.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.best = self.path / BEST
        self.pending = self.path / "pending"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"--model_dir {path} cannot be created: {error.strerror}"
            ) from error
        self.has_checkpoint = any(self.path.glob("ckpt-*.index"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Prevents other processes from training in the directory within the context.

        Raises:
            CheckpointError: another process is training in it.
        """
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CheckpointError(
                    f"another process is training in {self.path}. Wait for it to end, or use "
                    "another --model_dir"
                ) from error
            except OSError:  # The file system does not support locks.
                pass
            yield
        finally:
            os.close(handle)

    def check(self, config: ExperimentConfig, prepared: PreparedData) -> list[str]:
        """Checks that a configuration can resume from the checkpoints of the directory.

        Returns:
            The changed fields that may change, as lines "field: old -> new".

        Raises:
            CheckpointError: a field that the checkpoints depend on or the vocabulary has changed,
                or the directory is not that of a run.
        """
        if not self.has_checkpoint:
            # A run that was killed before its first checkpoint has a log.
            if any(self.best.glob("ckpt-*.index")) and not (self.path / METRICS_FILE).exists():
                raise CheckpointError(
                    f"{self.path} contains weights but no checkpoints of a run, for example their "
                    "average. To train them further, use another --model_dir and "
                    f"task.model.init: [{{from: {self.path}}}]"
                )
            return []
        file = self.path / VOCABULARY_FILE
        if file.exists():
            vocabulary = read_vocabulary(self.path)
            known = vocabulary.hash
            if known != prepared.vocabulary.hash:
                raise CheckpointError(
                    f"{file}: the vocabulary ({known}) differs from that of the prepared data "
                    f"({prepared.vocabulary.hash}). Use another --model_dir, and to start from "
                    f"these weights task.model.init; or, with the same target languages, set "
                    f"{self._given(vocabulary)} and prepare the data again"
                )
        params = self.path / PARAMS_FILE
        if not params.exists():
            raise CheckpointError(
                f"{self.path} contains checkpoints but no {PARAMS_FILE}. Use another --model_dir"
            )
        changes = diff(load_params(params), config)
        for field, old, new in changes:
            if _is_fixed(field):
                raise CheckpointError(
                    f"{params}: {field} was {old!r} and is now {new!r}, but the checkpoints depend "
                    "on it. Use the old value or another --model_dir"
                )
        if config.task.model.sharing == "encoder":
            self._check_decoders(prepared)
        self._check_adapters(load_params(params), config)
        self._check_stacks(load_params(params), config)
        return [f"{field}: {old!r} -> {new!r}" for field, old, new in changes]

    def _given(self, vocabulary: Vocabulary) -> str:
        """Returns the fields of a configuration that give the vocabulary of the directory."""
        given = f"task.data.vocabulary.model_file={self.path / VOCABULARY_FILE}"
        if vocabulary.has_source:
            own = self.path / SOURCE_VOCABULARY_FILE
            given += f" and task.data.source_vocabulary.model_file={own}"
        return given

    def _check_decoders(self, prepared: PreparedData) -> None:
        """Checks that the decoders are those of the checkpoints, which else would seem damaged."""
        file = self.path / TASKS_FILE
        if not file.exists():
            return
        known = list(TaskList.read(self.path).decoders)
        asked = list(dict.fromkeys(task.target for task in prepared.tasks))
        if known != asked:
            raise CheckpointError(
                f"{file}: the checkpoints have decoders for {known}, but task.pairs requires "
                f"{asked}. Use the old target languages in the old order, or another --model_dir"
            )

    def _check_adapters(self, old: ExperimentConfig, new: ExperimentConfig) -> None:
        """Checks that the adapters are those of the checkpoints."""
        known, asked = (
            {each.name: list(each.members) for each in adapter_sets(model.adapters, pairs)}
            for model, pairs in ((run.task.model, run.task.pairs) for run in (old, new))
        )
        for name, members in asked.items():
            if members != known[name]:
                raise CheckpointError(
                    f"{self.path}: the checkpoints have the adapters {known[name]} of {name!r}, "
                    f"but task.pairs requires {members}. Use the old tasks in the old order, or "
                    "another --model_dir, with task.model.init to start from these weights"
                )

    def _check_stacks(self, old: ExperimentConfig, new: ExperimentConfig) -> None:
        """Checks that the copies of stacks are those of the checkpoints."""
        if new.task.model.sharing != BY_STACK:
            return
        known, asked = (copies_of_stacks(run.task.model, run.task.pairs) for run in (old, new))
        if known != asked:
            raise CheckpointError(
                f"{self.path}: the checkpoints have other copies of stacks ({described(known)}) "
                f"than task.pairs requires ({described(asked)}). Use the old tasks in the old "
                "order, or another --model_dir, with task.model.init to start from these weights"
            )

    def write(self, config: ExperimentConfig, prepared: PreparedData) -> None:
        """Writes the configuration, the vocabulary and the list of tasks."""
        save_params(config, self.path / PARAMS_FILE)
        write_vocabulary(self.path, prepared.vocabulary)
        tasks = {
            "vocabulary_hash": prepared.vocabulary.hash,
            "tasks": [
                {
                    "name": task.name,
                    "source": task.source,
                    "target": task.target,
                    "decoder": task.decoder,
                    "kind": task.kind,
                    **_choices("adapters", task.adapters),
                    **_choices("stacks", task.stacks),
                }
                for task in translation_tasks(config.task.model, config.task.pairs)
            ],
        }
        text = json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"
        replace_file(self.path / TASKS_FILE, text.encode())


def _choices(kind: str, choices: Sequence[AdapterChoice]) -> dict[str, Any]:
    """Returns the entry of a task's adapters or copies of stacks in the list of tasks."""
    return {kind: [dataclasses.astuple(choice) for choice in choices]} if choices else {}


def _is_fixed(field: str) -> bool:
    """Returns whether a field is one of `FIXED_FIELDS` or a part of one."""
    return any(f"{field}.".startswith((f"{fixed}.", f"{fixed}[")) for fixed in FIXED_FIELDS)
