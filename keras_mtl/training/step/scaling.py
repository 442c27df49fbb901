"""How the factors of an implicit schedule act: on the learning rate or on the gradient."""

from collections.abc import Mapping

from keras_mtl.errors import ConfigError, nearest
from keras_mtl.schedules.base import APPLICATIONS
from keras_mtl.training.step.optimizers import MOMENTS

#: Drift of one parameter a step, in learning rates, that two tasks pull in opposite directions
#: (gradients ±1 with noise of variance 1, factors 1.5 and .5, each drawn half of the time, Adam
#: with .9 and .999). Plain SGD of the same gradients has -0.354, which is what factors mean.
DRIFT: Mapping[tuple[str, str], float] = {
    ("learning_rate", "shared"): -0.035,
    ("gradient", "shared"): -0.315,
    ("learning_rate", "scaled"): -0.354,
    ("gradient", "scaled"): -0.315,
    ("learning_rate", "per_task"): -0.354,
    ("gradient", "per_task"): 0.0,
}
IDEAL_DRIFT = -0.354
#: A pairing further from the ideal is warned of.
_TOLERANCE = 0.05


def moments_for(application: str) -> str:
    """The moments with which an application has its effect.

    For learning rates that is `scaled` and not `per_task`: drift is the same, but the momentum
    of a task that comes up every N updates is N times as old, which six tasks do not learn by.
    """
    check_choice("application", application, APPLICATIONS)
    return "scaled" if application == "learning_rate" else "shared"


def pairing_warning(application: str, moments: str) -> str | None:
    """What to tell a user whose factors will have little or no effect; None when they have it.

    Args:
        application: one of `APPLICATIONS`.
        moments: one of `keras_mtl.training.step.optimizers.MOMENTS`.
    """
    right = moments_for(application)
    check_choice("moments", moments, MOMENTS)
    if abs(DRIFT[application, moments] - IDEAL_DRIFT) < _TOLERANCE:
        return None
    table = ", ".join(f"{a} with {m} {drift:.3f}" for (a, m), drift in DRIFT.items())
    return (
        f"factors on the {application} have little or no effect with {moments} moments. Measured "
        f"drift of a parameter between two opposed tasks, where {IDEAL_DRIFT} is right: {table}. "
        f"Take {right} moments for it"
    )


def check_choice(field: str, value: str, known: tuple[str, ...]) -> None:
    """Raises ConfigError unless the value of a field is one of those that are known."""
    if value not in known:
        raise ConfigError(
            f"{field} is {value!r}{nearest(str(value), known)}; known: {', '.join(known)}"
        )
