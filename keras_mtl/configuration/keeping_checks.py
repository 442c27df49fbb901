"""Checks of the sections that decide when training stops early and which weights are kept."""

from keras_mtl import errors
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.keeping import MACRO, WORST
from keras_mtl.configuration.schema import task_name


def check(draft: Draft) -> None:
    """Adds the problems of `trainer.best`, `trainer.stopping` and `checkpoint_minutes`."""
    trainer = draft.config.trainer
    draft.range("trainer.checkpoint_minutes", 0)
    draft.range("trainer.best.macro", 1)
    for name in ("worst", "tasks"):
        draft.range(f"trainer.best.{name}", 0)
    for name in ("patience", "min_delta", "min_steps"):
        draft.range(f"trainer.stopping.{name}", 0)
    score = trainer.stopping.score
    tasks = [task_name(pair) for pair in draft.config.task.pairs]
    if trainer.evaluation.tasks:
        tasks = [name for name in tasks if name in trainer.evaluation.tasks]
    if score not in (MACRO, WORST, *tasks):
        draft.problem(
            "trainer.stopping.score",
            f"= {score!r} is neither {MACRO} nor {WORST} nor a validated task"
            f"{errors.nearest_task(score, tasks)}",
        )
    if trainer.stopping.patience > 0 and trainer.evaluation.interval == 0:
        draft.problem(
            "trainer.stopping.patience",
            f"= {trainer.stopping.patience}: trainer.evaluation.interval = 0 validates only at the "
            "end of training. Set an interval, or set the patience to 0",
        )
