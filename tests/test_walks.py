"""How far a value travels: the modules that are given it, and that none hands it to a later room.

A walk is recorded with `sys.setprofile`: each call of a function of ours that is given the value
directly, in a list or in a mapping. An object that holds the value somewhere deep inside does not
count until a function takes the value out and hands it on.
"""

import argparse
import functools
import io
import sys
from collections.abc import Callable, Mapping
from types import FrameType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from keras_mtl.configuration.schema import ScheduleConfig
from keras_mtl.engine import Hypothesis
from keras_mtl.schedules import PlannedSchedule, Temperature
from tests.test_import_rules import rank

_OURS = "keras_mtl."


class Walk:
    """Records which modules are given a value, while it is entered.

    Args:
      is_it: whether an object is the value, or a form of it.
    """

    def __init__(self, is_it: Callable[[Any], bool]) -> None:
        self._is_it = is_it
        self.modules: list[str] = []  # In the order of the first visit.
        self.climbs: list[str] = []  # Calls that hand the value to a later room.

    def __enter__(self) -> "Walk":
        sys.setprofile(self._event)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _event(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not self._is_given(frame):
            return
        name = _module(frame)
        if name not in self.modules:
            self.modules.append(name)
        giver = frame.f_back
        while giver is not None and not self._is_given(giver):
            giver = giver.f_back
        if giver is not None and rank(name) > rank(_module(giver)):
            self.climbs.append(f"{_module(giver)} -> {name}")

    def _is_given(self, frame: FrameType) -> bool:
        if not frame.f_globals.get("__name__", "").startswith(_OURS):
            return False
        code = frame.f_code
        count = code.co_argcount + code.co_kwonlyargcount
        count += bool(code.co_flags & 4) + bool(code.co_flags & 8)  # *args, **kwargs
        given = (frame.f_locals.get(name) for name in code.co_varnames[:count])
        return any(self._holds(each) for each in given)

    def _holds(self, value: Any) -> bool:
        if self._is_it(value):
            return True
        if isinstance(value, argparse.Namespace):
            value = vars(value)
        if isinstance(value, Mapping):
            value = list(value.values())
        return isinstance(value, list | tuple) and any(map(self._holds, value))


def _module(frame: FrameType) -> str:
    return frame.f_globals["__name__"].removeprefix(_OURS)


class Found(Exception):
    """The schedule is made; what follows is not a part of the walk."""


def test_a_field_of_the_schedule_from_the_command_line_to_its_constructor(tmp_path, monkeypatch):
    from keras_mtl.cli import train
    from keras_mtl.training.run import loop, parts

    parameter = 4.0625
    made = []

    def is_it(value):
        if isinstance(value, str):
            return str(parameter) in value
        if isinstance(value, ScheduleConfig | PlannedSchedule):
            return parameter in getattr(value, "parameters", {}).values()
        return isinstance(value, float) and value == parameter

    constructor = Temperature.__init__

    @functools.wraps(constructor)
    def constructed(self, tasks, **parameters):
        made.append([task.size for task in tasks])
        constructor(self, tasks, **parameters)

    def found(*_: object) -> None:
        raise Found

    monkeypatch.setattr(Temperature, "__init__", constructed)
    prepared = SimpleNamespace(tasks=[SimpleNamespace(name="en-fr", train_size=900)])
    monkeypatch.setattr(
        loop, "configure_runtime", lambda *_: SimpleNamespace(num_replicas_in_sync=1)
    )
    monkeypatch.setattr(loop, "compiles_with_xla", lambda _: False)
    monkeypatch.setattr(loop, "_fingerprint", lambda _: {})
    monkeypatch.setattr(loop.devices, "describe", lambda *_: [])
    monkeypatch.setattr(loop, "prepare_task_data", lambda *_, **__: prepared)
    monkeypatch.setattr(parts.building, "build_mixture", found)
    params = (
        "task.pairs=[{source: en, target: fr, corpora: [{reader: cldr, options: {pairs: 9}}]}],"
        f"trainer.schedule.name=temperature,trainer.schedule.parameters.temperature={parameter}"
    )
    args = argparse.Namespace(
        experiment=None,
        config_file=[],
        params_override=[params],
        model_dir=str(tmp_path),
        mode="train_and_eval",
        imports=[],
    )
    with pytest.raises(Found), Walk(is_it) as walk:
        train.run(args)
    assert made == [[1], [900]]  # The trial, when the plan is made, and the schedule.
    assert len(walk.modules) <= 12, "\n".join(walk.modules)
    assert walk.climbs == []


def test_a_sentence_from_the_command_line_to_the_engine_and_back(
    copy_trained_model, tmp_path, monkeypatch, capsysbinary
):
    from keras_mtl.cli import translate
    from keras_mtl.cli.main import _parser
    from keras_mtl.data.vocabulary import Vocabulary
    from keras_mtl.export.model_dir import export_weights

    model_dir = copy_trained_model(tmp_path / "model")
    engine_file = export_weights("engine", model_dir, tmp_path / "model.kmtl")
    sentence = "nineteen kilometers and two hours"
    ids = Vocabulary.load(model_dir / "vocabulary.model").encode_batch([sentence])[0]
    assert len(ids) > 2

    def is_it(value):
        if isinstance(value, str):
            return sentence in value
        if isinstance(value, bytes):
            return sentence.encode() in value
        if isinstance(value, np.ndarray) and value.dtype.kind == "i":
            value = value.ravel().tolist()
        if isinstance(value, list) and all(isinstance(each, int) for each in value):
            return any(value[i : i + len(ids)] == ids for i in range(len(value)))
        return isinstance(value, Hypothesis)  # On the way back.

    words = ["translate", "--model", str(engine_file), "--task", "en-fr", "--output", "jsonl"]
    _, parser = _parser(words)
    args = parser.parse_args(words)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(f"{sentence}\n".encode())))
    with Walk(is_it) as walk:
        assert translate.run(args) == 0
    assert sentence.encode() in capsysbinary.readouterr().out
    assert len(walk.modules) <= 10, walk.modules
    assert {"cli.translate", "decoding.text_translator", "engine.engine"} <= set(walk.modules)
    assert walk.climbs == []
