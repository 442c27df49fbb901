"""The models, their sizes and their loss."""

from keras_mtl.configuration.model_sizes import SIZES, Size
from keras_mtl.models.factory import build_model, build_transformer
from keras_mtl.models.losses import projected_cross_entropy
from keras_mtl.models.rnmt import RNMT
from keras_mtl.models.transformer import Transformer

__all__ = [
    "RNMT",
    "SIZES",
    "Size",
    "Transformer",
    "build_model",
    "build_transformer",
    "projected_cross_entropy",
]
