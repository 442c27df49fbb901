"""The report of `keras-mtl check-tpu`: figures of each program, as a table and as JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from keras_mtl.data.packing import PackedShape
from keras_mtl.simulation.accelerators import Chip
from keras_mtl.tpu_check.results import Compiled, Exhausted, Program
from keras_mtl.tpu_check.search import Largest

_GB = 1e9


@dataclasses.dataclass(frozen=True)
class Checked:
    """A program and what the compiler says of it.

    Attributes:
        program: the program.
        outcome: the compiler's answer.
        others: bytes of variables of the run that the program does not use. They stay in memory.
    """

    program: Program
    outcome: Compiled | Exhausted
    others: int

    @property
    def needed(self) -> int | None:
        """Memory that a chip needs while the program runs, in bytes; None if unknown."""
        if isinstance(self.outcome, Compiled):
            return self.outcome.total + self.others
        return None if self.outcome.needed is None else self.outcome.needed + self.others

    def fits(self, limit: int | None) -> bool:
        """Whether the memory of a chip suffices."""
        if isinstance(self.outcome, Exhausted):
            return False
        return limit is None or self.outcome.total + self.others <= limit


@dataclasses.dataclass(frozen=True)
class LargestBatch:
    """The largest batch that fits.

    Attributes:
        search: the search; sizes are in `unit` rows of a replica.
        unit: rows of a replica by which batches were enlarged.
        replicas: number of replicas.
        length: padded length of the rows.
    """

    search: Largest
    unit: int
    replicas: int
    length: int

    def rows(self, size: int) -> int:
        """Returns the rows of a replica."""
        return size * self.unit

    def tokens(self, size: int) -> int:
        """Returns `task.data.tokens_per_batch` of a size."""
        return self.rows(size) * self.replicas * self.length


@dataclasses.dataclass(frozen=True)
class Report:
    """The result of a check.

    Attributes:
        topology: name of the topology.
        chip: its chip.
        replicas: number of replicas.
        limit: memory of a chip in bytes; None if unknown.
        versions: versions of the packages of the compiler.
        parameters: number of trainable parameters.
        vocabulary: number of ids.
        variables: bytes of all variables on a chip.
        programs: the programs.
        largest: the largest batch that fits; None if it was not searched for.
        source_vocabulary: number of ids of sources; None if it is `vocabulary`.
    """

    topology: str
    chip: Chip
    replicas: int
    limit: int | None
    versions: dict[str, str]
    parameters: int
    vocabulary: int
    variables: int
    programs: Sequence[Checked]
    largest: LargestBatch | None = None
    source_vocabulary: int | None = None

    @property
    def too_large(self) -> list[Checked]:
        """The programs that do not fit."""
        return [checked for checked in self.programs if not checked.fits(self.limit)]

    def seconds(self, outcome: Compiled) -> tuple[float, float]:
        """Returns the time of a program by its floating-point operations and by its bytes."""
        return outcome.flops / self.chip.bfloat16, outcome.bytes_accessed / self.chip.bandwidth


def shape_text(checked: Checked, replicas: int) -> str:
    """Returns the shape of a replica's batch, such as `192 x 128`."""
    shape = checked.program.shape
    rows = shape.rows // replicas
    if isinstance(shape, PackedShape):
        return f"{rows} x ({shape.source_length} + {shape.target_length})"
    return f"{rows} x {shape.length}"


HEADER = (
    "program", "batch of a chip", "arguments", "temporaries", "total GB", "of limit", "TFLOP",
    "GB accessed", "all-reduces", "MB reduced", "ms by FLOP", "ms by bytes",
)  # fmt: skip


def table(report: Report) -> list[tuple[str, ...]]:
    """Returns the rows of the table of programs, under `HEADER`."""
    rows = []
    for checked in report.programs:
        needed, limit = checked.needed, report.limit
        total = "?" if needed is None else f"{needed / _GB:.2f}"
        share = "-" if needed is None or not limit else f"{needed / limit:.0%}"
        first = (checked.program.name, shape_text(checked, report.replicas))
        outcome = checked.outcome
        if isinstance(outcome, Exhausted):
            rows.append((*first, "-", "-", total, share, *["-"] * 6))
            continue
        by_flops, by_bytes = report.seconds(outcome)
        rows.append(
            (
                *first,
                f"{outcome.arguments / _GB:.2f}",
                f"{outcome.temporaries / _GB:.2f}",
                total,
                share,
                f"{outcome.flops / 1e12:.3f}",
                f"{outcome.bytes_accessed / _GB:.2f}",
                str(outcome.all_reduces),
                f"{outcome.communicated / 1e6:.1f}",
                f"{by_flops * 1e3:.1f}",
                f"{by_bytes * 1e3:.1f}",
            )
        )
    return rows


def loop_line(report: Report) -> str | None:
    """Returns a line about costs that the compiler does not count, if there are any."""
    loops = max(
        (each.outcome.loops for each in report.programs if isinstance(each.outcome, Compiled)),
        default=0,
    )
    if not loops:
        return None
    return (
        f"A program has up to {loops} loops. The compiler counts only one pass of each, so "
        "operations and bytes are higher than shown."
    )


def largest_lines(report: Report) -> list[str]:
    """Returns lines about the largest batch that fits."""
    found = report.largest
    if found is None:
        return []
    search = found.search
    tried = f"({len(search.attempts)} sizes tried)"
    if not search.fits:
        size = search.too_large or 0
        return [
            f"largest batch: none found; {found.rows(size)} rows of {found.length} tokens on each "
            f"chip do not fit {tried}"
        ]
    lines = [
        f"largest batch: task.data.tokens_per_batch={found.tokens(search.fits)}, "
        f"{found.rows(search.fits)} rows of {found.length} tokens on each chip {tried}"
    ]
    if search.too_large is None:
        lines.append("a larger batch may fit; raise --search to try more sizes")
    else:
        lines.append(f"{found.rows(search.too_large)} rows do not fit")
    return lines


def as_data(report: Report) -> dict[str, Any]:
    """Returns the report as values for JSON; sizes are in bytes, times in seconds."""
    programs = []
    for checked in report.programs:
        shape = checked.program.shape
        entry = {
            "program": checked.program.name,
            "shape": dataclasses.asdict(shape) | {"rows": shape.rows // report.replicas},
            "fits": checked.fits(report.limit),
            "needed": checked.needed,
            "other_variables": checked.others,
        }
        if isinstance(checked.outcome, Compiled):
            by_flops, by_bytes = report.seconds(checked.outcome)
            entry |= dataclasses.asdict(checked.outcome) | {
                "all_reduces": checked.outcome.all_reduces,
                "communicated": checked.outcome.communicated,
                "seconds_by_flops": by_flops,
                "seconds_by_bytes": by_bytes,
            }
            entry["compile_seconds"] = entry.pop("seconds")
        programs.append(entry)
    data: dict[str, Any] = {
        "topology": report.topology,
        "replicas": report.replicas,
        "limit": report.limit,
        "peak_flops": report.chip.bfloat16,
        "peak_bandwidth": report.chip.bandwidth,
        "versions": report.versions,
        "parameters": report.parameters,
        "vocabulary": report.vocabulary,
        "variables": report.variables,
        "programs": programs,
        "largest_batch": None,
    }
    if report.source_vocabulary is not None:
        data["source_vocabulary"] = report.source_vocabulary
    if (found := report.largest) is not None:
        search = found.search
        data["largest_batch"] = {
            "length": found.length,
            "rows": found.rows(search.fits),
            "tokens_per_batch": found.tokens(search.fits),
            "rows_too_large": None if search.too_large is None else found.rows(search.too_large),
            "attempts": [
                {"rows": found.rows(each.size), "fits": each.fits, "needed": each.needed}
                for each in search.attempts
            ],
        }
    return data
