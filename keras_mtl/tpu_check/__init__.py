"""Compiles the programs of a run for a TPU on a machine without one; see `keras-mtl check-tpu`."""
