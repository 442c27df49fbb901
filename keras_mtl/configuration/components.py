"""Registries of classes that a configuration selects by name: schedules, readers and others.

A family knows its classes by name, finds the one that a user chose, and checks what the user wrote
as a parameter. Each message gives the name, the value and the remedy. Plug-ins register classes of
their own (`keras_mtl.configuration.plugins`).
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import numpy as np

from keras_mtl.errors import ConfigError, nearest

_Base = TypeVar("_Base")
_Class = TypeVar("_Class", bound=type[Any])


class UnknownName(ConfigError):
    """No member of a family has a name.

    Attributes:
        text: the message without the field, for a caller that knows which field of a configuration
            holds the name.
    """

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field} {text}")
        self.text = text


def constructor_parameters(cls: type, base: type = object) -> dict[str, inspect.Parameter]:
    """Returns the parameters of a constructor by name, with those that it passes to base classes.

    Args:
        cls: the class.
        base: base class at which to stop; its own parameters are left out.
    """
    result: dict[str, inspect.Parameter] = {}
    for each in cls.__mro__:
        if each is base:
            break
        if "__init__" not in vars(each):
            continue
        parameters = list(inspect.signature(vars(each)["__init__"]).parameters.values())[1:]
        for parameter in parameters:
            if parameter.kind in (parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD):
                result.setdefault(parameter.name, parameter)
        # **kwargs passes the rest to the base class.
        if all(parameter.kind is not parameter.VAR_KEYWORD for parameter in parameters):
            break
    return result


class Family(Generic[_Base]):
    """A family of classes by name. Their parameters are the keyword-only constructor arguments.

    Args:
        kind: word for a class of the family in messages, for example `schedule`.
        field: configuration field that holds the name, for messages; None means `<kind> name`.
        parameter: word for a parameter in messages.
        supplied: constructor arguments that the program supplies; users cannot set them.
        base: base class at which the search for parameters stops; users cannot set its own.

    Attributes:
        classes: the registered classes by name.
        kind: word for a class of the family in messages.
    """

    def __init__(
        self,
        kind: str,
        field: str | None = None,
        parameter: str = "parameter",
        *,
        supplied: Sequence[str] = (),
        base: type = object,
    ) -> None:
        self.classes: dict[str, type[_Base]] = {}
        self.kind = kind
        self._field = field or f"{kind} name"
        self._parameter = parameter
        self._supplied = tuple(supplied)
        self._base = base

    def register(self, cls: _Class) -> _Class:
        """Registers a class under its `name`; a class decorator.

        Raises:
            ConfigError: if it has no name, its name is taken, or an abstract method is missing.
        """
        if not isinstance(getattr(cls, "name", None), str):
            raise ConfigError(
                f"the {self.kind} {cls.__qualname__} has no name; give the class one: "
                f'name = "{cls.__name__.lower()}"'
            )
        self.add(cls.name, cls)
        return cls

    def add(self, name: str, cls: type[Any]) -> None:
        """Registers a class under a name.

        Raises:
            ConfigError: if the name is taken, or an abstract method is missing.
        """
        if inspect.isabstract(cls):
            missing = ", ".join(sorted(cls.__abstractmethods__))
            raise ConfigError(
                f"the {self.kind} {name!r} ({cls.__qualname__}) does not define {missing}; define "
                "it, or do not register this class"
            )
        known = self.classes.get(name, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise ConfigError(
                f"{self._field} {name!r} of {cls.__qualname__} is taken by "
                f"{known.__module__}.{known.__qualname__}; choose another name"
            )
        self.classes[name] = cls

    def available(self) -> list[str]:
        """Returns all registered names, sorted."""
        return sorted(self.classes)

    def parameters_of(self, name: str) -> dict[str, inspect.Parameter]:
        """Returns the parameters of a class by name, including those of its base classes.

        Raises:
            UnknownName: no class has that name.
        """
        if name not in self.classes:
            remedy = nearest(str(name), self.classes)
            raise UnknownName(
                self._field,
                f"= {name!r} is not known{remedy} (import a plug-in with --import to use its "
                "names)",
            )
        return {
            key: parameter
            for key, parameter in constructor_parameters(self.classes[name], self._base).items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and key not in self._supplied
        }

    def find(self, name: str, parameters: Mapping[str, Any], /) -> Callable[..., _Base]:
        """Returns the class that a user chose, for the caller to make with the parameters.

        Args:
            name: a registered name.
            parameters: its parameters by name. Their values are checked by the constructor.

        Raises:
            UnknownName: no class has that name.
            ConfigError: a parameter is not known or missing.
        """
        known = self.parameters_of(name)
        for key in parameters:
            if key not in known:
                remedy = nearest(key, known) or f"; it takes no {self._parameter}s"
                raise ConfigError(f"{self.kind} {name!r} has no {self._parameter} {key!r}{remedy}")
        for key, parameter in known.items():
            if parameter.default is inspect.Parameter.empty and key not in parameters:
                raise ConfigError(
                    f"{self.kind} {name!r} needs the {self._parameter} {key!r}; "
                    f"known: {', '.join(known)}"
                )
        return self.classes[name]

    def number(
        self,
        name: str,
        field: str,
        value: Any,
        *,
        least: float = -math.inf,
        most: float = math.inf,
        above: float = -math.inf,
        below: float = math.inf,
        hint: str = "",
    ) -> float:
        """Checks that a value is a finite number in [least, most] and in (above, below).

        Args:
            name: name of the class, for the message.
            field: name of the parameter.
            value: what the user gave.
            least: smallest value that is accepted.
            most: largest value that is accepted.
            above: the value must be larger than this.
            below: the value must be smaller than this.
            hint: what a right value is, appended to the message.

        Returns:
            The number as a float.

        Raises:
            ConfigError: if the value is not such a number.
        """
        given = f"{self.kind} {name!r}: {field} ="
        if isinstance(value, bool) or not isinstance(value, int | float | np.number):
            raise ConfigError(
                f"{given} {value!r} is not a number; write one, for example 0.5 or 1e-5"
            )
        try:
            finite = math.isfinite(value)
        except OverflowError:  # An integer beyond the range of floats.
            finite = False
        if finite and least <= value <= most and above < value < below:
            return float(value)
        bounds = ((">", above), (">=", least), ("<=", most), ("<", below))
        rules = ["finite", *(f"{sign} {bound:g}" for sign, bound in bounds if math.isfinite(bound))]
        raise ConfigError(f"{given} {value} must be {' and '.join(rules)}{hint and f': {hint}'}")

    def integer(self, name: str, field: str, value: Any, *, least: int, hint: str = "") -> int:
        """Like `number`, for a whole number >= least."""
        result = self.number(name, field, value, least=least, hint=hint)
        if result != int(result):
            raise ConfigError(f"{self.kind} {name!r}: {field} = {value} must be a whole number")
        return int(result)

    def choice(self, name: str, field: str, value: Any, known: Sequence[str]) -> str:
        """Checks that a value is one of the known words; raises ConfigError otherwise."""
        if value not in known:
            raise ConfigError(
                f"{self.kind} {name!r}: {field} = {value!r} is not known"
                f"{nearest(str(value), known)}"
            )
        return value
