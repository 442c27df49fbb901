"""Whether the parts of a mixture fit each other."""

from collections.abc import Sequence

import numpy as np

from keras_mtl.data.task_sources import ExampleSpec, TaskSource
from keras_mtl.errors import ConfigError, nearest

GRANULARITIES = ("batch", "example")
#: Elements that `Mixture.dataset` adds to the arrays of a batch.
RESERVED_NAMES = ("task", "weight", "step")


def check_tasks(names: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """Raises ConfigError unless the sources are the schedule's tasks, in its order."""
    if len(names) != len(expected) or len(set(names)) != len(names):
        raise ConfigError(
            f"the mixture has tasks {list(names)}, but its schedule has {len(expected)} tasks; "
            "give both the same tasks, at least one, with unique names"
        )
    if names != expected:
        raise ConfigError(
            f"the mixture has tasks {list(names)}, but its schedule has {list(expected)}; give "
            "both the same names in the same order"
        )


def check_choice(field: str, value: str, known: Sequence[str]) -> None:
    """Raises ConfigError unless the value of an argument is one of the known words."""
    if value not in known:
        raise ConfigError(f"{field} = {value!r} is unknown{nearest(str(value), known)}")


def common_spec(sources: Sequence[TaskSource]) -> ExampleSpec:
    """Returns dtype and shape of each array of any source.

    Raises:
        ConfigError: arrays of two sources have the same name and other dtypes or shapes, or a name
            is reserved.
    """
    spec: ExampleSpec = {}
    owners: dict[str, str] = {}
    for source in sources:
        for name, (dtype, shape) in source.spec.items():
            known_dtype, known_shape = spec.setdefault(name, (dtype, shape))
            owner = owners.setdefault(name, source.name)
            if (dtype, shape) != (known_dtype, known_shape):
                raise ConfigError(
                    f"array {name!r} of task {source.name!r} is {dtype}{list(shape)}, but that of "
                    f"task {owner!r} is {known_dtype}{list(known_shape)}; give arrays of other "
                    "dtypes or shapes other names"
                )
    clash = sorted(set(RESERVED_NAMES) & set(spec))
    if clash:
        raise ConfigError(
            f"an array has the name {clash[0]!r}, which the mixture itself uses; rename the array"
        )
    return spec


def check_max_epochs(names: Sequence[str], first: np.ndarray, limits: np.ndarray) -> None:
    """Checks that the first batch of each task does not exceed its passes.

    Args:
        names: names of the tasks.
        first: float64[N], passes that the first batch of each task may hold.
        limits: float64[N], largest numbers of passes.

    Raises:
        ConfigError: a batch holds more passes over a task's data than its limit.
    """
    for name, passes, limit in zip(names, first, limits, strict=True):
        if passes > limit * (1 + 1e-9):
            raise ConfigError(
                f"task {name!r}: max_epochs = {limit:g}, but a single batch may hold {passes:.3g} "
                "passes over its data. Raise max_epochs, or set task.data.granularity: example"
            )
