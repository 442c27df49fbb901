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
path, inputs, output = sys.argv[1:]
try:
    tf.saved_model.load(path)
    missing = ""
except (RuntimeError, tf.errors.OpError) as error:
    missing = str(error)
from keras_mtl.engine import load_ops
load_ops()
loaded = tf.saved_model.load(path)
signature = loaded.signatures["serving_default"]
name, = signature.structured_input_signature[1]
found = signature(**{name: tf.constant(np.load(inputs))})
np.savez(output, **{name: tensor.numpy() for name, tensor in found.items()})
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


@pytest.fixture
def serve(run_python, tmp_path):
    """Loads a SavedModel in a fresh process; returns what it said and its outputs."""

    def run(path, inputs):
        np.save(tmp_path / "inputs.npy", inputs)
        files = tmp_path / "inputs.npy", tmp_path / "outputs.npz"
        done = run_python(SERVE, str(path), *map(str, files))
        assert done.returncode == 0, done.stderr[-3000:]
        with np.load(files[1]) as file:
            return json.loads(done.stdout.split("RESULT")[1]), dict(file)

    return run


def operations(path):
    """Names of keras_mtl's operations in the graph of a SavedModel."""
    data = (path / "saved_model.pb").read_bytes()
    names = ("QuantizedMatMul", "BeamSearch", "BeamSearchStep", "BeamSearchResult")
    # A node of the graph, not the name of a layer: the op's full name and its length before it.
    return {n for n in names if bytes([len(n) + 9]) + b"KerasMtl>" + n.encode() in data}


def test_quantized_layers(serve, tmp_path):
    """Also with `backend="tf"`, which needs no operations and gives the same bits."""
    x = np.random.default_rng(2).normal(size=(9, WIDTH)).astype(np.float32)
    x[3, 5] = np.nan
    outputs = {}
    for backend in ("native", "tf"):
        model = keras.Sequential(
            [
                keras.Input([WIDTH]),
                quantized(65, WIDTH, 1, activation="relu", backend=backend),
                quantized(V, 65, 2, backend=backend),
            ]
        )
        path = tmp_path / backend
        model.export(path, verbose=False)
        assert operations(path) == ({"QuantizedMatMul"} if backend == "native" else set())
        said, found = serve(path, x)
        assert ("KerasMtl>QuantizedMatMul" in said["missing"]) == (backend == "native")
        assert said["heavy"] == []
        (outputs[backend],) = found.values()
        eager = np.array(model(x))
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


def test_a_beam_search_over_quantized_layers(serve, tmp_path):
    model = Generator()
    start = np.random.default_rng(6).normal(size=(BATCH, WIDTH)).astype(np.float32)
    path = tmp_path / "search"
    tf.saved_model.save(model, str(path), signatures=model.__call__)
    every = {"QuantizedMatMul", "BeamSearch", "BeamSearchStep", "BeamSearchResult"}
    assert operations(path) == every
    said, found = serve(path, start)
    assert "KerasMtl>" in said["missing"]
    assert said["heavy"] == []
    expected = {name: tensor.numpy() for name, tensor in model(start).items()}
    assert expected["lengths"].max() > 1
    assert len({row.tobytes() for row in expected["ids"][:, 0]}) > 1
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    # No sentence at all.
    signature = tf.saved_model.load(str(path)).signatures["serving_default"]
    assert signature(start=tf.constant(start[:0]))["ids"].shape == (0, 2, 8)
