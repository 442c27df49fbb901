"""keras_mtl: one Keras model for many tasks, with adaptive schedules and a fast CPU engine.

The public API is the list `__all__`: the documentation describes these names, and later releases
keep them. Each name is imported when it is first used, so `import keras_mtl` takes milliseconds and
loads neither TensorFlow nor Keras.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# The module that defines each public name. `__all__`, `dir` and the tests are derived from this
# table. The block under `TYPE_CHECKING` repeats it for editors and mypy; a test compares the two.
_DEFINED_IN = {
    # From a configuration to an exported model.
    "load_config": "api",
    "prepare": "api",
    "train": "api",
    "evaluate": "evaluation.evaluate",
    "EvaluationSettings": "evaluation.settings",
    "average_checkpoints": "api",
    "export_model": "api",
    "plot_run": "figures.run",
    # Schedules and mixtures, for any Keras model.
    "TaskInfo": "schedules",
    "Schedule": "schedules",
    "ScoreBook": "schedules",
    "Mixture": "data.mixture",
    "ArraySource": "data.task_sources",
    "Bucket": "data.batch_plan",
    "TaskScheduling": "training.fit.callbacks",
    "TaskEvaluation": "training.fit.task_evaluation",
    "EventLog": "training.run.event_log",
    "warm_start": "training.fit.warm_start",
    "Adam": "training.step.optimizers",
    "Balancing": "balancing",
    "ScheduleTaskSampler": "garden",
    # Models and inference.
    "Transformer": "models",
    "RNMT": "models",
    "QuantizedDense": "layers",
    "beam_search": "decoding.beam_search",
    "native_beam_search": "decoding.native_beam_search",
    "op_beam_search": "decoding.op_beam_search",
    "BeamOptions": "decoding",
    "load_translator": "decoding.translators",
    "load_scorer": "decoding.translators",
    "Translator": "decoding.translator",
    "Engine": "engine",
    "Hypothesis": "engine",
    "load_ops": "engine",
    "KerasMtlError": "errors",
}
# Public packages and modules, each with its own documented list of names.
_NAMESPACES = (
    "balancing",
    "errors",
    "garden",
    "layers",
    "metrics",
    "proposal",
    "schedules",
    "simulation",
)

__all__ = ["__version__", *_DEFINED_IN, *_NAMESPACES]

if TYPE_CHECKING:
    from keras_mtl import balancing as balancing
    from keras_mtl import errors as errors
    from keras_mtl import garden as garden
    from keras_mtl import layers as layers
    from keras_mtl import metrics as metrics
    from keras_mtl import proposal as proposal
    from keras_mtl import schedules as schedules
    from keras_mtl import simulation as simulation
    from keras_mtl.api import average_checkpoints as average_checkpoints
    from keras_mtl.api import export_model as export_model
    from keras_mtl.api import load_config as load_config
    from keras_mtl.api import prepare as prepare
    from keras_mtl.api import train as train
    from keras_mtl.balancing import Balancing as Balancing
    from keras_mtl.data.batch_plan import Bucket as Bucket
    from keras_mtl.data.mixture import Mixture as Mixture
    from keras_mtl.data.task_sources import ArraySource as ArraySource
    from keras_mtl.decoding import BeamOptions as BeamOptions
    from keras_mtl.decoding.beam_search import beam_search as beam_search
    from keras_mtl.decoding.native_beam_search import native_beam_search as native_beam_search
    from keras_mtl.decoding.op_beam_search import op_beam_search as op_beam_search
    from keras_mtl.decoding.translator import Translator as Translator
    from keras_mtl.decoding.translators import load_scorer as load_scorer
    from keras_mtl.decoding.translators import load_translator as load_translator
    from keras_mtl.engine import Engine as Engine
    from keras_mtl.engine import Hypothesis as Hypothesis
    from keras_mtl.engine import load_ops as load_ops
    from keras_mtl.errors import KerasMtlError as KerasMtlError
    from keras_mtl.evaluation.evaluate import evaluate as evaluate
    from keras_mtl.evaluation.settings import EvaluationSettings as EvaluationSettings
    from keras_mtl.figures.run import plot_run as plot_run
    from keras_mtl.garden import ScheduleTaskSampler as ScheduleTaskSampler
    from keras_mtl.layers import QuantizedDense as QuantizedDense
    from keras_mtl.models import RNMT as RNMT
    from keras_mtl.models import Transformer as Transformer
    from keras_mtl.schedules import Schedule as Schedule
    from keras_mtl.schedules import ScoreBook as ScoreBook
    from keras_mtl.schedules import TaskInfo as TaskInfo
    from keras_mtl.training.fit.callbacks import TaskScheduling as TaskScheduling
    from keras_mtl.training.fit.task_evaluation import TaskEvaluation as TaskEvaluation
    from keras_mtl.training.fit.warm_start import warm_start as warm_start
    from keras_mtl.training.run.event_log import EventLog as EventLog
    from keras_mtl.training.step.optimizers import Adam as Adam


def __getattr__(name: str) -> Any:
    """Imports a public name when it is first used (PEP 562)."""
    if name in _DEFINED_IN:
        value = getattr(importlib.import_module(f"{__name__}.{_DEFINED_IN[name]}"), name)
    elif name in _NAMESPACES:
        return importlib.import_module(f"{__name__}.{name}")
    elif name.startswith("_"):  # Names that Python and tools look up in every module.
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    else:
        nearest = importlib.import_module(f"{__name__}.errors").nearest
        raise AttributeError(
            f"module {__name__!r} has no attribute {name!r}{nearest(name, __all__)}"
        )
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
