"""The search for the largest batch, and the figures of the report."""

import dataclasses
import json

import compiler_stub
import pytest

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.packing import PackedShape
from keras_mtl.simulation.accelerators import CHIPS
from keras_mtl.tpu_check.report import (
    HEADER,
    Checked,
    LargestBatch,
    Report,
    as_data,
    largest_lines,
    loop_line,
    table,
)
from keras_mtl.tpu_check.results import Exhausted, Program, read_compiled
from keras_mtl.tpu_check.search import Attempt, Largest, find_largest

LIMIT = 16_000


def memory(fixed, each, limit=LIMIT, known=True):
    """A program whose memory grows evenly with the batch."""

    def attempt(size):
        needed = fixed + each * size
        return Attempt(size, needed <= limit, needed if known or needed <= limit else None)

    return attempt


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("start", [1, 24, 39, 40, 64, 400])
def test_the_search_finds_the_largest(start, known):
    found = find_largest(memory(1_000, 375, known=known), start, LIMIT, most=30)
    # 40 fit. With 40, sizes are known to 3 %, which is one.
    assert (found.fits, found.too_large) == (40, 41)
    assert len(found.attempts) <= (6 if known and start > 1 else 12)
    assert len({each.size for each in found.attempts}) == len(found.attempts)


def test_the_search_ends_within_three_percent():
    found = find_largest(memory(1_000, 1), 4_000, LIMIT, most=30)
    assert found.fits <= 15_000 < found.too_large
    assert found.too_large - found.fits <= 0.03 * found.fits


def test_the_search_without_a_limit_doubles():
    found = find_largest(memory(0, 1_000), 2, None, most=30)
    assert (found.fits, found.too_large) == (16, 17)


def test_the_number_of_attempts_is_bounded():
    found = find_largest(memory(0, 1), 8, LIMIT, most=1)
    assert (found.fits, found.too_large, len(found.attempts)) == (8, None, 1)


def test_nothing_fits():
    found = find_largest(memory(17_000, 1), 8, LIMIT, most=30)
    assert (found.fits, found.too_large) == (0, 1)


def make_report(largest=None):
    shapes = {"part": Bucket(128, 256), "update": PackedShape(8, 64, 48)}
    first, second = (
        Program(name, shape, "", {1: 500} if name == "part" else {1: 500, 2: 7_000_000})
        for name, shape in shapes.items()
    )
    return Report(
        "v5e:2x2",
        CHIPS["v5e"],
        4,
        16_000_000_000,
        compiler_stub.VERSIONS,
        60,
        32_000,
        7_000_500,
        [
            Checked(first, read_compiled(compiler_stub.PROGRAM), 7_000_000),
            Checked(second, Exhausted(30_000_000_000, 16_000_000_000), 0),
        ],
        largest,
    )


def test_the_table():
    report = make_report()
    first, second = table(report)
    assert len(first) == len(second) == len(HEADER)
    # 4.11 GB of the program and 7 MB that it does not use; 1.97 TFLOP at 197 TFLOP/s take 10 ms.
    assert first == (
        *("part", "64 x 128", "1.00", "3.00", "4.12", "26%", "1.970", "81.90", "1", "0.0"),
        *("10.0", "100.0"),
    )
    assert second[:6] == ("update", "2 x (64 + 48)", "-", "-", "30.00", "188%")
    assert report.too_large == [report.programs[1]]


def test_loops_are_named():
    report = make_report()
    assert "up to 2 loops" in loop_line(report)
    assert loop_line(dataclasses.replace(report, programs=report.programs[1:])) is None


def test_variables_that_a_program_does_not_use_count():
    program = Program("part", Bucket(8, 8), "", {})
    outcome = read_compiled(compiler_stub.PROGRAM)
    assert Checked(program, outcome, 0).fits(outcome.total)
    assert not Checked(program, outcome, 1).fits(outcome.total)


def test_figures_as_json():
    search = Largest(16, 17, (Attempt(16, True, 10), Attempt(17, False, None)))
    data = json.loads(json.dumps(as_data(make_report(LargestBatch(search, 8, 4, 128)))))
    first, second = data["programs"]
    assert first["needed"] == first["other_variables"] + 4_110_000_000
    assert first["shape"] == {"length": 128, "rows": 64}
    assert first["all_reduces"] == 1
    assert first["seconds_by_bytes"] == pytest.approx(0.1)
    assert not second["fits"]
    assert data["largest_batch"]["tokens_per_batch"] == 16 * 8 * 4 * 128
    assert data["largest_batch"]["rows_too_large"] == 136


@pytest.mark.parametrize(
    ("search", "expected"),
    [
        (Largest(16, 17, ()), ["tokens_per_batch=65536, 128 rows of 128", "136 rows do not fit"]),
        (Largest(16, None, ()), ["128 rows of 128", "a larger batch may fit"]),
        (Largest(0, 1, ()), ["none found; 8 rows of 128"]),
    ],
)
def test_lines_about_the_largest_batch(search, expected):
    lines = largest_lines(make_report(LargestBatch(search, 8, 4, 128)))
    assert len(lines) == len(expected)
    for line, part in zip(lines, expected, strict=True):
        assert part in line
