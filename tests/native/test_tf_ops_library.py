"""The library of TensorFlow operations: how it is found, refused and loaded."""

import json
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

import keras_mtl
from keras_mtl.engine import NativeError, load_ops, ops_are_available
from keras_mtl.engine.ops import check_ops_version

FIND = pathlib.Path(keras_mtl.__file__).parents[1] / "cc" / "tf_ops" / "find_tensorflow.py"


def library_for(directory, tensorflow, version=keras_mtl.__version__):
    record = {"keras_mtl": version, "tensorflow": tensorflow}
    (directory / "_tf_ops.json").write_text(json.dumps(record))
    (directory / "_tf_ops.so").write_bytes(b"not to be loaded")
    return directory / "_tf_ops.so"


def test_operations_are_there_and_loaded_once():
    assert ops_are_available()
    assert load_ops() is load_ops()


def test_missing_library_says_what_still_works(monkeypatch, tmp_path):
    monkeypatch.setattr(keras_mtl, "__path__", [str(tmp_path)])
    with pytest.raises(NativeError, match=r"not built.*works without.*build-isolation"):
        load_ops.__wrapped__()


def test_without_tensorflow_the_library_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(NativeError, match="require the package tensorflow"):
        load_ops.__wrapped__()


def test_other_minor_of_tensorflow_is_refused_before_loading(monkeypatch, tmp_path):
    library_for(tmp_path, "2.19.1")
    monkeypatch.setattr(keras_mtl, "__path__", [str(tmp_path)])
    with pytest.raises(NativeError) as raised:
        load_ops.__wrapped__()
    message = str(raised.value)
    assert f"built for TensorFlow 2.19.1, but this is {tf.__version__}" in message
    assert "Install tensorflow 2.19" in message
    assert "_tf_ops.so" in message


def test_another_patch_of_tensorflow_is_taken(tmp_path):
    check_ops_version(library_for(tmp_path, "2.20.7"), "2.20.0")


def test_other_version_of_keras_mtl_and_damaged_record(tmp_path):
    library = library_for(tmp_path, "2.20.0", "9.9")
    with pytest.raises(NativeError, match=r"_tf_ops\.so: .*built for keras_mtl 9\.9"):
        check_ops_version(library, "2.20.0")
    (tmp_path / "_tf_ops.json").write_text("{")
    with pytest.raises(NativeError, match=r"_tf_ops\.json cannot be read"):
        check_ops_version(library, "2.20.0")


def test_build_finds_tensorflow_without_importing_it():
    done = subprocess.run([sys.executable, FIND], capture_output=True, text=True, check=True)
    directory, version, abi = done.stdout.split(";")
    assert (pathlib.Path(directory) / "include").is_dir()
    assert version == tf.__version__
    assert int(abi) == tf.sysconfig.CXX11_ABI_FLAG


def test_build_without_tensorflow_finds_nothing():
    # Without site-packages nothing is installed; that is no error.
    command = [sys.executable, "-I", "-S", FIND]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == ""
