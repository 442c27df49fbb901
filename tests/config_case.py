"""Configurations for tests."""

import pytest

from keras_mtl import errors
from keras_mtl.configuration import files

# The least that makes a configuration valid.
MINIMAL = (
    "task: {pairs: [{source: en, target: fr}], "
    "data: {corpora: [{reader: cldr, options: {pairs: 9}}]}}"
)


def load(*params, given=(), **options):
    return files.load_experiment(None, given, [MINIMAL, *params], **options)


def message(*params, **options):
    with pytest.raises(errors.ConfigError) as error:
        load(*params, **options)
    return str(error.value)
