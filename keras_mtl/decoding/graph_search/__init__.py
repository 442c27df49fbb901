"""The parts of the beam search in TensorFlow; `keras_mtl.decoding.beam_search` is its interface.

Every part runs eagerly, in graphs and under XLA. An option is a Python value or a scalar tensor;
see `graph_options`.
"""
