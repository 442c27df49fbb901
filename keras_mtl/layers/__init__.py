"""Keras layers, one public class in each file."""

from keras_mtl.layers.additive_attention import AdditiveAttention
from keras_mtl.layers.attention_lstm import AttentionLSTM
from keras_mtl.layers.cross_attention import CrossAttention
from keras_mtl.layers.dense import Dense
from keras_mtl.layers.dropout import Dropout
from keras_mtl.layers.feed_forward import FeedForward
from keras_mtl.layers.gated_feed_forward import GatedFeedForward
from keras_mtl.layers.layer_norm import LayerNorm
from keras_mtl.layers.layer_norm_lstm import LayerNormLSTM
from keras_mtl.layers.position_embedding import PositionEmbedding
from keras_mtl.layers.quantized_dense import QuantizedDense
from keras_mtl.layers.registry import (
    register_feed_forward,
    register_norm,
    register_self_attention,
)
from keras_mtl.layers.rms_norm import RMSNorm
from keras_mtl.layers.self_attention import SelfAttention
from keras_mtl.layers.sine_position_encoding import SinePositionEncoding
from keras_mtl.layers.token_embedding import TokenEmbedding
from keras_mtl.layers.transformer_decoder_layer import TransformerDecoderLayer
from keras_mtl.layers.transformer_encoder_layer import TransformerEncoderLayer
from keras_mtl.layers.transparent_attention import TransparentAttention

__all__ = [
    "AdditiveAttention",
    "AttentionLSTM",
    "CrossAttention",
    "Dense",
    "Dropout",
    "FeedForward",
    "GatedFeedForward",
    "LayerNorm",
    "LayerNormLSTM",
    "PositionEmbedding",
    "QuantizedDense",
    "RMSNorm",
    "SelfAttention",
    "SinePositionEncoding",
    "TokenEmbedding",
    "TransformerDecoderLayer",
    "TransformerEncoderLayer",
    "TransparentAttention",
    "register_feed_forward",
    "register_norm",
    "register_self_attention",
]
