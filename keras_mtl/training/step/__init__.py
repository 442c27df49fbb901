"""The training step: trainer, optimizers, learning rates and devices."""
