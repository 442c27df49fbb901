"""Compiles every program of a run and searches for the largest batch that fits."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from keras_mtl.data.batch_plan import Bucket
from keras_mtl.data.packing import PackedShape
from keras_mtl.simulation.accelerators import Chip
from keras_mtl.tpu_check.compiler import Compiler
from keras_mtl.tpu_check.lowering import build, lower
from keras_mtl.tpu_check.report import Checked, LargestBatch, Report, shape_text
from keras_mtl.tpu_check.results import Compiled, Program
from keras_mtl.tpu_check.search import Attempt, find_largest
from keras_mtl.training.run.planning import TrainingPlan

# Programs whose shapes do not depend on the batch.
_OF_ANY_BATCH = ("update", "look_back")
# Rows of a bucket are a multiple of it for each replica; see `keras_mtl.data.batch_shapes`.
_ROWS_OF_BUCKET = 8


def check(
    plan: TrainingPlan,
    vocabulary_sizes: tuple[int, int | None],
    shapes: Sequence[Bucket | PackedShape],
    chip: Chip,
    compiler: Compiler,
    attempts: int,
    log: Callable[[str], None],
) -> Report:
    """Compiles the programs of a run.

    Args:
        plan: the plan of the training.
        vocabulary_sizes: number of ids, and that of sources if they have their own vocabulary.
        shapes: shapes of batches by increasing length, for all replicas together; at least one.
        chip: the chip.
        compiler: the compiler.
        attempts: how many batches the search for the largest one compiles; 0 for no search.
        log: function that receives lines about progress.

    Raises:
        ConfigError: a balancing method, a sub-layer or the compiler's environment is invalid.
        InputError: the compiler does not accept a program.
    """
    replicas = compiler.devices
    step = build(plan, vocabulary_sizes, shapes, replicas)
    checked: list[Checked] = []
    variables: dict[int, int] = {}

    def compiled(programs: Sequence[Program], known: Mapping[int, int]) -> list[Checked]:
        found = []
        for program in programs:
            others = sum(size for key, size in known.items() if key not in program.variables)
            begin = Checked(program, compiler.compile(program.text), others)
            found.append(begin)
            log(_progress(begin, replicas))
        return found

    # The variables of all programs are known after lowering the first shape.
    for shape in reversed(shapes):
        programs = lower(step.trainer, shape, _OF_ANY_BATCH if checked else ())
        for program in programs:
            variables |= program.variables
        checked += compiled(programs, variables)
    report = Report(
        compiler.topology,
        chip,
        replicas,
        compiler.limit,
        dict(compiler.versions),
        sum(weight.value.shape.num_elements() for weight in step.model.trainable_variables),
        vocabulary_sizes[0],
        sum(variables.values()),
        checked,
        source_vocabulary=vocabulary_sizes[1],
    )
    if not attempts:
        return report
    longest = shapes[-1]
    unit = 1 if isinstance(longest, PackedShape) else _ROWS_OF_BUCKET

    def attempt(size: int) -> Attempt:
        shape = dataclasses.replace(longest, rows=size * unit * replicas)
        if shape == longest:
            found = [c for c in checked if c.program.shape == longest]
        else:
            found = compiled(lower(step.trainer, shape, _OF_ANY_BATCH), variables)
        needed = [each.needed for each in found if each.needed is not None]
        return Attempt(
            size, all(each.fits(compiler.limit) for each in found), max(needed, default=None)
        )

    start = longest.rows // (unit * replicas)
    search = find_largest(attempt, start, compiler.limit, attempts)
    largest = LargestBatch(search, unit, replicas, longest.length)
    return dataclasses.replace(report, largest=largest)


def _progress(checked: Checked, replicas: int) -> str:
    name = f"{checked.program.name} of {shape_text(checked, replicas)}"
    if isinstance(checked.outcome, Compiled):
        return f"compiled {name} in {checked.outcome.seconds:.0f} s"
    return f"{name} does not fit"
