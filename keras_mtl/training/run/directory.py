"""The directory of a run: its files, and whether a configuration can resume in it."""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_mtl.configuration.files import diff, load_params, save_params
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.prepare import PreparedData
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.tasks import TaskList
from keras_mtl.errors import CheckpointError
from keras_mtl.files import replace_file
from keras_mtl.run_files import PARAMS_FILE, TASKS_FILE, VOCABULARY_FILE

# Fields that a checkpoint depends on: the shape of the weights, and what a cursor counts.
FIXED_FIELDS = (
    "task.model.size",
    "task.model.hidden_dim",
    "task.model.num_heads",
    "task.model.intermediate_dim",
    "task.model.encoder_layers",
    "task.model.decoder_layers",
    "task.model.activation",
    "task.model.feed_forward",
    "task.model.feed_forward_parameters",
    "task.model.norm",
    "task.model.norm_parameters",
    "task.model.positions",
    "task.model.max_length",
    "task.model.tie_embeddings",
    "task.model.sharing",
    "task.data.max_length",
    "task.data.tokens_per_batch",
    "task.data.bucket_lengths",
    "task.data.granularity",
    "trainer.optimizer.gradient_accumulation_steps",
    "trainer.optimizer.ema_momentum",
    "runtime.seed",
)


class RunDirectory:
    """The directory of one run.

    Args:
        path: the directory, made when missing.

    Attributes:
        path: `pathlib.Path` of the directory.
        best: directory of the best checkpoint.
        pending: directory of the weights whose validation is not in effect yet.
        has_checkpoint: whether training has saved anything here.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.best = self.path / "best"
        self.pending = self.path / "pending"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CheckpointError(f"--model_dir {path} cannot be made: {error.strerror}") from error
        self.has_checkpoint = any(self.path.glob("ckpt-*.index"))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training in the directory.

        Raises:
            CheckpointError: another process does.
        """
        handle = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CheckpointError(
                    f"another process is training in {self.path}; wait for it, or give another "
                    "--model_dir"
                ) from error
            except OSError:  # A file system without locks.
                pass
            yield
        finally:
            os.close(handle)

    def check(self, config: ExperimentConfig, prepared: PreparedData) -> list[str]:
        """Checks that a configuration can resume from the checkpoints of the directory.

        Returns:
            Fields that changed and may change, as lines "field: old -> new".

        Raises:
            CheckpointError: a field that the checkpoints depend on has another value, or the
                vocabulary is another one.
        """
        if not self.has_checkpoint:
            return []
        file = self.path / VOCABULARY_FILE
        if file.exists():
            known = Vocabulary.load(file).hash
            if known != prepared.vocabulary.hash:
                raise CheckpointError(
                    f"{file} is another vocabulary ({known}) than that of the prepared data "
                    f"({prepared.vocabulary.hash}); give another --model_dir, or set "
                    f"task.data.vocabulary.model_file={file} and prepare again"
                )
        params = self.path / PARAMS_FILE
        if not params.exists():
            raise CheckpointError(
                f"{self.path} holds checkpoints but no {PARAMS_FILE}; give another --model_dir"
            )
        changes = diff(load_params(params), config)
        for field, old, new in changes:
            if _is_fixed(field):
                raise CheckpointError(
                    f"{params}: {field} is {old!r} there and {new!r} now, and its checkpoints "
                    "depend on it; keep the old value or give another --model_dir"
                )
        if config.task.model.sharing == "encoder":
            self._check_decoders(prepared)
        return [f"{field}: {old!r} -> {new!r}" for field, old, new in changes]

    def _check_decoders(self, prepared: PreparedData) -> None:
        """Refuses other decoders than the checkpoints have; they would all look damaged."""
        file = self.path / TASKS_FILE
        if not file.exists():
            return
        known = list(TaskList.read(self.path).decoders)
        asked = list(dict.fromkeys(task.target for task in prepared.tasks))
        if known != asked:
            raise CheckpointError(
                f"{file}: the checkpoints have decoders for {known}, task.pairs asks for {asked}; "
                "keep the target languages and their order, or give another --model_dir"
            )

    def write(
        self, config: ExperimentConfig, prepared: PreparedData, decoder_of_task: Sequence[int]
    ) -> None:
        """Writes the configuration, the vocabulary and the list of tasks."""
        save_params(config, self.path / PARAMS_FILE)
        replace_file(self.path / VOCABULARY_FILE, prepared.vocabulary.model_bytes)
        tasks = {
            "vocabulary_hash": prepared.vocabulary.hash,
            "tasks": [
                {
                    "name": task.name,
                    "source": task.source,
                    "target": task.target,
                    "decoder": decoder,
                }
                for task, decoder in zip(prepared.tasks, decoder_of_task, strict=True)
            ],
        }
        text = json.dumps(tasks, indent=1, ensure_ascii=False) + "\n"
        replace_file(self.path / TASKS_FILE, text.encode())


def _is_fixed(field: str) -> bool:
    """Whether a field is one of `FIXED_FIELDS` or a part of one."""
    return any(f"{field}.".startswith((f"{fixed}.", f"{fixed}[")) for fixed in FIXED_FIELDS)
