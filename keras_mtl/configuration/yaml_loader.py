"""YAML as people write it; free of TensorFlow, unlike the configuration itself."""

import os
import re
from typing import Any

import yaml


class Loader(yaml.SafeLoader):
    """Reads ``1e-9`` as a number; YAML 1.1 takes it for a text because it has no dot."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9][0-9_]*(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def read_values(path: str | os.PathLike[str]) -> Any:
    """Returns what a YAML file holds as plain values; None if it cannot be read."""
    try:
        with open(path, encoding="utf-8") as file:
            return yaml.load(file, Loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
