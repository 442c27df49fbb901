"""Decoding: beam-search options, beam search, and translation of text.

Importing this package does not import TensorFlow; its modules `beam_search` and `translator` do.
"""

from keras_mtl.decoding.options import BeamOptions

__all__ = ["BeamOptions"]
