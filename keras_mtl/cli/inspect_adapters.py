"""What `keras-mtl inspect` prints about copies of stacks and adapters."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from keras_mtl.cli.printing import file_size, print_fields, print_table
from keras_mtl.configuration.adapters import (
    BOTTLENECK,
    LORA,
    AdapterSet,
    adapter_choices,
    adapter_sets,
    index_of,
    split_route,
)
from keras_mtl.configuration.stack_sharing import BY_STACK, copies_of_stacks, stack_names

if TYPE_CHECKING:
    from keras_mtl.configuration.schema import ExperimentConfig


def adapter_lines(config: "ExperimentConfig") -> list[str]:
    """Returns what the adapters are, which task uses which, and which formats hold them."""
    settings, pairs = config.task.model.adapters, config.task.pairs
    lines = []
    choices = adapter_choices(settings, pairs)
    for number, (own, each) in enumerate(zip(settings, adapter_sets(settings, pairs), strict=True)):
        size = {
            BOTTLENECK: f", dim {each.size}",
            LORA: f", rank {each.size}, alpha {each.alpha:g}",
        }.get(each.kind, "")
        where = f", dense layers {each.match}" if each.kind == LORA else ""
        lines.append(
            f"adapters {each.name}: {each.kind} per {own.per}{size}, in "
            f"{' and '.join(each.stacks)}{where}"
        )
        users: dict[int, list[str]] = {}
        for pair, choice in zip(pairs, choices, strict=True):
            users.setdefault(choice[number].index, []).append(pair.name)
        for index in sorted(users):
            name = "no adapter" if index < 0 else each.members[index]
            lines.append(f"  {name}: {', '.join(users[index])}")
    if lines:
        lines.append(
            "adapters run in TensorFlow, in the engine and in both kinds of SavedModel; --format "
            "ctranslate2 does not support them"
        )
    return lines


def stack_lines(config: "ExperimentConfig") -> list[str]:
    """Returns which tasks use which copies of stacks."""
    model, pairs = config.task.model, config.task.pairs
    if model.sharing != BY_STACK:
        return []
    copies = copies_of_stacks(model, pairs)
    lines = []
    for name in stack_names(model):
        members = copies.get(name, ())
        if not members:
            lines.append(f"{name}: one copy for all tasks")
            continue
        settings = getattr(model.stacks, name)
        lines.append(f"{name}: {len(members)} copies, per {settings.per}")
        for index, member in enumerate(members):
            users = [pair.name for pair in pairs if index_of(settings, members, pair) == index]
            lines.append(f"  {member}: {', '.join(users)}")
    return lines


def route_names(route: int, decoders: Sequence[str], sets: Sequence[AdapterSet]) -> list[str]:
    """Returns the names of the decoder and of the adapters of a route, "-" for none."""
    decoder, indices = split_route(route, [len(each.members) for each in sets])
    names = [
        "-" if index < 0 else each.members[index] for each, index in zip(sets, indices, strict=True)
    ]
    return [decoders[decoder], *names]


def is_adapter_file(path: str) -> bool:
    """Returns whether a model file has only adapters.

    Raises:
        ExportError: the file is damaged.
    """
    from keras_mtl.decoding.adapter_file import ARCHITECTURE
    from keras_mtl.engine import open_model_file

    return open_model_file(path).hyperparameters.get("architecture") == ARCHITECTURE


def print_adapter_file(path: str) -> None:
    """Prints the content of a file of adapters, and compares its checksums.

    Raises:
        ExportError: the file is damaged.
    """
    from keras_mtl.decoding.adapter_file import described_tasks, open_adapters
    from keras_mtl.engine.adapter_arrays import sets_of

    file = open_adapters(path)
    about = file.hyperparameters
    sets = sets_of(about)
    values = sum(file.tensor(n).size for n in file.tensor_names if not n.endswith(".scale"))
    print_fields(
        ("file", f"adapters for an engine file, {file_size(file.size)}"),
        ("written by", str(about.get("producer", "unknown"))),
        ("base", f"weights {about.get('base_weights')}, {about.get('weight_type')}"),
        ("parameters", f"{values:,} in {len(file.tensor_names):,} tensors"),
        ("new tags", ", ".join(about.get("languages", [])) or "none"),
        *(
            (f"adapters {each.name}", f"{each.kind} of size {each.size}: {', '.join(each.members)}")
            for each in sets
            if each.members
        ),
    )
    print_table(
        ("task", "direction", *(each.name for each in sets)),
        [
            (
                task["name"],
                f"{task['source']} -> {task['target']}",
                *(task["adapters"].get(each.name, "-") for each in sets),
            )
            for task in described_tasks(file)
        ],
    )
