"""docs/reference/balancing.md: its snippets are configurations, its example trains."""

import inspect
import re
import runpy
import sys
from pathlib import Path

import keras
import numpy as np
import yaml
from quadratic import direction

from keras_mtl.balancing import available, create, registry
from keras_mtl.configuration import plugins

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/reference/balancing.md").read_text(encoding="utf-8")
CHOICE = (ROOT / "docs/explanation/balancing.md").read_text(encoding="utf-8")
EXTENDING = (ROOT / "docs/how-to/extending.md").read_text(encoding="utf-8")
CONTRACT = ROOT / "tests" / "contracts" / "test_balancing.py"

(LAYER,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SECTION = EXTENDING.split("\n## Balancing methods\n")[1].split("\n## ")[0]
(RECIPE,) = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
(SNIPPET,) = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)


def test_each_method_has_a_snippet_that_can_be_configured():
    named = set()
    for snippet in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL):
        settings = yaml.safe_load(snippet)["trainer"]["balancing"]
        create(settings["name"], 4, **settings.get("parameters", {}))
        named.add(settings["name"])
    assert named == set(available())
    for name in named:
        assert f"### {name}\n" in PAGE
        assert f"| `{name}` |" in CHOICE


def test_the_example_trains_and_keeps_its_state(tmp_path):
    names = {}
    exec(LAYER, names)
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


def test_the_recipe_is_a_plug_in_that_passes_the_contract(tmp_path, monkeypatch):
    monkeypatch.setattr(registry.METHODS, "classes", dict(registry.METHODS.classes))
    monkeypatch.setattr(sys, "path", list(sys.path))
    snippet = yaml.safe_load(SNIPPET)
    (name,) = snippet["imports"]
    (tmp_path / f"{name}.py").write_text(RECIPE)
    plugins.load([f"{tmp_path}/{name}"])
    monkeypatch.delitem(sys.modules, name)
    settings = snippet["trainer"]["balancing"]
    assert settings["name"] in available()
    create(settings["name"], 4, **settings.get("parameters", {}))

    given = {"method": "inverse_loss", "tmp_path": tmp_path, "bad": np.nan}
    tests = 0
    for name, test in runpy.run_path(str(CONTRACT)).items():
        if name.startswith("test_") and "method" in inspect.signature(test).parameters:
            test(**{key: given[key] for key in inspect.signature(test).parameters})
            tests += 1
    assert tests > 10
    # 2 / (1/L_1 + 1/L_2) / L_i = (0.4, 1.6) for losses of 4 and 1.
    found = direction("inverse_loss", [[1.0, 0.0], [0.0, 1.0]], losses=[4.0, 1.0])
    np.testing.assert_allclose(found, [0.4, 1.6], rtol=1e-5)
