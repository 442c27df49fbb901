"""Checks of the fields that say what follows from the scores of validations."""

from keras_mtl import errors
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.keeping import MACRO, WORST, PlateauConfig, StoppingConfig
from keras_mtl.configuration.schema import task_name


def check(draft: Draft) -> None:
    """Adds the problems of what follows from scores, and of `checkpoint_minutes`."""
    trainer = draft.config.trainer
    draft.range("trainer.checkpoint_minutes", 0)
    draft.range("trainer.best.macro", 1)
    for name in ("worst", "tasks"):
        draft.range(f"trainer.best.{name}", 0)
    for name in ("patience", "min_delta", "min_steps"):
        draft.range(f"trainer.stopping.{name}", 0)
    plateau = trainer.optimizer.plateau
    draft.range("trainer.optimizer.plateau.factor", 0, 1, low_open=True, high_open=True)
    draft.range("trainer.optimizer.plateau.min_factor", 0, 1)
    for name in ("patience", "min_delta"):
        draft.range(f"trainer.optimizer.plateau.{name}", 0)
    for index, pair in enumerate(draft.config.task.pairs):
        if task_name(pair) in (MACRO, WORST):
            draft.problem(
                f"task.pairs[{index}].name",
                f"= {task_name(pair)!r} means a score of all tasks, in trainer.stopping.score and "
                "in best/; choose another name",
            )
    _check_score(draft, "trainer.stopping", trainer.stopping)
    _check_score(draft, "trainer.optimizer.plateau", plateau)
    _check_interval(draft, "trainer.schedule.overfit_patience", trainer.schedule.overfit_patience)


def _check_score(draft: Draft, path: str, section: StoppingConfig | PlateauConfig) -> None:
    evaluation = draft.config.trainer.evaluation
    tasks = [task_name(pair) for pair in draft.config.task.pairs]
    if evaluation.tasks:
        tasks = [name for name in tasks if name in evaluation.tasks]
    if section.score not in (MACRO, WORST, *tasks):
        draft.problem(
            f"{path}.score",
            f"= {section.score!r} is neither {MACRO} nor {WORST} nor a validated task"
            f"{errors.nearest_task(section.score, tasks)}",
        )
    _check_interval(draft, f"{path}.patience", section.patience)


def _check_interval(draft: Draft, path: str, patience: int) -> None:
    """Adds a problem if a field counts validations, and there are none during training."""
    if patience > 0 and draft.config.trainer.evaluation.interval == 0:
        draft.problem(
            path,
            f"= {patience}: trainer.evaluation.interval = 0 validates only at the end of "
            "training. Set an interval, or set the patience to 0",
        )
