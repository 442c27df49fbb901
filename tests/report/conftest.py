"""Charts are laid out only in tests that look at them, because layout takes half of their time."""

import pytest

from keras_mtl.figures import charts


@pytest.fixture(autouse=True)
def without_layout(request, monkeypatch):
    if request.node.get_closest_marker("layout"):
        return
    make = charts.new_figure

    def new_figure(width, height):
        figure = make(width, height)
        figure.set_layout_engine("none")
        return figure

    monkeypatch.setattr(charts, "new_figure", new_figure)
