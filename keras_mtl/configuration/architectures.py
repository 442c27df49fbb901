"""The architectures of models by name: values of `task.model.architecture`.

Free of TensorFlow. `keras_mtl.models.factory` builds the models.
"""

TRANSFORMER = "transformer"
RNMT = "rnmt"
HYBRID = "hybrid"
ARCHITECTURES = (TRANSFORMER, RNMT, HYBRID)


def only_tensorflow(architecture: str) -> str:
    """Returns why only TensorFlow runs an architecture, as a clause for a message, or ""."""
    if architecture not in (RNMT, HYBRID):
        return ""
    return f"task.model.architecture is {architecture!r}, and only TensorFlow runs recurrent layers"
