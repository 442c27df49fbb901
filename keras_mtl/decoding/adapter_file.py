"""Files of adapters: the weights that a model adds to an engine file. Imports no TensorFlow.

An adapter file is a model file with the architecture `adapters`. It names its base by a hash of the
base's weights. It holds adapters, the tasks that use them, and the rows of new language tags in the
tables of the vocabulary.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.configuration.adapters import AdapterChoice, AdapterSet
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.decoding.engine_file import (
    PRODUCER,
    TextSide,
    engine_hyperparameters,
    engine_tensors,
    text_hyperparameters,
    vocabulary_tensors,
)
from keras_mtl.decoding.tasks import TranslationTask, translated
from keras_mtl.engine import open_model_file, write_model_file
from keras_mtl.engine.adapter_arrays import (
    adapter_hyperparameters,
    is_adapter,
    place_of,
    sets_of,
    with_place,
)
from keras_mtl.engine.model_file import SOURCE_VOCABULARY
from keras_mtl.errors import ExportError

ARCHITECTURE = "adapters"
_TAGS = "tags."
# Hyperparameters that determine how weights are used.
_SAME = (
    "hidden_dim",
    "num_heads",
    "intermediate_dim",
    "encoder_layers",
    "decoder_layers",
    "tie_embeddings",
    "activation",
    "layer_norm_epsilon",
    "decoders",
    # Files of older versions lack the rest, and only some models have the first.
    "tie_projection",
    "transparent_attention",
    "feed_forward",
    "norm",
    "norm_position",
    "positions",
)


def write_adapter_file(
    model: Any,
    vocabulary: Vocabulary,
    tasks: Sequence[TranslationTask],
    base: str | os.PathLike[str],
    output: str | os.PathLike[str],
) -> Path:
    """Writes the adapters and tasks of a model that an engine file lacks.

    Args:
        model: a built `keras_mtl.models.Transformer`.
        vocabulary: the model's vocabulary.
        tasks: the model's tasks.
        base: the engine file. Its other weights must be those of the model, bit for bit.
        output: the file to write; an existing file is replaced.

    Returns:
        The path of the file.

    Raises:
        ExportError: the base is damaged or has other weights, or has all adapters and tasks.
    """
    tasks = translated(tasks)
    file = open_base(base)
    about = file.hyperparameters
    text = TextSide.read(file)
    weight_type = about["weight_type"]
    ours = engine_hyperparameters(model, vocabulary, tasks, weight_type)
    for name in _SAME:
        mine = ours.get(name)
        if mine != about.get(name, mine):
            raise ExportError(
                f"{base}: {name} is {about[name]!r}, but it is {mine!r} in the model. Give "
                "the engine file of the model that the adapters were trained on"
            )
    tensors = engine_tensors(model, vocabulary, weight_type)
    _check_same(file, tensors, _rows_in(text.vocabulary, vocabulary, base), base)
    sets, added = _new_adapters(file, tensors, model.adapter_sets)
    known = {task.name for task in text.tasks}
    members = {(each.name, member) for each in sets for member in each.members}
    for task in tasks:
        used = members & set(_described(task, model.adapter_sets)["adapters"].items())
        if used and task.name in known:
            raise ExportError(
                f"{base} has the task {task.name!r} without the adapter {min(used)[1]!r} that it "
                "uses in the model. Leave the task out with groups in task.model.adapters, or "
                "export the whole model"
            )
    new_tasks = [task for task in tasks if task.name not in known]
    if not added or not new_tasks:
        raise ExportError(
            f"{base} has all {'adapters' if new_tasks else 'tasks'} of the model, so there is "
            "nothing to export. Give the engine file of the model before they were added"
        )
    own, known_languages = vocabulary.source, text.vocabulary.source.languages
    languages = [each for each in own.languages if each not in known_languages]
    tags = [own.tag_id(language) for language in languages]
    for name in _tagged_tables(tensors, vocabulary) if tags else ():
        added[_TAGS + name] = tensors[name][tags]
    per = [choice.per for choice in new_tasks[0].adapters]
    hyperparameters = {
        "producer": PRODUCER,
        "architecture": ARCHITECTURE,
        "weight_type": weight_type,
        "base_weights": fingerprint(file),
        "languages": languages,
        "tasks": json.dumps([_described(task, model.adapter_sets) for task in new_tasks]),
        **adapter_hyperparameters(sets, per),
    }
    return write_model_file(output, hyperparameters, added)


def add_adapters(
    base: str | os.PathLike[str],
    adapters: Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
) -> Path:
    """Adds files of adapters to an engine file.

    Args:
        base: the engine file, with or without adapters.
        adapters: files of `write_adapter_file` for this base.
        output: the engine file to write; an existing file is replaced.

    Returns:
        The path of the new file.

    Raises:
        ExportError: a file is damaged, belongs to another base, or has an adapter or task that is
            already there.
    """
    file = open_base(base)
    text = TextSide.read(file)
    about = dict(file.hyperparameters)
    about["base_weights"] = fingerprint(file)
    merged = _Merged(
        dict(_arrays(file)),
        text.vocabulary,
        list(text.tasks),
        sets_of(about),
        list(about.get("adapter_per", [])),
    )
    for path in adapters:
        merged.add(open_adapters(path), about, os.fspath(base))
    if "decoding" in about:
        about["decoding"] = _moved_options(about["decoding"], text.vocabulary, merged.vocabulary)
    merged.tensors |= vocabulary_tensors(merged.vocabulary)
    hyperparameters = {
        **about,
        "producer": PRODUCER,
        **text_hyperparameters(merged.vocabulary, merged.tasks),
        **adapter_hyperparameters(merged.sets, merged.per),
    }
    return write_model_file(output, hyperparameters, merged.tensors)


def open_base(path: str | os.PathLike[str]) -> Any:
    """Opens an engine file and compares its checksums.

    Raises:
        ExportError: it is missing, damaged or of another kind.
    """
    file = open_model_file(path, verify=True)
    file.check_transformer()
    return file


def open_adapters(path: str | os.PathLike[str]) -> Any:
    """Opens a file of adapters and compares its checksums.

    Raises:
        ExportError: it is missing, damaged or of another kind.
    """
    file = open_model_file(path, verify=True)
    if file.hyperparameters.get("architecture") != ARCHITECTURE:
        raise ExportError(
            f"{path} is not a file of adapters. Write one with `keras-mtl export --format adapters`"
        )
    return file


def fingerprint(file: Any) -> str:
    """Returns a hash of the weights of an engine file without adapters, 32 hexadecimal digits.

    A file to which adapters were added has the hash of its base.
    """
    stored = file.hyperparameters.get("base_weights")
    if stored is not None:
        return str(stored)
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(file.tensor_names):
        if not is_adapter(name):
            array = np.asarray(file.tensor(name))
            digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()


def described_tasks(file: Any) -> list[dict[str, Any]]:
    """Returns the tasks of a file of adapters: name, source, target, decoder and adapters.

    Raises:
        ExportError: they are damaged.
    """
    try:
        found = json.loads(file.hyperparameters["tasks"])
        return [
            {
                "name": str(each["name"]),
                "source": str(each["source"]),
                "target": str(each["target"]),
                "decoder": int(each["decoder"]),
                "adapters": {str(k): str(v) for k, v in each["adapters"].items()},
            }
            for each in found
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ExportError(
            f"{file.path}: hyperparameter tasks: {error!r}. The file is damaged: export it again"
        ) from error


@dataclasses.dataclass
class _Merged:
    """An engine file in memory, to which adapters are added."""

    tensors: dict[str, np.ndarray]
    vocabulary: Vocabulary
    tasks: list[TranslationTask]
    sets: list[AdapterSet]
    per: list[str]

    def add(self, file: Any, about: Mapping[str, Any], base: str) -> None:
        """Adds a file of adapters."""
        theirs = file.hyperparameters
        for name in ("base_weights", "weight_type"):
            if theirs.get(name) != about[name]:
                raise ExportError(
                    f"{file.path} was exported for a base with {name} {theirs.get(name)}, but "
                    f"{base} has {about[name]}. Give the engine file that was given as --base, or "
                    "export the adapters again with --base for this file"
                )
        places = self._add_sets(file)
        self._add_tags(file)
        for name in file.tensor_names:
            if not name.startswith(_TAGS):
                place = places.get(place_of(name)) if is_adapter(name) else None
                if place is None:
                    raise ExportError(
                        f"{file.path}: tensor {name} belongs to no adapter. The file is damaged: "
                        "export it again"
                    )
                self.tensors[with_place(name, *place)] = np.array(file.tensor(name))
        self._add_tasks(file)

    def _add_sets(self, file: Any) -> dict[tuple[int, int], tuple[int, int]]:
        """Adds the names of adapters; returns the new place of each."""
        places = {}
        per = file.hyperparameters.get("adapter_per", [])
        for number, each in enumerate(sets_of(file.hyperparameters)):
            if not each.members:
                continue
            names = [known.name for known in self.sets]
            if each.name not in names:
                names.append(each.name)
                self.sets.append(dataclasses.replace(each, members=()))
                self.per.append(per[number])
            at = names.index(each.name)
            known = self.sets[at]
            if dataclasses.replace(known, members=each.members) != each:
                raise ExportError(
                    f"{file.path}: the adapters {each.name!r} differ from those of this name in "
                    "the engine file in kind, size or place. Rename them and train again"
                )
            for index, member in enumerate(each.members):
                if member in known.members:
                    raise ExportError(
                        f"{file.path}: the engine file already has the adapter {member!r} of "
                        f"{each.name!r}"
                    )
                places[number, index] = at, len(known.members) + index
            self.sets[at] = dataclasses.replace(known, members=known.members + each.members)
        counts = [len(each.members) for each in self.sets]
        self.tasks = [_with_counts(task, counts, self.per) for task in self.tasks]
        return places

    def _add_tags(self, file: Any) -> None:
        """Adds new language tags to the vocabulary, and their rows to its tables."""
        languages = list(file.hyperparameters.get("languages", []))
        new = [each for each in languages if each not in self.vocabulary.source.languages]
        if not new:
            return
        vocabulary = self.vocabulary.with_languages(new)
        ids = _ids_in(self.vocabulary.source, vocabulary.source, file.path)
        tags = [vocabulary.source.tag_id(language) for language in new]
        rows = [languages.index(language) for language in new]
        for name in _tagged_tables(self.tensors, vocabulary):
            old = self.tensors[name]
            table = np.zeros((vocabulary.source.size, *old.shape[1:]), old.dtype)
            table[ids] = old
            if _TAGS + name not in file.tensor_names:
                raise ExportError(f"{file.path}: tensor {_TAGS}{name} is missing: export it again")
            own = np.asarray(file.tensor(_TAGS + name))
            if own.shape != (len(languages), *old.shape[1:]) or own.dtype != old.dtype:
                raise ExportError(
                    f"{file.path}: tensor {_TAGS}{name} is {own.dtype}{list(own.shape)}; expected "
                    f"{old.dtype}{[len(languages), *old.shape[1:]]}: export it again"
                )
            table[tags] = own[rows]
            self.tensors[name] = table
        self.vocabulary = vocabulary

    def _add_tasks(self, file: Any) -> None:
        for entry in described_tasks(file):
            if any(task.name == entry["name"] for task in self.tasks):
                raise ExportError(
                    f"{file.path}: the engine file already has the task {entry['name']!r}"
                )
            choices = []
            for each, per in zip(self.sets, self.per, strict=True):
                member = entry["adapters"].get(each.name)
                if member is not None and member not in each.members:
                    raise ExportError(
                        f"{file.path}: task {entry['name']!r} uses the adapter {member!r} of "
                        f"{each.name!r}, which neither file has. First add the file that has it"
                    )
                index = -1 if member is None else each.members.index(member)
                choices.append(AdapterChoice(per, index, len(each.members)))
            self.tasks.append(
                TranslationTask(
                    entry["name"],
                    entry["source"],
                    entry["target"],
                    entry["decoder"],
                    adapters=tuple(choices),
                )
            )


def _with_counts(
    task: TranslationTask, counts: Sequence[int], per: Sequence[str]
) -> TranslationTask:
    """Returns a task for sets that have grown, or that were added."""
    indices = [choice.index for choice in task.adapters]
    indices += [-1] * (len(counts) - len(indices))
    return dataclasses.replace(task, adapters=tuple(map(AdapterChoice, per, indices, counts)))


def _described(task: TranslationTask, sets: Sequence[AdapterSet]) -> dict[str, Any]:
    return {
        "name": task.name,
        "source": task.source,
        "target": task.target,
        "decoder": task.decoder,
        "adapters": {
            each.name: each.members[choice.index]
            for each, choice in zip(sets, task.adapters, strict=True)
            if choice.index >= 0
        },
    }


def _arrays(file: Any) -> Iterator[tuple[str, np.ndarray]]:
    for name in file.tensor_names:
        yield name, np.asarray(file.tensor(name))


def _tables(names: Mapping[str, Any]) -> list[str]:
    """Returns the tensors whose first axis is the vocabulary."""
    return [
        name for name in names if name.rpartition(".")[0].endswith(("embedding", ".projection"))
    ]


def _tagged_tables(names: Mapping[str, Any], vocabulary: Vocabulary) -> list[str]:
    """Returns the tables that have rows for language tags."""
    return [name for name in _tables(names) if _of_source(name) or not vocabulary.has_source]


def _of_source(table: str) -> bool:
    """Whether a table is that of the sources."""
    return table.startswith("source_embedding")


def _rows_in(old: Vocabulary, new: Vocabulary, name: Any) -> tuple[Sequence[int], Sequence[int]]:
    """Returns `_ids_in` of the vocabularies of sources and of targets."""
    if old.has_source != new.has_source:
        both = ("one vocabulary", "a vocabulary of the sources")
        raise ExportError(
            f"{name} has {both[old.has_source]}, but the model has {both[new.has_source]}. Give "
            "the engine file of the model that the adapters were trained on"
        )
    target = _ids_in(old, new, name)
    return (_ids_in(old.source, new.source, name) if old.has_source else target), target


def _ids_in(old: Vocabulary, new: Vocabulary, name: Any) -> list[int]:
    """Returns the id in a new vocabulary of each id of an old one.

    Raises:
        ExportError: the new vocabulary lacks a piece.
    """
    ids = {new.piece(i): i for i in range(new.size)}
    missing = [old.piece(i) for i in range(old.size) if old.piece(i) not in ids]
    tags = len(new.languages) - len(old.languages)
    if missing or new.size != old.size + tags:
        raise ExportError(
            f"{name}: its vocabulary differs from that of the model in more than language tags. "
            "Train the adapters with task.data.vocabulary.model_file set to the vocabulary.model "
            "of the base"
        )
    return [ids[old.piece(i)] for i in range(old.size)]


def _check_same(
    file: Any,
    tensors: Mapping[str, np.ndarray],
    ids: tuple[Sequence[int], Sequence[int]],
    base: Any,
) -> None:
    """Raises ExportError if the base has other weights than a model, apart from adapters."""
    tables = _tables(tensors)
    for name, array in _arrays(file):
        if is_adapter(name) or name in ("vocabulary", SOURCE_VOCABULARY):
            continue
        ours = tensors.get(name)
        if ours is not None and name in tables:
            ours = ours[list(ids[0] if _of_source(name) else ids[1])]
        if ours is not None and name.endswith("_positions"):
            ours = ours[: len(array)]  # The model may have more positions.
        if ours is None or not np.array_equal(ours, array):
            raise ExportError(
                f"{base}: the weights {name} differ from those of the model. Freeze all weights "
                "but the adapters (trainer.freeze), and give the engine file of the model in "
                "task.model.init, exported from the same checkpoint"
            )


def _new_adapters(
    file: Any, tensors: Mapping[str, np.ndarray], sets: Sequence[AdapterSet]
) -> tuple[list[AdapterSet], dict[str, np.ndarray]]:
    """Returns the adapters that an engine file lacks, and their tensors."""
    known = {
        (each.name, member): (number, index)
        for number, each in enumerate(sets_of(file.hyperparameters))
        for index, member in enumerate(each.members)
    }
    # A set without new adapters stays, with none, so that the numbers of the sets do not change.
    new = [
        dataclasses.replace(
            each, members=tuple(m for m in each.members if (each.name, m) not in known)
        )
        for each in sets
    ]
    added = {}
    for name, array in tensors.items():
        if not is_adapter(name):
            continue
        number, index = place_of(name)
        member = sets[number].members[index]
        place = known.get((sets[number].name, member))
        if place is None:
            added[with_place(name, number, new[number].members.index(member))] = array
        elif not np.array_equal(array, file.tensor(with_place(name, *place))):
            raise ExportError(
                f"{file.path}: the weights {name} differ from those of the model. Freeze the "
                "adapters that the base has (trainer.freeze)"
            )
    return new, added


def _moved_options(text: str, old: Vocabulary, new: Vocabulary) -> str:
    """Returns beam-search options whose suppressed ids are those of a new vocabulary."""
    options = json.loads(text)
    ids = _ids_in(old, new, "decoding")
    options["suppress"] = [ids[token] for token in options.get("suppress", [])]
    return json.dumps(options)
