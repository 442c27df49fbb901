"""Training: the steps, the run around them, and `model.fit`."""
