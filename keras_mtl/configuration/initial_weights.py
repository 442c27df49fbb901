"""The sections of a configuration about the first weights of a run."""

import dataclasses


@dataclasses.dataclass(slots=True)
class InitRuleConfig:
    """From which variables of a source the variables of this model take their first weights.

    Attributes:
        match: regular expression for the whole name of variables of this model.
        to: name of the source's variable; `\\1` is the first group of `match`, and `\\g<0>` the
            whole name.
    """

    match: str = ""
    to: str = ""


@dataclasses.dataclass(slots=True)
class InitConfig:
    """A trained model from which a new run takes its first weights.

    Attributes:
        from_: written `from`: a model directory, a checkpoint in one (`runs/a/ckpt-500`), or an
            engine file.
        rules: which variables take which weights; the first rule that matches counts. Variables
            that match no rule take none. Without rules, variables of equal names match.
        exclude: regular expressions for the whole names of variables of this model that take none.
        moments: also take Adam's moments. The source must be a checkpoint of a run, or a model
            directory, whose newest checkpoint is then read.
    """

    from_: str = ""
    rules: list[InitRuleConfig] = dataclasses.field(default_factory=list)
    exclude: list[str] = dataclasses.field(default_factory=list)
    moments: bool = False
