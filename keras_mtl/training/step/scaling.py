"""Applies the factors of an implicit schedule to the learning rate or to the gradient."""

from collections.abc import Mapping

from keras_mtl.errors import ConfigError, nearest
from keras_mtl.schedules.base import APPLICATIONS

# The kinds of Adam's moments: shared by all tasks; shared, with each gradient multiplied by the
# factor of its task in the first moment; or separate for each task.
MOMENTS = ("shared", "scaled", "per_task")
# The drift per step, in learning rates, of a parameter that two tasks pull in opposite directions
# (gradients ±1 with noise of variance 1, factors 1.5 and 0.5, each task in half of the updates,
# Adam with 0.9 and 0.999). The ideal is the drift of plain SGD with the same gradients.
DRIFT: Mapping[tuple[str, str], float] = {
    ("learning_rate", "shared"): -0.035,
    ("gradient", "shared"): -0.315,
    ("learning_rate", "scaled"): -0.354,
    ("gradient", "scaled"): -0.315,
    ("learning_rate", "per_task"): -0.354,
    ("gradient", "per_task"): 0.0,
}
IDEAL_DRIFT = -0.354
# Combinations that differ more from the ideal cause a warning.
_TOLERANCE = 0.05


def moments_for(application: str) -> str:
    """Returns the kind of moments with which an application is effective.

    For learning rates this is `scaled`, not `per_task`. The drift is the same, but with `per_task`
    the momentum of a task that is drawn every N updates is N times as old, and with six tasks
    training fails to learn.
    """
    check_choice("application", application, APPLICATIONS)
    return "scaled" if application == "learning_rate" else "shared"


def pairing_warning(application: str, moments: str) -> str | None:
    """Returns a warning if factors have little or no effect, else None.

    Args:
        application: one of `APPLICATIONS`.
        moments: one of `MOMENTS`.
    """
    right = moments_for(application)
    check_choice("moments", moments, MOMENTS)
    if abs(DRIFT[application, moments] - IDEAL_DRIFT) < _TOLERANCE:
        return None
    table = ", ".join(f"{a} with {m} {drift:.3f}" for (a, m), drift in DRIFT.items())
    return (
        f"factors on the {application} have little or no effect with {moments} moments. Measured "
        f"drift of a parameter between two opposing tasks (ideal: {IDEAL_DRIFT}): {table}. "
        f"Use {right} moments with {application}"
    )


def check_choice(field: str, value: str, known: tuple[str, ...]) -> None:
    """Raises ConfigError if the value of a field is not one of the known ones."""
    if value not in known:
        raise ConfigError(
            f"{field} is {value!r}{nearest(str(value), known)}; known: {', '.join(known)}"
        )
