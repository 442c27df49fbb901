"""Checks of which tasks share which stacks: `task.model.stacks`."""

from keras_mtl.configuration.adapter_checks import check_groups
from keras_mtl.configuration.draft import Draft
from keras_mtl.configuration.stack_sharing import (
    ALL,
    BY_STACK,
    DECIDING,
    StacksConfig,
    copies_of_stacks,
    stack_names,
)


def check(draft: Draft) -> None:
    """Adds to a draft what is wrong with `task.model.stacks`; the tasks must be named."""
    model = draft.config.task.model
    if model.sharing != BY_STACK:
        if model.stacks != StacksConfig():
            draft.problem(
                "task.model.stacks",
                f"is set, but task.model.sharing = {model.sharing!r}; set sharing: by_stack, or "
                "remove it",
            )
        return
    valid = [_check_stack(draft, name) for name in StacksConfig.__dataclass_fields__]
    if not all(valid):
        return
    copies = copies_of_stacks(model, draft.config.task.pairs)
    if copies and draft.config.task.data.granularity == "example":
        draft.problem(
            "task.model.sharing",
            f"= 'by_stack' has copies of {' and '.join(copies)}, so each batch must be of one "
            "task; set task.data.granularity: batch",
        )


def _check_stack(draft: Draft, name: str) -> bool:
    """Checks a stack. Returns whether its copies are known."""
    model = draft.config.task.model
    path = f"task.model.stacks.{name}"
    settings = getattr(model.stacks, name)
    draft.choice(f"{path}.per", DECIDING)
    if settings.per not in DECIDING:
        return False
    if settings.per == ALL:
        if settings.groups:
            draft.problem(
                f"{path}.groups",
                "is set, but per: all has one copy for all tasks; set per: source, target or task",
            )
        return not settings.groups
    if name not in stack_names(model):
        known = ", ".join(stack_names(model))
        tied = "true" if model.tie_embeddings else "false"
        projection = " and tie_projection = true" if model.tie_projection else ""
        draft.problem(
            path,
            f"= per {settings.per}: with task.model.tie_embeddings = {tied}{projection}, the "
            f"stacks are {known}",
        )
        return False
    return check_groups(draft, path, settings, "copy", of_all=True)
