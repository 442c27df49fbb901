"""The inputs of `prepare`, and whether prepared data was made from the same inputs.

The manifest records settings, tasks and, for each corpus file, its path, size, modification time
and a hash of its content. Files with the same content are the same, wherever they are. Size and
time only avoid reading unchanged files again.
"""

import copy
import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from keras_mtl import errors
from keras_mtl.configuration.other_tasks import is_translation
from keras_mtl.configuration.schema import CorpusConfig, DataConfig, PairConfig, as_dict
from keras_mtl.configuration.source_vocabulary import has_source_vocabulary
from keras_mtl.data import corpora, prepared
from keras_mtl.data.prepare_settings import cleaning_of, has_own_cleaning
from keras_mtl.data.prepare_vocabulary import given_hashes

CORPORA_FIELDS = ("corpora", "dev_corpora", "test_corpora")
# Largest number of differences in an error message.
_SHOWN_DIFFERENCES = 8
_READ_BYTES = 1 << 20
_ABSENT = "(absent)"


def requested(
    tasks: Sequence[PairConfig], data: DataConfig, keep_train_text: bool = False
) -> dict[str, Any]:
    """Returns the settings that determine the result, as plain data for JSON.

    Names and order must stay the same in all releases, because prepared data is compared with them.

    Args:
        tasks: the tasks, with names and corpora filled in.
        data: the settings of all tasks.
        keep_train_text: whether training stores keep the text.
    """
    values: dict[str, Any] = {
        "prepare_version": prepared.PREPARE_VERSION,
        "settings": _settings(data, keep_train_text),
        "tasks": {task.name: _task(task, data) for task in tasks},
        # A JSON object has no order, but the order of the tasks is part of the result.
        "task_order": [task.name for task in tasks],
    }
    values |= given_hashes(data)
    return json.loads(json.dumps(values))


def _settings(data: DataConfig, keep_train_text: bool) -> dict[str, Any]:
    values = as_dict(data)
    # Releases with one vocabulary did not record that of the sources.
    own = {"source_vocabulary": values["source_vocabulary"]} if has_source_vocabulary(data) else {}
    names = ("dev_fraction", "test_fraction", "dev_pairs", "test_pairs", "max_length")
    return {
        "cleaning": values["cleaning"],
        "vocabulary": values["vocabulary"],
        **own,
        **{name: values[name] for name in names},
        "keep_train_text": keep_train_text,
    }


def _task(task: PairConfig, data: DataConfig) -> dict[str, Any]:
    return {
        "name": task.name,
        "source": task.source,
        "target": task.target,
        **{
            field: [[corpus.reader, corpus.options] for corpus in getattr(task, field)]
            for field in CORPORA_FIELDS
        },
        "max_pairs": task.max_pairs,
        "cleaning": as_dict(cleaning_of(task, data)) if has_own_cleaning(task) else None,
        # Releases without such tasks did not record it.
        **({} if is_translation(task) else {"sides": "target"}),
    }


class Fingerprints:
    """The fingerprints of all corpora, with a hash of the content of each file.

    Args:
        tasks: the tasks.
        known: inputs in the manifest of existing prepared data, or None. A file with the same
            path, size and time is not read again.

    Attributes:
        files: fingerprints by task and field, as in JSON; None for a missing corpus.
        missing: messages about missing corpora.
        size: bytes of all files; a file that several tasks read counts for each.

    Raises:
        ConfigError: a reader or one of its options is unknown.
    """

    def __init__(self, tasks: Sequence[PairConfig], known: Mapping[str, Any] | None = None) -> None:
        self._hashes: dict[tuple[str, int, int], str] = {}
        for entry in _file_entries((known or {}).get("files", {})):
            if len(entry) == 4:
                self._hashes[entry[0], entry[1], entry[2]] = entry[3]
        self.missing: list[errors.DataError] = []
        self.size = 0
        self.files: dict[str, dict[str, list[dict[str, Any] | None]]] = {
            task.name: {
                field: [self._of_corpus(task, corpus) for corpus in getattr(task, field)]
                for field in CORPORA_FIELDS
            }
            for task in tasks
        }

    def _of_corpus(self, task: PairConfig, corpus: CorpusConfig) -> dict[str, Any] | None:
        try:
            reader = corpora.create_reader(corpus.reader, task.source, task.target, corpus.options)
        except errors.DataError as error:
            self.missing.append(error)
            return None
        fingerprint = json.loads(json.dumps(reader.fingerprint()))
        self.size += sum(entry[1] for entry in fingerprint["files"])
        fingerprint["files"] = [[*entry, self._hash(*entry)] for entry in fingerprint["files"]]
        return fingerprint

    def _hash(self, path: str, size: int, time: int) -> str:
        key = path, size, time
        if key not in self._hashes:
            self._hashes[key] = content_hash(path)
        return self._hashes[key]


def content_hash(path: str) -> str:
    """Returns a hash of a file's bytes.

    Raises:
        DataError: the file cannot be read.
    """
    digest = hashlib.blake2b(digest_size=16)
    try:
        with open(path, "rb", buffering=0) as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
    except OSError as error:
        raise errors.DataError(f"{path}: cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def _file_entries(files: Any) -> Iterator[list[Any]]:
    """Yields [path, size, time] or [path, size, time, hash] of each file of a manifest."""
    for fields in files.values():
        for found in fields.values():
            for fingerprint in found:
                yield from fingerprint["files"]


def narrowed(inputs: Mapping[str, Any], tasks: Collection[str]) -> dict[str, Any]:
    """Returns the inputs of a manifest for some of its tasks."""
    return {
        **inputs,
        "tasks": {name: task for name, task in inputs["tasks"].items() if name in tasks},
        "files": {name: files for name, files in inputs["files"].items() if name in tasks},
        "task_order": [name for name in inputs["task_order"] if name in tasks],
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Returns the differences between the inputs of prepared data and the requested inputs.

    Paths, times of files with the same content, and the version of `prepare` cannot change the
    result and are not compared. A setting that is not in the older inputs has its default. A
    missing corpus is not compared.

    Args:
        old: inputs of a manifest, possibly of an older release.
        new: the result of `requested`, with the `files` of `Fingerprints`.

    Returns:
        `field: old -> new; ...`, or an empty string if nothing differs.
    """
    found = list(_differences("", _comparable(old), _comparable(new)))
    found += _file_differences(old, new)
    shown = "; ".join(found[:_SHOWN_DIFFERENCES])
    not_shown = len(found) - _SHOWN_DIFFERENCES
    return f"{shown}; and {not_shown} more" if not_shown > 0 else shown


def _comparable(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings and tasks with defaults filled in and without paths."""
    settings = _filled(inputs["settings"], _settings(DataConfig(), keep_train_text=False))
    for name in ("vocabulary", "source_vocabulary"):
        if inputs.get(f"{name}_model"):  # The hash of the file is compared instead.
            settings[name] = {**settings[name], "model_file": ""}
    tasks = {}
    for name, task in inputs["tasks"].items():
        task = _filled(task, _TASK_DEFAULTS)
        for field in CORPORA_FIELDS:
            task[field] = [
                {"reader": reader, "options": _options(reader, given)}
                for reader, given in task[field]
            ]
        tasks[name] = task
    return {
        "settings": settings,
        "tasks": tasks,
        "task_order": inputs["task_order"],
        "vocabulary_model": inputs.get("vocabulary_model"),
        "source_vocabulary_model": inputs.get("source_vocabulary_model"),
    }


_TASK_DEFAULTS: dict[str, Any] = {
    "dev_corpora": [],
    "test_corpora": [],
    "max_pairs": None,
    "cleaning": None,
    "sides": "both",
}


def _filled(values: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `values` with missing entries from `defaults`, also in nested mappings."""
    filled = dict(values)
    for name, default in defaults.items():
        if name not in filled:
            filled[name] = copy.copy(default)
        elif isinstance(default, Mapping):
            filled[name] = _filled(filled[name], default)
    return filled


def _options(reader: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of a reader, with paths reduced to the members of archives."""
    paths = corpora.path_options(reader)
    return {
        name: _members(value) if name in paths else value
        for name, value in options.items()
        # The list of files shows whether a path names one file or several.
        if name not in paths or _members(value)
    }


def _members(value: Any) -> list[str]:
    """Returns the members that paths of the form `archive.zip:member` name."""
    paths = value if isinstance(value, list) else [value]
    return [path.rpartition(":")[2] for path in paths if isinstance(path, str) and ":" in path]


def _file_differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yields a text for each corpus whose files or options differ."""
    for task, fields in new["files"].items():
        for field, corpora_now in fields.items():
            corpora_then = old["files"].get(task, {}).get(field, [])
            if len(corpora_then) != len(corpora_now):
                continue  # The list of corpora of the task already shows this.
            for i, (then, now) in enumerate(zip(corpora_then, corpora_now, strict=True)):
                if now is not None:
                    yield from _corpus_differences(f"files.{task}.{field}[{i}]", then, now)


def _corpus_differences(
    path: str, then: Mapping[str, Any], now: Mapping[str, Any]
) -> Iterator[str]:
    # Options are compared with the task's; a directory is a path.
    left_out = ("files", "options", "folder")
    yield from _differences(
        path,
        {key: value for key, value in then.items() if key not in left_out},
        {key: value for key, value in now.items() if key not in left_out},
    )
    before, after = then["files"], now["files"]
    if len(before) != len(after):
        names = {entry[0] for entry in before} ^ {entry[0] for entry in after}
        yield (
            f"{path}: {len(after)} files instead of {len(before)}"
            + (f", such as {min(names)}" if names else "")
        )
        return
    for old, new in zip(before, after, strict=True):
        if old[1] != new[1]:
            yield f"{path}: the size of {new[0]} has changed ({old[1]:,} -> {new[1]:,} bytes)"
        elif len(old) == 4:
            if old[3] != new[3]:
                yield f"{path}: the content of {new[0]} has changed"
        elif old[2] != new[2]:
            yield (
                f"{path}: the modification time of {new[0]} has changed, and the older "
                "release that prepared it did not record its content"
            )


def _differences(path: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in [*new, *(key for key in old if key not in new)]:
            child = f"{path}.{key}" if path else str(key)
            yield from _differences(child, old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from _differences(f"{path}[{i}]", a, b)
    elif old != new:
        yield f"{path}: {_short(old)} -> {_short(new)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def missing_files(missing: Sequence[errors.DataError]) -> str:
    """Returns a text that names the missing corpora."""
    names = list(dict.fromkeys(str(error) for error in missing))
    shown = "; ".join(names[:_SHOWN_DIFFERENCES])
    not_shown = len(names) - _SHOWN_DIFFERENCES
    return f"{shown}; and {not_shown} more" if not_shown > 0 else shown
