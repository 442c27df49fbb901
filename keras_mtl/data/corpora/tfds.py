"""Pairs from a dataset of TensorFlow Datasets, by its name."""

from collections.abc import Iterator
from typing import Any

from keras_mtl import errors
from keras_mtl.data.corpora import base


@base.register_reader
class TfdsReader(base.CorpusReader):
    """Reads a dataset of TensorFlow Datasets with two text features.

    TensorFlow Datasets is imported when it is first needed.

    Args:
        source: code of the source language.
        target: code of the target language.
        dataset: name, with config and version as TFDS writes them: `wmt14_translate/fr-en:1.0.0`.
        split: split to read, possibly a slice: `train`, `train[:1000000]`.
        source_key: feature with the source text; the default is `source`. `a/b` is a feature
            inside of another.
        target_key: feature with the target text; the default is `target`.
        tfds_dir: directory where TFDS keeps its data; None is TFDS' own default.
        download: whether to download and prepare a dataset that does not exist.

    Raises:
        ConfigError: TFDS does not know the dataset, the split or a feature.
        DataError: the dataset does not exist and `download` is false.
    """

    name = "tfds"
    path_options = ("tfds_dir",)

    def __init__(
        self,
        source: str,
        target: str,
        *,
        dataset: str,
        split: str = "train",
        source_key: str | None = None,
        target_key: str | None = None,
        tfds_dir: str | None = None,
        download: bool = False,
    ) -> None:
        super().__init__(source, target)
        base.require_text(self.name, "dataset", dataset, "the name of a dataset")
        import tensorflow_datasets as tfds

        self._split = base.require_text(self.name, "split", split, "the name of a split")
        try:
            self._builder = tfds.builder(dataset, data_dir=tfds_dir)
        except (tfds.core.DatasetNotFoundError, ValueError, AssertionError) as error:
            first_line = str(error).strip().splitlines()[0]
            raise errors.ConfigError(
                f"reader 'tfds': dataset {dataset!r} cannot be found in {tfds_dir or 'TFDS'}: "
                f"{first_line}"
            ) from error
        if download and not self._builder.is_prepared():
            self._download(dataset)
        if not self._builder.is_prepared():
            raise errors.DataError(
                f"reader 'tfds': dataset {dataset!r} is not prepared in {self._builder.data_dir}; "
                "prepare it there, or set download: true"
            )
        self._keys = (source_key or source, target_key or target)
        for option, key in zip(("source_key", "target_key"), self._keys, strict=True):
            self._check_feature(option, key)
        try:
            self._examples = self._builder.info.splits[split].num_examples
        except (KeyError, ValueError, AssertionError) as error:
            splits = sorted(self._builder.info.splits)
            raise base.option_error(
                self.name, "split", split, f"one of {splits}, or a slice of one"
            ) from error

    def _download(self, dataset: str) -> None:
        try:
            self._builder.download_and_prepare()
        except ModuleNotFoundError as error:
            # TFDS imports packages for single datasets only when it needs them.
            raise errors.DataError(
                f"reader 'tfds': preparing {dataset!r} needs the Python package {error.name!r}; "
                "install it"
            ) from error
        except (OSError, AssertionError, RuntimeError) as error:
            raise errors.DataError(
                f"reader 'tfds': {dataset!r} cannot be prepared in {self._builder.data_dir}: "
                f"{str(error).strip() or type(error).__name__}"
            ) from error

    def _check_feature(self, option: str, key: str) -> None:
        features: Any = self._builder.info.features
        for part in key.split("/"):
            known = list(features.keys()) if hasattr(features, "keys") else []
            if part not in known:
                raise errors.ConfigError(
                    f"reader 'tfds': {option} is {key!r}, and "
                    f"{self._builder.info.full_name} has no feature {part!r}"
                    f"{errors.nearest(part, known)}"
                )
            features = features[part]

    def selection(self) -> tuple[str, ...]:
        return self._keys

    def fingerprint(self) -> dict[str, Any]:
        return {
            **super().fingerprint(),
            "dataset": self._builder.info.full_name,
            "folder": str(self._builder.data_dir),
            "examples": self._examples,
        }

    def read(self) -> Iterator[base.Pair | base.BadLine]:
        """Yields pairs in the order of the files; `line` is the number of the example."""
        path = f"{self._builder.data_dir} ({self._split})"
        dataset = self._builder.as_dataset(split=self._split, shuffle_files=False)
        for number, example in enumerate(dataset.as_numpy_iterator(), 1):
            self.lines[path] = number
            texts = []
            for key in self._keys:
                value = example
                for part in key.split("/"):
                    value = value[part]
                texts.append(value)
            try:
                source, target = (text.decode("utf-8") for text in texts)
            except UnicodeDecodeError as error:
                yield base.BadLine(path, number, f"invalid UTF-8: {error.reason}")
                continue
            except AttributeError:
                yield base.BadLine(path, number, f"{self._keys[0]} or {self._keys[1]} is not text")
                continue
            yield base.Pair(source, target, number)
