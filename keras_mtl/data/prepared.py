"""A directory of prepared data: manifest, vocabulary and stores."""

import dataclasses
import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras_mtl
from keras_mtl import errors
from keras_mtl.data import split
from keras_mtl.data.sharded_store import AnyStoreReader, open_store
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_files import read_vocabulary
from keras_mtl.files import replace_file
from keras_mtl.run_files import MANIFEST_FILE, VOCABULARY_FILE

MANIFEST_KIND = "keras_mtl prepared data"
# Increased whenever `prepare` produces different pairs or ids from the same inputs. 2: lengths are
# compared in letters, which keeps short Chinese, Japanese and Korean pairs.
PREPARE_VERSION = 2
_READABLE_VERSIONS = (1, 2)


@dataclasses.dataclass(frozen=True)
class PreparedTask:
    """One task of the prepared data.

    Attributes:
        name: name of the task.
        source: source language code.
        target: target language code.
        train_size: number of training pairs.
        dev_size: number of dev pairs.
        test_size: number of test pairs.
        source_tokens: number of tokens of the training sources.
        target_tokens: number of tokens of the training targets.
        counts: numbers of pairs by rule, as `prepare` prints them.
    """

    name: str
    source: str
    target: str
    train_size: int
    dev_size: int
    test_size: int
    source_tokens: int
    target_tokens: int
    counts: Mapping[str, int]


class PreparedData:
    """Vocabulary and stores of all tasks.

    Args:
        data_dir: the directory.
        manifest: content of its manifest.
        tasks: names of the tasks to use; None means all.

    Attributes:
        data_dir: the directory.
        manifest: settings, fingerprints of the inputs, counts, vocabulary hash, package version.
        vocabulary: the vocabulary.
        tasks: the tasks in use, in the order in which they were prepared.

    Raises:
        DataError: the vocabulary is missing or damaged or does not match the manifest, or a task
            does not exist.
    """

    def __init__(
        self, data_dir: str, manifest: Mapping[str, Any], tasks: Collection[str] | None = None
    ) -> None:
        self.data_dir = data_dir
        self.manifest = manifest
        path = os.path.join(data_dir, VOCABULARY_FILE)
        self.vocabulary = read_vocabulary(data_dir)
        if self.vocabulary.hash != manifest["vocabulary_hash"]:
            raise errors.DataError(
                f"{path}: field vocabulary_hash: it is {self.vocabulary.hash}, but {MANIFEST_FILE} "
                f"says {manifest['vocabulary_hash']}; prepare it again with `keras-mtl prepare "
                "--overwrite`"
            )
        self.tasks = [PreparedTask(**task) for task in manifest["tasks"]]
        if tasks is not None:
            for name in tasks:
                self.task(name)
            self.tasks = [task for task in self.tasks if task.name in tasks]
        self.samples: dict[str, list[list[str]]] = manifest.get("samples", {})
        warnings = manifest.get("warnings", {})
        self.warnings: list[str] = [
            text for task in self.tasks for text in warnings.get(task.name, [])
        ]
        # Old data, and data without large stores, has one file for each store.
        self._shards: dict[str, dict[str, int]] = manifest.get("shards", {})
        self._readers: dict[tuple[str, str], AnyStoreReader] = {}

    def task(self, name: str) -> PreparedTask:
        """Returns a task by name.

        Raises:
            DataError: there is no such task.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        remedy = errors.nearest_task(name, [task.name for task in self.tasks])
        raise errors.DataError(f"{self.data_dir}: the prepared data has no task {name!r}{remedy}")

    def reader(self, task: str, split_name: str) -> AnyStoreReader:
        """Returns the open store of a task's train, dev or test split, always the same object.

        Raises:
            DataError: there is no such task, or its store is missing or damaged.
            ValueError: there is no such split.
        """
        if split_name not in split.SPLITS:
            raise ValueError(f"split is {split_name!r}; it must be train, dev or test")
        key = self.task(task).name, split_name
        if key not in self._readers:
            self._readers[key] = open_store(
                self.data_dir,
                f"{task}.{split_name}",
                self._shards.get(task, {}).get(split_name, 1),
                self.vocabulary.hash,
            )
        return self._readers[key]

    def verify(self) -> None:
        """Reads all stores completely, and compares their checksums and sizes.

        Raises:
            DataError: a store is missing or damaged, or is not the one of the manifest.
        """
        for task in self.tasks:
            for name in split.SPLITS:
                reader, size = self.reader(task.name, name), getattr(task, f"{name}_size")
                reader.verify()
                if len(reader) != size:
                    raise errors.DataError(
                        f"{reader.path}: it has {len(reader)} pairs, but {MANIFEST_FILE} says "
                        f"{size}; prepare the data again with `keras-mtl prepare --overwrite`"
                    )


def new_manifest(
    inputs: Mapping[str, Any],
    vocabulary: Vocabulary,
    tasks: Sequence[PreparedTask],
    shards: Mapping[str, Mapping[str, int]],
    samples: Mapping[str, Sequence[Sequence[str]]],
    warnings: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Returns the manifest of new prepared data.

    Args:
        inputs: see `prepare_inputs`.
        vocabulary: the vocabulary.
        tasks: the tasks.
        shards: number of files of each store, by task and split.
        samples: pairs to show, by task.
        warnings: warnings about the corpora, by task.
    """
    manifest: dict[str, Any] = {
        "kind": MANIFEST_KIND,
        "package_version": keras_mtl.__version__,
        "inputs_hash": hashlib.blake2b(
            json.dumps(inputs, sort_keys=True).encode(), digest_size=16
        ).hexdigest(),
        "vocabulary_hash": vocabulary.hash,
        "vocabulary_size": vocabulary.size,
        **({"source_vocabulary_size": vocabulary.source.size} if vocabulary.has_source else {}),
        "tasks": [dataclasses.asdict(task) for task in tasks],
        "samples": samples,
        "warnings": warnings,
        "inputs": inputs,
    }
    if any(number > 1 for numbers in shards.values() for number in numbers.values()):
        manifest["shards"] = shards
    return manifest


def write_manifest(directory: str, manifest: Mapping[str, Any]) -> None:
    """Writes the manifest of prepared data, which makes it complete."""
    content = json.dumps(manifest, indent=1, ensure_ascii=False)
    replace_file(os.path.join(directory, MANIFEST_FILE), content)


def read_manifest(data_dir: str) -> dict[str, Any] | None:
    """Returns the manifest of a directory, or None if it has none.

    Raises:
        DataError: the manifest is damaged or is not one of prepared data.
    """
    path = os.path.join(data_dir, MANIFEST_FILE)
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise errors.DataError(f"{path}: cannot read it: {error.strerror}") from error
    except ValueError as error:
        raise errors.DataError(
            f"{path}: damaged manifest: {error}; delete the directory and prepare the data again"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("kind") != MANIFEST_KIND:
        raise errors.DataError(
            f"{path}: not a manifest of prepared data; choose another task.data.data_dir"
        )
    return manifest


def load_prepared(
    data_dir: str | os.PathLike[str], tasks: Collection[str] | None = None
) -> PreparedData:
    """Opens prepared data.

    Args:
        data_dir: directory that `prepare` has written.
        tasks: names of the tasks to use; None means all.

    Raises:
        DataError: the directory has no prepared data, is damaged, or lacks a task.
    """
    data_dir = os.path.abspath(data_dir)
    manifest = read_manifest(data_dir)
    if manifest is None:
        raise errors.DataError(
            f"{data_dir} has no prepared data ({MANIFEST_FILE} is missing); run `keras-mtl prepare`"
        )
    version = manifest["inputs"].get("prepare_version")
    if version not in _READABLE_VERSIONS:
        raise errors.DataError(
            f"{data_dir}: prepared by keras_mtl {manifest['package_version']} (format {version}), "
            f"but this release reads formats {_READABLE_VERSIONS[0]} to "
            f"{PREPARE_VERSION}; prepare it "
            "again with `keras-mtl prepare --overwrite`"
        )
    return PreparedData(data_dir, manifest, tasks)
