"""A family of classes by name: who is let in, which parameters are known, what messages say."""

import abc
import re

import pytest

from keras_mtl.configuration.components import Family
from keras_mtl.errors import ConfigError


class Base:
    name = ""

    def __init__(self, size, *, floor=0.0):
        self.size, self.floor = size, floor


class Steep(Base):
    name = "steep"

    def __init__(self, size, *, slope, **shared):
        super().__init__(size, **shared)
        self.slope = slope


@pytest.fixture
def hills():
    family = Family("hill", field="land.hill", parameter="option")
    for cls in (Base, Steep):
        family.register(cls)
    return family


def test_a_name_belongs_to_one_class(hills):
    other = type("Other", (), {"name": "steep"})
    expected = r"land.hill 'steep' of Other is taken by .*\.Steep; choose another name"
    with pytest.raises(ConfigError, match=expected):
        hills.register(other)
    assert hills.register(Steep) is Steep  # a module that is loaded again
    assert hills.available() == ["", "steep"]


def test_a_class_without_a_name_or_a_method_is_refused(hills):
    with pytest.raises(ConfigError, match=r'the hill Flat has no name; .*: name = "flat"'):
        hills.register(type("Flat", (), {}))
    parts = {"name": "open", "climb": abc.abstractmethod(lambda self: None)}
    with pytest.raises(
        ConfigError, match=r"the hill 'open' \(Open\) does not define climb; define it"
    ):
        hills.register(abc.ABCMeta("Open", (), parts))


def test_parameters_of_base_classes_are_known(hills):
    assert list(hills.parameters_of("steep")) == ["slope", "floor"]
    made = hills.find("steep", {"slope": 2, "floor": 0.5})(3, slope=2, floor=0.5)
    assert (made.size, made.slope, made.floor) == (3, 2, 0.5)


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("step", {}, "land.hill = 'step' is not known; did you mean 'steep'? (import a plug-in"),
        ("steep", {"slpe": 1}, "hill 'steep' has no option 'slpe'; did you mean 'slope'?"),
        ("steep", {"floor": 1}, "hill 'steep' needs the option 'slope'; known: slope, floor"),
    ],
)
def test_messages_name_the_field_and_the_remedy(hills, name, parameters, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        hills.find(name, parameters)


@pytest.mark.parametrize(
    ("value", "limits", "message"),
    [
        ("1e-5", {}, "hill 'steep': slope = '1e-5' is not a number; write one, for example 0.5"),
        (True, {}, "slope = True is not a number"),
        (float("nan"), {}, "slope = nan must be finite"),
        (2, {"least": 0, "below": 1}, "slope = 2 must be finite and >= 0 and < 1"),
        (-1, {"above": 0, "most": 9, "hint": "up"}, "-1 must be finite and > 0 and <= 9: up"),
    ],
)
def test_numbers_out_of_range(hills, value, limits, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        hills.number("steep", "slope", value, **limits)
