"""A training run: its directory, loop, checkpoints, logs and validation."""
