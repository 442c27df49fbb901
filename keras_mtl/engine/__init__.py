"""The Python side of the C++ engine."""
