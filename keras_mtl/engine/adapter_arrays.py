"""Adapters in engine files: their weights as named arrays, and their hyperparameters.

A bottleneck of set g and member m has `<layer>.adapter.{g}.{m}.norm.gamma` and `.norm.beta`
`[hidden_dim]`, `.down.weight` `[dim, hidden_dim]`, `.down.bias`, `.up.weight` `[hidden_dim, dim]`
and `.up.bias`. LoRA of a dense layer has `<dense>.lora.{g}.{m}.down.weight` `[rank, in]` and
`.up.weight` `[out, rank]`, which includes the factor alpha / rank. An embedding of a stack is
`<stack>.adapter.{g}.{m}.vector` `[hidden_dim]`.
"""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_mtl.configuration.adapters import BOTTLENECK, AdapterSet

_VECTORS = {"gamma": "norm.gamma", "beta": "norm.beta", "down_bias": "down.bias",
            "up_bias": "up.bias"}  # fmt: skip
_MATRICES = {"down_kernel": "down.weight", "up_kernel": "up.weight"}
_PLACES = re.compile(
    r"(?P<stack>encoder|decoder\.(?P<decoder>\d+))\.(?:layer\.(?P<layer>\d+)\.)?"
    r"(?:adapter|(?P<dense>.+)\.lora)\.(?P<set>\d+)\.(?P<member>\d+)\.(?P<part>.+)"
)


def is_adapter(name: str) -> bool:
    """Returns whether a tensor of an engine file belongs to an adapter."""
    return _PLACES.fullmatch(name) is not None


def place_of(name: str) -> tuple[int, int]:
    """Returns the numbers of the set and of the member of an adapter's tensor."""
    match = _PLACES.fullmatch(name)
    assert match is not None
    return int(match["set"]), int(match["member"])


def with_place(name: str, number: int, member: int) -> str:
    """Returns the name of an adapter's tensor for another set and member."""
    match = _PLACES.fullmatch(name)
    assert match is not None
    return f"{name[: match.start('set')]}{number}.{member}.{match['part']}"


def add_adapters(
    arrays: dict[str, np.ndarray], stack: str, layers: Any, sets: Sequence[AdapterSet]
) -> None:
    """Adds the weights of the adapters of an encoder or decoder.

    Args:
        arrays: arrays by name.
        stack: name of the stack in the file.
        layers: a `TransformerEncoder` or `TransformerDecoder`.
        sets: the sets of adapters of the model.
    """
    if layers.adapter_inputs is not None:
        for g, members in enumerate(layers.adapter_inputs.members):
            for m, member in enumerate(members):
                arrays[f"{stack}.adapter.{g}.{m}.vector"] = _array(member.vector)
    for i, adapters in enumerate(layers.adapters):
        for g, each in enumerate(sets):
            for m, member in enumerate(adapters.members(g)):
                if each.kind == BOTTLENECK:
                    _add_bottleneck(arrays, f"{stack}.layer.{i}.adapter.{g}.{m}", member)
                    continue
                for dense, names in adapters.adapted.items():
                    if each.name in names:
                        name = f"{stack}.layer.{i}.{dense.replace('/', '.')}.lora.{g}.{m}"
                        down, up = (_array(value).T for value in member.pair(dense))
                        arrays[f"{name}.down.weight"] = np.ascontiguousarray(down)
                        factor = np.float32(each.alpha / each.size)
                        arrays[f"{name}.up.weight"] = np.ascontiguousarray(up * factor)


def adapter_hyperparameters(sets: Sequence[AdapterSet], per: Sequence[str]) -> dict[str, Any]:
    """Returns the hyperparameters of an engine file about adapters; none without adapters.

    Args:
        sets: the sets of adapters of the model.
        per: for each set, what decides which adapter a task uses.
    """
    if not sets:
        return {}
    return {
        "adapter_kinds": [each.kind for each in sets],
        "adapter_sizes": [each.size for each in sets],
        "adapter_counts": [len(each.members) for each in sets],
        "adapter_per": list(per),
        "adapters": json.dumps([dataclasses.asdict(each) for each in sets]),
    }


def sets_of(hyperparameters: Mapping[str, Any]) -> list[AdapterSet]:
    """Returns the sets of adapters of an engine file.

    Raises:
        ValueError: they are damaged.
    """
    try:
        found = json.loads(hyperparameters.get("adapters", "[]"))
        return [AdapterSet.of_mapping(each) for each in found]
    except (TypeError, KeyError) as error:
        raise ValueError(f"hyperparameter adapters: {error}") from error


def adapter_variable(
    name: str, array: np.ndarray, sets: Sequence[AdapterSet], decoders: Sequence[str]
) -> tuple[str, np.ndarray] | None:
    """Returns the name and the value of the variable of an adapter's tensor.

    Args:
        name: name of a tensor of an engine file.
        array: its value, float32.
        sets: the sets of adapters of the file.
        decoders: names of the decoders' layers.

    Returns:
        None if the tensor does not belong to an adapter.
    """
    match = _PLACES.fullmatch(name)
    if match is None:
        return None
    each = sets[int(match["set"])]
    stack = "encoder" if match["decoder"] is None else decoders[int(match["decoder"])]
    member = f"{each.name}_{each.members[int(match['member'])]}"
    part = match["part"]
    if part == "vector":
        return f"{stack}/adapters_input/{member}/vector", array
    if match["dense"] is None:
        names = {file: variable for variable, file in {**_VECTORS, **_MATRICES}.items()}
        variable = names[part]
    else:
        part = part.removesuffix(".weight")
        variable = f"{match['dense'].replace('.', '_')}_{part}"
        if part == "up":
            array = array / np.float32(each.alpha / each.size)
    value = np.ascontiguousarray(array.T) if array.ndim == 2 else array
    return f"{stack}/adapters_{match['layer']}/{member}/{variable}", value


def _add_bottleneck(arrays: dict[str, np.ndarray], name: str, member: Any) -> None:
    for variable, part in _VECTORS.items():
        arrays[f"{name}.{part}"] = _array(getattr(member, variable))
    for variable, part in _MATRICES.items():
        arrays[f"{name}.{part}"] = np.ascontiguousarray(_array(getattr(member, variable)).T)


def _array(value: Any) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(value), np.float32)
