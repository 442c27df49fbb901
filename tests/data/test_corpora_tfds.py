"""TensorFlow Datasets: a small dataset that the test writes; TensorFlow is imported here alone."""

import subprocess
import sys

import pytest

from keras_mtl import errors
from keras_mtl.data import corpora


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory):
    """Folder with the dataset tiny_pairs 1.0.0, written as TFDS would have prepared it."""
    import numpy as np
    import tensorflow as tf
    import tensorflow_datasets as tfds

    pairs = [("one", "un"), ("two", "deux"), ("three", "trois")]
    features = tfds.features.FeaturesDict(
        {"en": tfds.features.Text(), "fr": tfds.features.Text(), "id": np.int64}
    )
    root = tmp_path_factory.mktemp("tfds")
    directory = root / "tiny_pairs" / "1.0.0"
    directory.mkdir(parents=True)
    records = [
        features.serialize_example({"en": source, "fr": target, "id": number})
        for number, (source, target) in enumerate(pairs)
    ]
    with tf.io.TFRecordWriter(
        str(directory / "tiny_pairs-train.tfrecord-00000-of-00001")
    ) as writer:
        for record in records:
            writer.write(record)
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=features,
        split_infos=[
            tfds.core.SplitInfo(
                name="train", shard_lengths=[len(pairs)], num_bytes=sum(map(len, records))
            )
        ],
        filename_template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
    )
    return str(root)


def _reader(tfds_dir, **options):
    options = {"dataset": "tiny_pairs", "tfds_dir": tfds_dir, **options}
    return corpora.create_reader("tfds", "en", "fr", options)


def test_pairs(tfds_dir):
    pairs = [(p.source, p.target, p.line) for p in corpora.read_pairs(_reader(tfds_dir))]
    assert pairs == [("one", "un", 1), ("two", "deux", 2), ("three", "trois", 3)]


def test_split_slice_keys_and_fingerprint(tfds_dir):
    reader = _reader(tfds_dir, split="train[:2]", source_key="fr", target_key="en")
    assert [p.source for p in corpora.read_pairs(reader)] == ["un", "deux"]
    assert reader.fingerprint()["dataset"] == "tiny_pairs/1.0.0"
    assert reader.fingerprint()["examples"] == 2


def test_wrong_names(tfds_dir):
    with pytest.raises(errors.ConfigError, match="no feature 'eng'; did you mean 'en'"):
        _reader(tfds_dir, source_key="eng")
    with pytest.raises(
        errors.ConfigError, match=r"split is 'trian'; it must be one of \['train'\]"
    ):
        _reader(tfds_dir, split="trian")
    with pytest.raises(errors.ConfigError, match="dataset 'no_such_pairs' cannot be found"):
        _reader(tfds_dir, dataset="no_such_pairs")


def test_a_dataset_that_is_not_prepared_is_named(tmp_path):
    with pytest.raises(
        errors.DataError, match=r"wmt14_translate/fr-en:1\.0\.0' is not prepared in "
    ):
        corpora.create_reader(
            "tfds",
            "en",
            "fr",
            {"dataset": "wmt14_translate/fr-en:1.0.0", "tfds_dir": str(tmp_path)},
        )


def test_a_feature_that_is_no_text_is_a_bad_line(tfds_dir):
    with pytest.raises(errors.DataError, match="3 of 3 lines cannot be read"):
        list(corpora.read_pairs(_reader(tfds_dir, target_key="id")))


def test_readers_load_no_tensorflow():
    code = "import sys, keras_mtl.data.corpora; sys.exit('tensorflow' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
