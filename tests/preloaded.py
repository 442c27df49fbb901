"""What the server of `processes` imports before it forks."""

from keras_mtl.cli import optional_packages

optional_packages.hide_from_keras()

import keras_mtl.cli.main  # noqa: E402
import keras_mtl.training.run.loop  # noqa: E402, F401
