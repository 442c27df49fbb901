"""SavedModels that hold QuantizedMatMul and BeamSearch, in a fresh process: the same bits."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_mtl import layers
from keras_mtl.decoding.op_beam_search import op_beam_search
from keras_mtl.decoding.options import BeamOptions

V, WIDTH, BATCH = 40, 70, 5
OPTIONS = BeamOptions(beam_size=3, num_hypotheses=2, max_length=8, no_repeat_ngram=2)

# What a user's serving process does: nothing of keras_mtl but the operations.
SERVE = """
import json, sys
import numpy as np
import tensorflow as tf
missing = {}
for path in sys.argv[1:]:
    try:
        tf.saved_model.load(path)
        missing[path] = ""
    except (RuntimeError, tf.errors.OpError) as error:
        missing[path] = str(error)
from keras_mtl.engine import load_ops
load_ops()
for path in sys.argv[1:]:
    loaded = tf.saved_model.load(path)
    signature = loaded.signatures["serving_default"]
    name, = signature.structured_input_signature[1]
    found = signature(**{name: tf.constant(np.load(f"{path}/inputs.npy"))})
    np.savez(f"{path}/outputs.npz", **{name: tensor.numpy() for name, tensor in found.items()})
light = ("engine", "engine.library", "engine.ops", "errors")
heavy = {name for name in sys.modules if name.startswith("keras_mtl.")}
heavy = sorted(heavy - {f"keras_mtl.{name}" for name in light})
print("RESULT" + json.dumps({"missing": missing, "heavy": heavy}))
"""


def quantized(units, features, seed, **options):
    layer = layers.QuantizedDense(
        units,
        kernel_initializer=keras.initializers.GlorotUniform(seed),
        bias_initializer=keras.initializers.RandomNormal(seed=seed),
        **options,
    )
    layer.build((None, features))
    return layer


def quantized_model(backend):
    return keras.Sequential(
        [
            keras.Input([WIDTH]),
            quantized(65, WIDTH, 1, activation="relu", backend=backend),
            quantized(V, 65, 2, backend=backend),
        ]
    )


def operations(path):
    """Names of keras_mtl's operations in the graph of a SavedModel."""
    data = (path / "saved_model.pb").read_bytes()
    names = ("QuantizedMatMul", "BeamSearch", "BeamSearchStep", "BeamSearchResult")
    # A node of the graph, not the name of a layer: the op's full name and its length before it.
    return {n for n in names if bytes([len(n) + 9]) + b"KerasMtl>" + n.encode() in data}


@pytest.mark.nightly  # docs/how-to/tensorflow_ops.md saves them, too.
def test_quantized_layers(served):
    """Also with `backend="tf"`, which needs no operations and gives the same bits."""
    outputs = {}
    for backend in ("native", "tf"):
        path = served.paths[backend]
        assert operations(path) == ({"QuantizedMatMul"} if backend == "native" else set())
        missing, found = served.found(backend)
        assert ("KerasMtl>QuantizedMatMul" in missing) == (backend == "native")
        (outputs[backend],) = found.values()
        eager = np.array(served.models[backend](served.inputs[backend]))
        assert np.isnan(eager[3]).all()
        np.testing.assert_array_equal(outputs[backend], eager)
    rows = np.delete(np.arange(9), 3)
    ours, theirs = (outputs[backend][rows].view(np.int32) for backend in ("native", "tf"))
    np.testing.assert_array_equal(ours, theirs)


class Generator(tf.Module):
    """A recurrent model: state and token are mixed by a quantized layer, a second one scores."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(3)
        self.embeddings = tf.Variable(rng.normal(size=(V, WIDTH)).astype(np.float32))
        self.mix = quantized(WIDTH, 2 * WIDTH, 4, activation="relu", backend="native")
        self.score = quantized(V, WIDTH, 5, backend="native")
        # A tf.Module does not track the variables of a Keras layer.
        self.kept = [v.value for layer in (self.mix, self.score) for v in layer.variables]

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None, WIDTH], tf.float32)])
    def __call__(self, start):
        def step(rows, state):
            token = tf.gather(self.embeddings, rows.token)
            hidden = self.mix(tf.concat([state["hidden"], token], axis=1))
            return self.score(hidden), {"hidden": hidden}

        found = op_beam_search(step, {"hidden": start}, tf.shape(start)[0], V, OPTIONS)
        return found._asdict()


class Served:
    """SavedModels by name, and what one fresh process that serves all of them said and gave."""

    def __init__(self, directory, run_python):
        self.models = {name: quantized_model(name) for name in ("native", "tf")}
        self.models["search"] = Generator()
        rows = np.random.default_rng(2).normal(size=(9, WIDTH)).astype(np.float32)
        rows[3, 5] = np.nan
        start = np.random.default_rng(6).normal(size=(BATCH, WIDTH)).astype(np.float32)
        self.inputs = {"native": rows, "tf": rows, "search": start}
        self.paths = {name: directory / name for name in self.models}
        for name, model in self.models.items():
            if isinstance(model, keras.Model):
                model.export(self.paths[name], verbose=False)
            else:
                tf.saved_model.save(model, str(self.paths[name]), signatures=model.__call__)
            np.save(self.paths[name] / "inputs.npy", self.inputs[name])
        done = run_python(SERVE, *map(str, self.paths.values()))
        assert done.returncode == 0, done.stderr[-3000:]
        self.said = json.loads(done.stdout.split("RESULT")[1])

    def found(self, name):
        """Returns the error of loading without the operations, and the outputs with them."""
        with np.load(self.paths[name] / "outputs.npz") as file:
            return self.said["missing"][str(self.paths[name])], dict(file)


@pytest.fixture(scope="module")
def served(run_python, tmp_path_factory):
    return Served(tmp_path_factory.mktemp("served"), run_python)


def test_serving_imports_only_the_operations(served):
    assert served.said["heavy"] == []


def test_a_beam_search_over_quantized_layers(served):
    path, model, start = (part["search"] for part in (served.paths, served.models, served.inputs))
    every = {"QuantizedMatMul", "BeamSearch", "BeamSearchStep", "BeamSearchResult"}
    assert operations(path) == every
    missing, found = served.found("search")
    assert "KerasMtl>" in missing
    expected = {name: tensor.numpy() for name, tensor in model(start).items()}
    assert expected["lengths"].max() > 1
    assert len({row.tobytes() for row in expected["ids"][:, 0]}) > 1
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    # No sentence at all.
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert signature(start=tf.constant(start[:0]))["ids"].shape == (0, 2, 8)
