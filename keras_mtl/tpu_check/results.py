"""What the TPU compiler says of a program."""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.packing import PackedShape

# Units of the compiler's messages.
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_SIZE = r"([\d.]+)([KMGT]?)B?"
_EXHAUSTED = (
    re.compile(rf"Used {_SIZE} of {_SIZE} hbm", re.IGNORECASE),
    re.compile(rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)", re.IGNORECASE),
)
_ARRAY = re.compile(r"\b[a-z]+(\d*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Program:
    """A program of a run, before the TPU compiler sees it.

    Attributes:
        name: its name in `StaticStep.programs`.
        shape: shape of a batch of all replicas.
        text: XLA's text, before any optimization.
        variables: bytes of each variable that the program reads or writes, by an identifier.
    """

    name: str
    shape: Bucket | PackedShape
    text: str
    variables: Mapping[int, int]


@dataclasses.dataclass(frozen=True)
class Compiled:
    """A compiled program; sizes in bytes and costs are of one replica.

    Attributes:
        arguments: size of the variables and the batch that it reads.
        outputs: size of what it returns, variables included.
        aliased: part of `outputs` in the memory of arguments.
        temporaries: size of everything in between.
        code: size of its instructions.
        flops: floating-point operations.
        bytes_accessed: bytes that its operations read and write.
        loops: number of loops. The costs have one pass of each.
        collectives: operation and shape of each communication between replicas, in XLA's words.
        seconds: how long it took to compile.
    """

    arguments: int
    outputs: int
    aliased: int
    temporaries: int
    code: int
    flops: float
    bytes_accessed: float
    loops: int
    collectives: Sequence[tuple[str, str]]
    seconds: float

    @property
    def total(self) -> int:
        """Size of all that the program needs in memory."""
        return self.arguments + self.outputs - self.aliased + self.temporaries + self.code

    @property
    def all_reduces(self) -> int:
        """Number of all-reduces."""
        return sum(name == "all-reduce" for name, _ in self.collectives)

    @property
    def communicated(self) -> int:
        """Size of the results of all communication between replicas."""
        return sum(size_of(shape) for _, shape in self.collectives)


@dataclasses.dataclass(frozen=True)
class Exhausted:
    """A program that is too large for the chip.

    Attributes:
        needed: size that it would need; None if the compiler does not say.
        limit: memory of the chip; None if the compiler does not say.
    """

    needed: int | None
    limit: int | None


def read_compiled(result: Mapping[str, Any]) -> Compiled:
    """Reads the result of `compile_hlo` for a program that was compiled."""
    names = [field.name for field in dataclasses.fields(Compiled)]
    values = {name: result[name] for name in names}
    values["collectives"] = tuple((name, shape) for name, shape in result["collectives"])
    return Compiled(**values)


def read_exhausted(message: str) -> Exhausted | None:
    """Reads the compiler's message for a program that is too large.

    Returns:
        What it says; None if another memory than HBM is exhausted, which no smaller batch repairs.
    """
    for pattern in _EXHAUSTED:
        if found := pattern.search(message):
            needed, limit = (
                int(float(number) * _UNITS[unit.upper()])
                for number, unit in (found.group(1, 2), found.group(3, 4))
            )
            return Exhausted(needed, limit)
    return Exhausted(None, None) if "hbm" in message.lower() else None


def size_of(shape: str) -> int:
    """Returns the bytes of arrays in XLA's notation, such as `(f32[8,4]{1,0}, s32[])`."""
    total = 0
    for bits, dims in _ARRAY.findall(shape):
        width = int(bits) // 8 if bits else 1
        total += width * math.prod(int(size) for size in dims.split(",") if size)
    return total
