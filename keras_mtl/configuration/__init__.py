"""The configuration of an experiment: schema, reading, overrides, checks, presets, plug-ins."""
