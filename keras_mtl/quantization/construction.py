"""Which layers of a model get a quantizer, while the model is built."""

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

from keras_mtl.configuration.quantization import (
    QuantizationConfig,
    domain_name,
    domain_number,
    of_mapping,
)
from keras_mtl.errors import ConfigError, nearest
from keras_mtl.quantization.quantizer import Quantizer

_SECTION = "task.model.quantization"
_plans: list["_Plan"] = []


# Stacks of which a model may have several copies, `encoder_en` and so on.
_STACK = re.compile(r"(encoder|decoder|(?:source_|target_)?embedding|projection)_[^/]+")


class _Plan:
    """The layers of the model that is being built."""

    def __init__(self, settings: QuantizationConfig) -> None:
        self.settings = settings
        self.numbers: dict[str, int | None] = {}

    def quantizer(self, name: str) -> Quantizer | None:
        number = self.numbers[name] = domain_number(self.settings, name)
        return None if number is None else Quantizer(name, self.settings.domains[number])

    def check(self) -> None:
        """Raises ConfigError if the domains do not fit the layers."""
        domains = self.settings.domains
        patterns = [(f"domains[{i}].match", domain.match) for i, domain in enumerate(domains)]
        patterns += [(f"exclude[{i}]", text) for i, text in enumerate(self.settings.exclude)]
        for field, pattern in patterns:
            if not any(re.fullmatch(pattern, name) for name in self.numbers):
                raise ConfigError(
                    f"{_SECTION}.{field} = {pattern!r} matches no layer"
                    f"{nearest(pattern, list(self.numbers))}"
                )
        for name, number in self.numbers.items():
            for other, why in (
                (re.sub(r"/gate$", "/value", name), "which have the same input"),
                (self._first_copy(name), "which share a program"),
            ):
                if self.numbers.get(other, number) != number:
                    raise ConfigError(
                        f"{_SECTION}.domains: {name} is in {self._named(number)}, but {other} is "
                        f"in {self._named(self.numbers[other])}. Both layers, {why}, must be in "
                        "the same domain"
                    )

    def _first_copy(self, name: str) -> str:
        """Returns the layer that computes with the weights of this one: see `StackCopies`."""
        return next(other for other in self.numbers if _part(other) == _part(name))

    def _named(self, number: int | None) -> str:
        return "none" if number is None else repr(domain_name(self.settings.domains[number]))


def _part(name: str) -> str:
    """Returns the name of a layer without that of its copy."""
    stack, slash, rest = name.partition("/")
    return _STACK.sub(r"\1", stack) + slash + rest


@contextlib.contextmanager
def quantized(settings: QuantizationConfig | Mapping[str, Any] | None) -> Iterator[None]:
    """Gives the layers that are built in the context their quantizers.

    Args:
        settings: `task.model.quantization`, or a mapping of its fields.

    Raises:
        ConfigError: a regular expression matches no layer, or layers that share inputs or a program
            are in different domains.
    """
    plan = _Plan(of_mapping(settings))
    _plans.append(plan)
    try:
        yield
    finally:
        _plans.pop()
    if plan.settings.domains:
        plan.check()


def layer_of(weight: Any) -> str:
    """Returns the name of the layer of a weight, such as `encoder/layer_0/attention/qkv`."""
    return str(weight.path.partition("/")[2].rpartition("/")[0])


def add_quantizer(layer: Any, weight: Any) -> Quantizer | None:
    """Creates the quantizer of a layer in its `build`; None if the layer is not quantized.

    Args:
        layer: a Keras layer.
        weight: its matrix, whose path names the layer.
    """
    if not _plans or not _plans[-1].settings.domains:
        return None
    quantizer = _plans[-1].quantizer(layer_of(weight))
    if quantizer is not None:
        # Its float32 values are quantized, not values in the compute dtype.
        weight._autocast = False
        layer.quantization = quantizer.add_state(layer)
    return quantizer
