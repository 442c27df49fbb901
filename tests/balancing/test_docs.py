"""docs/balancing.md: its snippets are configurations, its example trains."""

import re
from pathlib import Path

import keras
import numpy as np
import yaml

from keras_mtl.balancing import available, create

PAGE = (Path(__file__).parents[2] / "docs" / "balancing.md").read_text(encoding="utf-8")


def test_each_method_has_a_snippet_that_can_be_configured():
    named = set()
    for snippet in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        settings = yaml.safe_load(snippet)["trainer"]["balancing"]
        create(settings["name"], 4, **settings.get("parameters", {}))
        named.add(settings["name"])
    assert named == set(available())
    for name in named:
        assert f"### {name}\n" in PAGE
        assert f"| `{name}` |" in PAGE


def test_the_example_trains_and_keeps_its_state(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    names = {}
    exec(code, names)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 3)).astype(np.float32)
    y = (x[:, :1] + x[:, 1:2], 3 * x[:, :1] - x[:, 2:])
    model = names["TwoTasks"]("gradvac")
    model.compile(keras.optimizers.Adam(0.02))
    history = model.fit(x, y, batch_size=16, epochs=8, verbose=0).history
    for loss in ("first", "second"):
        assert history[loss][-1] < 0.5 * history[loss][0]
    state = model.balancing.state_dict()
    assert state["step"] == 32
    assert state["cosines"][0, 1] != 0
    model.save_weights(tmp_path / "model.weights.h5")
    again = names["TwoTasks"]("gradvac")
    again.build((None, 3))
    again.load_weights(tmp_path / "model.weights.h5")
    for name, value in again.balancing.state_dict().items():
        np.testing.assert_array_equal(value, state[name], err_msg=name)
