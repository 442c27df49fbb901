"""Schedules in `model.fit`: callbacks and their state."""
