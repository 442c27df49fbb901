"""Checks of the kinds of tasks, of their noise, and of subword sampling."""

from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.other_tasks import (
    DENOISING,
    KINDS,
    NOISES,
    SIDES,
    UNITS,
    WORDS,
    NoiseConfig,
)


def check(draft: Draft) -> None:
    """Adds to a draft what is wrong with the kinds of tasks, their noise, and sampling."""
    sampling = "task.data.subword_sampling"
    draft.choice(f"{sampling}.side", SIDES)
    draft.range(f"{sampling}.alpha", 0, low_open=True)
    draft.range(f"{sampling}.dropout", 0, 1, high_open=True)
    draft.range(f"{sampling}.growth", 0)
    for index, pair in enumerate(draft.config.task.pairs):
        path = f"task.pairs[{index}]"
        draft.choice(f"{path}.kind", KINDS)
        if pair.kind != DENOISING:
            if pair.noise != NoiseConfig():
                draft.problem(
                    f"{path}.noise",
                    f"is set, but the kind of task {pair.name!r} is {pair.kind!r}; set kind: "
                    "denoising, or remove it",
                )
            continue
        _check_noise(draft, f"{path}.noise", pair.noise)


def _check_noise(draft: Draft, path: str, noise: NoiseConfig) -> None:
    draft.choice(f"{path}.method", NOISES)
    draft.choice(f"{path}.unit", UNITS)
    draft.range(f"{path}.drop", 0, 1, high_open=True)
    draft.range(f"{path}.blank", 0, 1, high_open=True)
    draft.range(f"{path}.shuffle", 0)
    draft.range(f"{path}.span", 0, 1, low_open=True)
    if noise.method == WORDS and not (noise.drop or noise.blank or noise.shuffle):
        draft.problem(
            path, "drops, blanks and shuffles nothing, so the task would copy; set one above 0"
        )
