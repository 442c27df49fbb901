"""The first weights of a new run: `task.model.init`."""

import dataclasses
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_mtl.configuration.initial_weights import InitConfig
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_map import VocabularyMaps
from keras_mtl.files import replace_file
from keras_mtl.messages import table_lines
from keras_mtl.models import initial_weights
from keras_mtl.models.initial_weights import LEFT_OUT, REMAPPED, Entry
from keras_mtl.models.variables import variable_name, variables_by_name
from keras_mtl.run_files import INITIAL_WEIGHTS_FILE
from keras_mtl.training.run.weight_sources import WeightSource, open_source


@dataclasses.dataclass(frozen=True)
class FirstWeights:
    """What the variables of a model took from trained models.

    Attributes:
        record: the content of `initial_weights.json`: the sources with the hashes of their weights
            and vocabularies, and what each variable took.
        lines: lines for the user: the sources, and a table.
    """

    record: dict[str, Any]
    lines: list[str]

    def write(self, directory: Path) -> None:
        """Writes `initial_weights.json`."""
        text = json.dumps(self.record, indent=1, ensure_ascii=False) + "\n"
        replace_file(directory / INITIAL_WEIGHTS_FILE, text.encode())


def take_first_weights(
    model: Any,
    vocabulary: Vocabulary,
    sources: Sequence[InitConfig],
    optimizer: Any = None,
    write: bool = True,
    log: Callable[[str], None] | None = None,
) -> FirstWeights:
    """Assigns weights of trained models to the variables of a model.

    Args:
        model: a built `keras_mtl.models.Transformer`.
        vocabulary: its vocabulary.
        sources: the trained models; later ones override earlier ones.
        optimizer: its built optimizer, whose moments are set if a source asks for that.
        write: False changes nothing.
        log: see `open_source`.

    Raises:
        ConfigError: a source cannot be used, or its rules do not fit.
    """
    found, records, lines = [], [], []
    for number, settings in enumerate(sources):
        source = open_source(settings, number, log)
        maps = VocabularyMaps(source.vocabulary, vocabulary)
        entries = initial_weights.assign(model, source.arrays, settings, maps, number, write)
        if settings.moments and write:
            _assign_moments(model, optimizer, source, entries, maps)
        found.append(entries)
        records.append({"from": settings.from_, **source.record(), "moments": settings.moments})
        lines.append(f"initial weights [{number}]: {source.describe()}")
        if rest := initial_weights.unused(entries, source.arrays):
            lines.append(f"not used from [{number}]: {', '.join(rest)}")
    final = initial_weights.final_entries(found)
    sizes = {name: math.prod(v.shape) for name, v in variables_by_name(model).items()}
    lines += table_lines(
        ("layer", "variables", "parameters", "first weights", "why"),
        initial_weights.table(final, sizes),
    )
    record = {"sources": records, "variables": [dataclasses.asdict(entry) for entry in final]}
    return FirstWeights(record, lines)


def _assign_moments(
    model: Any, optimizer: Any, source: WeightSource, entries: Sequence[Entry], maps: VocabularyMaps
) -> None:
    """Sets the moments of the variables that took weights, if the source has trained them."""
    axes = {path.partition("/")[2]: axis for path, axis in model.vocabulary_axes().items()}
    slots = {"momentum": optimizer.momentums, "velocity": optimizer.velocities}
    places = {variable_name(each): i for i, each in enumerate(model.trainable_variables)}
    for slot, variables in slots.items():
        known = source.moments[slot]
        for entry in entries:
            place = places.get(entry.name)
            if entry.status == LEFT_OUT or place is None or entry.origin not in known:
                continue
            value, target = known[entry.origin], variables[place]
            if entry.status == REMAPPED:
                shape = model.trainable_variables[place].shape
                rows = maps.between(entry.origin, entry.name)
                value = rows.apply(value, np.zeros(shape, np.float32), axes[entry.name])
            target.assign(np.broadcast_to(value, target.shape))  # Per-task moments all start equal.
