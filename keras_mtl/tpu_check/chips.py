"""The names of TPU topologies."""

import math
import re

from keras_mtl.errors import InputError, nearest
from keras_mtl.simulation.accelerators import CHIPS, Chip

# In these versions, a chip is one device for XLA. In v2 and v3, each of its two cores is one.
VERSIONS = ("v5e", "v6e")


def parse_topology(name: str) -> tuple[Chip, int]:
    """Returns the chip of a topology and the number of chips.

    libtpu decides whether the topology exists.

    Args:
        name: version and arrangement of the chips, such as `v5e:2x4`.

    Raises:
        InputError: this is not the name of a topology, or the version is unknown.
    """
    version, colon, arrangement = name.partition(":")
    if not colon or not re.fullmatch(r"[1-9]\d*x[1-9]\d*", arrangement):
        raise InputError(
            f"--topology {name}: expected the version of the TPU and the arrangement of its chips, "
            "such as v5e:2x4 for v5litepod-8"
        )
    if version not in VERSIONS:
        raise InputError(
            f"--topology {name}: version {version!r} is unknown{nearest(version, VERSIONS)}"
        )
    return CHIPS[version], math.prod(map(int, arrangement.split("x")))
