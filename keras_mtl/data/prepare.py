"""Prepares data: reads, cleans and splits corpora, trains the vocabulary, encodes and writes.

There are two passes. The first reads every corpus once and writes cleaned text to temporary files.
The vocabulary is trained on a sample of them. The second pass encodes them into stores. Everything
is written to a directory next to `data_dir` and renamed at the end, so prepared data is complete or
absent. Memory holds the hashes of one task's pairs and buffers of fixed size, never a corpus.
"""

import contextlib
import dataclasses
import fcntl
import glob
import hashlib
import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

import keras_mtl
from keras_mtl import errors
from keras_mtl.configuration.schema import DataConfig, PairConfig, VocabularyConfig
from keras_mtl.data import languages, prepare_inputs, prepared, split
from keras_mtl.data.prepare_inputs import Fingerprints
from keras_mtl.data.prepare_report import report, sample_lines
from keras_mtl.data.prepare_settings import filled_tasks, max_pieces
from keras_mtl.data.prepare_text import TaskText, empty_task, read_text
from keras_mtl.data.prepared import PreparedData, PreparedTask, load_prepared
from keras_mtl.data.store import StoreReader, StoreWriter
from keras_mtl.data.store_writer import disk_errors
from keras_mtl.data.vocabulary import TaskText as VocabularyText
from keras_mtl.data.vocabulary import Vocabulary, train_vocabulary
from keras_mtl.files import finish_replacing, remove, replace_file, replacing_directory
from keras_mtl.run_files import MANIFEST_FILE, VOCABULARY_FILE

__all__ = [
    "PreparedData",
    "PreparedTask",
    "load_prepared",
    "open_prepared",
    "prepare",
]

_SIDES = ("source", "target")
# Number of pairs that are encoded at once: enough for all threads of SentencePiece.
_ENCODED_AT_ONCE = 10_000


def prepare(
    pairs: Sequence[PairConfig],
    data_dir: str | os.PathLike[str],
    data: DataConfig | None = None,
    *,
    keep_train_text: bool = False,
    overwrite: bool = False,
    log: Callable[[str], None] = print,
) -> PreparedData:
    """Prepares the data of all tasks, unless it is prepared already.

    Data that was prepared for more tasks is used unchanged, and the other tasks are ignored.

    Args:
        pairs: the tasks; at least one, names unique.
        data_dir: directory to write. Missing parents are created.
        data: default corpora, cleaning, split and vocabulary; None means the defaults.
        keep_train_text: whether training stores keep the text in addition to the tokens.
        overwrite: whether to replace data that was prepared from other inputs or settings.
        log: function that is called with lines for the user: bad lines, and tables at the end.

    Returns:
        The prepared data, opened.

    Raises:
        ConfigError: tasks, a reader's options or the vocabulary's size are wrong.
        DataError: a corpus is missing or damaged, a task has no training pairs, the disk is full,
            or `data_dir` holds something else. `data_dir` is then unchanged.
    """
    data = data or DataConfig()
    tasks = filled_tasks(pairs, data)
    data_dir = os.path.abspath(os.fspath(data_dir))
    requested = prepare_inputs.requested(tasks, data, keep_train_text)
    found = None if overwrite else prepared.read_manifest(data_dir)
    fingerprints = Fingerprints(tasks, found and found["inputs"])
    inputs = {**requested, "files": fingerprints.files}
    changes = "" if found is None else _differences(found, inputs)
    if found is not None and not changes:
        # Without a lock, because the directory may belong to another user.
        return _as_it_is(data_dir, found, fingerprints, log)
    if fingerprints.missing:
        missing = prepare_inputs.missing_files(fingerprints.missing)
        instead = f"; {data_dir} was prepared from other inputs or settings: {changes}"
        raise errors.DataError(missing + (instead if changes else ""))
    parent, name = os.path.split(data_dir)
    with disk_errors(data_dir):
        os.makedirs(parent, exist_ok=True)
    with _locked(os.path.join(parent, f".{name}.lock"), data_dir, log):
        with disk_errors(data_dir):
            finish_replacing(data_dir)
            _tidy(data_dir, parent, name)
        found = _usable(data_dir, inputs, overwrite)
        if found is not None:
            return _as_it_is(data_dir, found, fingerprints, log)
        with contextlib.ExitStack() as replacing:
            with disk_errors(data_dir):
                partial = replacing.enter_context(replacing_directory(data_dir))
            _prepare_into(os.fspath(partial), data_dir, tasks, data, inputs, log)
            with disk_errors(data_dir):
                replacing.close()
    return load_prepared(data_dir)


def open_prepared(
    pairs: Sequence[PairConfig],
    data_dir: str | os.PathLike[str],
    data: DataConfig | None = None,
    *,
    place: str = "",
    log: Callable[[str], None] = print,
) -> PreparedData:
    """Opens data that was prepared from these inputs and settings; writes nothing.

    Args:
        pairs: the tasks; at least one, names unique.
        data_dir: directory of the prepared data.
        data: as of `prepare`.
        place: where messages say the data is; empty means `data_dir`.
        log: receives lines of text.

    Raises:
        ConfigError: tasks or a reader's options are wrong.
        DataError: the directory holds no prepared data, or it was prepared from other inputs or
            settings.
    """
    data = data or DataConfig()
    tasks = filled_tasks(pairs, data)
    data_dir = os.path.abspath(os.fspath(data_dir))
    place = place or data_dir
    found = prepared.read_manifest(data_dir)
    if found is None:
        raise errors.DataError(f"{place}: no prepared data is there ({MANIFEST_FILE} is missing)")
    fingerprints = Fingerprints(tasks, found["inputs"])
    inputs = {**prepare_inputs.requested(tasks, data), "files": fingerprints.files}
    changes = _differences(found, inputs)
    if changes:
        raise errors.DataError(
            f"{place}: prepared from other inputs or settings: {changes}; choose another "
            "task.data.data_dir, or replace it with `keras-mtl prepare --overwrite`"
        )
    return _as_it_is(data_dir, found, fingerprints, log)


def _tidy(data_dir: str, parent: str, name: str) -> None:
    """Completes or removes what killed processes of earlier versions left next to `data_dir`.

    They wrote into directories with random names. The caller holds the lock that they held.
    """
    pattern = os.path.join(glob.escape(parent), f".{glob.escape(name)}.*.partial")
    for replaced in glob.glob(f"{pattern}.old"):
        if os.path.lexists(data_dir):
            remove(replaced)
        else:  # Killed between the two renames.
            os.rename(replaced, data_dir)
    for partial in glob.glob(pattern):
        remove(partial)


@contextlib.contextmanager
def _locked(path: str, data_dir: str, log: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock file, so that only one process prepares a directory; removes it at the end."""
    while True:
        with disk_errors(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log(f"{data_dir}: another process is preparing it; waiting for its result")
                fcntl.flock(handle, fcntl.LOCK_EX)
            # The previous holder may have removed the file; a lock on a removed file has no effect.
            try:
                holds = os.path.samestat(os.fstat(handle), os.stat(path))
            except FileNotFoundError:
                holds = False
            if holds:
                try:
                    yield
                finally:
                    os.unlink(path)
                return
        finally:
            os.close(handle)


def _as_it_is(
    data_dir: str,
    manifest: dict[str, Any],
    fingerprints: Fingerprints,
    log: Callable[[str], None],
) -> PreparedData:
    if fingerprints.missing:
        # Training reads only the store, so prepared data can be used without its corpora.
        log(
            f"warning: {data_dir}: prepared already; its corpora are missing, so it is used as it "
            f"is, and changes of the corpora are not detected: "
            f"{prepare_inputs.missing_files(fingerprints.missing)}"
        )
    else:
        log(f"{data_dir}: prepared already from these inputs and settings; used as it is")
    older = manifest["inputs"].get("prepare_version") != prepared.PREPARE_VERSION
    if older and any(_is_short(task[side]) for task in manifest["tasks"] for side in _SIDES):
        log(
            f"{data_dir}: prepared by an older version, whose cleaning drops more short Chinese, "
            "Japanese and Korean pairs; `keras-mtl prepare --overwrite` prepares it again (models "
            "trained on it then need the old vocabulary back)"
        )
    names = list(fingerprints.files)
    unused = [name for name in manifest["inputs"]["task_order"] if name not in names]
    if unused:
        log(f"{data_dir}: tasks that are not used: {', '.join(unused)}")
    data = load_prepared(data_dir, names)
    for warning in data.warnings:
        log(f"warning: {warning}")
    return data


def _differences(manifest: dict[str, Any], inputs: dict[str, Any]) -> str:
    """Returns how prepared data differs from the request; its other tasks are ignored."""
    known = prepare_inputs.narrowed(manifest["inputs"], inputs["tasks"])
    return prepare_inputs.differences(known, inputs)


def _is_short(code: str) -> bool:
    """Whether an older cleaning dropped short texts of a language."""
    tag = languages.parse(code)
    return tag is not None and tag.language in ("zh", "ja", "ko")


def _usable(data_dir: str, inputs: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """Returns the manifest if `data_dir` holds the requested data; None if it must be written.

    Raises:
        DataError: the directory holds something that must not be replaced.
    """
    manifest = prepared.read_manifest(data_dir)
    if manifest is None:
        if os.path.isdir(data_dir) and not os.listdir(data_dir):
            return None
        if os.path.lexists(data_dir):
            raise errors.DataError(
                f"{data_dir}: exists, but holds no prepared data ({MANIFEST_FILE} is "
                "missing); choose another task.data.data_dir, or delete it"
            )
        return None
    if overwrite:
        return None
    changes = _differences(manifest, inputs)
    if changes:
        raise errors.DataError(
            f"{data_dir}: prepared from other inputs or settings: {changes}. Use the old ones, set "
            "another task.data.data_dir, or replace the data with `keras-mtl prepare --overwrite`, "
            "after which a run that was trained on it can only resume with its old vocabulary"
        )
    return manifest


def _prepare_into(
    directory: str,
    data_dir: str,
    tasks: Sequence[PairConfig],
    data: DataConfig,
    inputs: dict[str, Any],
    log: Callable[[str], None],
) -> None:
    """Writes everything into `directory`, which will become `data_dir`."""
    texts = read_text(tasks, data, directory, log)
    vocabulary = _vocabulary(texts, data.vocabulary)
    with disk_errors(data_dir):
        replace_file(os.path.join(directory, VOCABULARY_FILE), vocabulary.model_bytes)
    results, spelled = [], {}
    for text in texts:
        for name in split.SPLITS:
            path = os.path.join(directory, f"{text.spec.name}.{name}.store")
            keep_text = name != "train" or inputs["settings"]["keep_train_text"]
            in_bytes = _encode(text, name, path, vocabulary, max_pieces(data), keep_text)
            if name == "train":
                spelled[text.spec.name] = in_bytes
            text.spills[name].remove()
        results.append(_result(text, directory, data.max_length))
    manifest: dict[str, Any] = {
        "kind": prepared.MANIFEST_KIND,
        "package_version": keras_mtl.__version__,
        "inputs_hash": hashlib.blake2b(
            json.dumps(inputs, sort_keys=True).encode(), digest_size=16
        ).hexdigest(),
        "vocabulary_hash": vocabulary.hash,
        "vocabulary_size": vocabulary.size,
        "tasks": [dataclasses.asdict(task) for task in results],
        "samples": {text.spec.name: text.shown_pairs() for text in texts},
        "warnings": {text.spec.name: text.language_warnings() for text in texts},
        "inputs": inputs,
    }
    with disk_errors(data_dir):
        content = json.dumps(manifest, indent=1, ensure_ascii=False)
        replace_file(os.path.join(directory, MANIFEST_FILE), content)
    for line in report(results, spelled):
        log(line)
    width = shutil.get_terminal_size((100, 24)).columns
    for name, pairs in manifest["samples"].items():
        for line in (f"pairs of {name}, for example:", *sample_lines(pairs, width)):
            log(line)
    for warning in itertools.chain.from_iterable(manifest["warnings"].values()):
        log(f"warning: {warning}")


def _vocabulary(texts: Sequence[TaskText], settings: VocabularyConfig) -> Vocabulary:
    """Trains the vocabulary on the training text of all tasks, or adds tags to the given one."""
    languages = {text.spec.target for text in texts}
    if not settings.model_file:
        return train_vocabulary(
            [
                VocabularyText(
                    text.spec.name, text.spills["train"].size, text.spills["train"].__iter__
                )
                for text in texts
            ],
            languages,
            size=settings.size,
            model_type=settings.model_type,
            temperature=settings.temperature,
            max_sentences=settings.max_sentences,
            character_coverage=settings.character_coverage,
        )
    return Vocabulary.load(settings.model_file).with_languages(languages)


def _encode(
    text: TaskText, name: str, path: str, vocabulary: Vocabulary, max_pieces: int, keep_text: bool
) -> int:
    """Writes a store and returns its number of byte pieces."""
    in_bytes = 0
    spill = iter(text.spills[name])
    with StoreWriter(path, vocabulary.hash, vocabulary.size, keep_text=keep_text) as writer:
        while pairs := list(itertools.islice(spill, _ENCODED_AT_ONCE)):
            sides = vocabulary.encode_batch(list(itertools.chain.from_iterable(pairs)))
            lengths = np.fromiter(map(len, sides), np.int64, len(sides))
            fits = lengths.reshape(-1, 2).max(axis=1) <= max_pieces
            tokens = np.fromiter(itertools.chain.from_iterable(sides), np.int32, int(lengths.sum()))
            if not fits.all():
                text.counts[f"over max_length, {name}"] += int((~fits).sum())
                both = np.repeat(fits, 2)
                tokens, lengths = tokens[np.repeat(both, lengths)], lengths[both]
                pairs = list(itertools.compress(pairs, fits))
            in_bytes += int(vocabulary.is_byte[tokens].sum())
            writer.add_arrays(tokens, lengths, pairs if keep_text else None)
    return in_bytes


def _result(text: TaskText, directory: str, max_length: int) -> PreparedTask:
    """Returns the entry of a task in the manifest.

    Raises:
        DataError: no training pair is short enough.
    """
    spec = text.spec
    stores = {
        name: StoreReader(os.path.join(directory, f"{spec.name}.{name}.store"))
        for name in split.SPLITS
    }
    if not len(stores["train"]):
        raise errors.DataError(
            f"{empty_task(text)}; all pairs that passed are longer than task.data.max_length, "
            f"{max_length}"
        )
    return PreparedTask(
        name=spec.name,
        source=spec.source,
        target=spec.target,
        train_size=len(stores["train"]),
        dev_size=len(stores["dev"]),
        test_size=len(stores["test"]),
        source_tokens=stores["train"].source_tokens,
        target_tokens=stores["train"].target_tokens,
        counts={rule: value for rule, value in text.counts.items() if value},
    )
