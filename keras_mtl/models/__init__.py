"""The Transformer, its sizes and its loss."""

from keras_mtl.configuration.model_sizes import SIZES, Size
from keras_mtl.models.factory import build_transformer
from keras_mtl.models.losses import projected_cross_entropy
from keras_mtl.models.transformer import Transformer

__all__ = ["SIZES", "Size", "Transformer", "build_transformer", "projected_cross_entropy"]
