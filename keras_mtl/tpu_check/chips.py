"""The TPU chips whose programs can be checked, and the names of their topologies."""

import dataclasses
import math
import re

from keras_mtl.errors import InputError, nearest


@dataclasses.dataclass(frozen=True)
class Chip:
    """A chip that is one device for XLA.

    Attributes:
        flops: peak of bfloat16 products, floating-point operations per second.
        bandwidth: of its memory (HBM), bytes per second.
        example: name of a small topology.
    """

    flops: float
    bandwidth: float
    example: str


# Peaks from Google's pages on each version, https://cloud.google.com/tpu/docs/v5e and so on. v2 to
# v4 are left out: there, a device is one of the two cores of a chip.
CHIPS = {
    "v5e": Chip(197e12, 819e9, "v5e:2x4"),
    "v5p": Chip(459e12, 2765e9, "v5p:2x2x1"),
    "v6e": Chip(918e12, 1640e9, "v6e:2x4"),
}


def parse_topology(name: str) -> tuple[Chip, int]:
    """Returns the chip of a topology and the number of chips.

    libtpu decides whether the topology exists.

    Args:
        name: version and arrangement of the chips, such as `v5e:2x4`.

    Raises:
        InputError: this is not the name of a topology, or the version is unknown.
    """
    version, colon, arrangement = name.partition(":")
    if not colon or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", arrangement):
        raise InputError(
            f"--topology {name}: expected the version of the TPU and the arrangement of its chips, "
            "such as v5e:2x4 for v5litepod-8"
        )
    if version not in CHIPS:
        raise InputError(
            f"--topology {name}: version {version!r} is unknown{nearest(version, CHIPS)}"
        )
    return CHIPS[version], math.prod(map(int, arrangement.split("x")))
