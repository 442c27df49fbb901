"""Decoding: the options of beam search, the search itself, and text in, text out.

Importing this package loads no TensorFlow; `beam_search` and `translator` do.
"""

from keras_mtl.decoding.options import BeamOptions

__all__ = ["BeamOptions"]
