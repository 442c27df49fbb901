"""`keras-mtl check-tpu`: compiles the programs of a run for a TPU, on a machine without one."""

import argparse
import json
import os
from typing import TYPE_CHECKING

from keras_mtl import errors
from keras_mtl.cli import arguments, common
from keras_mtl.cli.printing import print_table
from keras_mtl.configuration.source_vocabulary import describe_sizes, vocabulary_sizes
from keras_mtl.files import replace_file
from keras_mtl.messages import to_stderr
from keras_mtl.remote_files import cache_root, is_remote
from keras_mtl.run_files import MANIFEST_FILE, data_directory

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keras_mtl.configuration.schema import ExperimentConfig
    from keras_mtl.data.batch_plan import Bucket
    from keras_mtl.data.packing import PackedShape
    from keras_mtl.data.prepared import PreparedData
    from keras_mtl.tpu_check.report import Report

_ARITHMETIC = (
    "GB are 10^9 bytes, and everything is for one chip and one start of the program. The times are "
    "arithmetic: operations or bytes divided by the peak of the chip. Nothing has run on a TPU. "
    "Communication between chips is not included."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    common.add_experiment_arguments(parser, modes=())
    group = parser.add_argument_group("TPU")
    group.add_argument(
        "--topology",
        required=True,
        metavar="NAME",
        help="version of the TPU and arrangement of its chips, such as v5e:2x4 for v5litepod-8, or "
        "v6e:4x4",
    )
    group.add_argument(
        "--python",
        metavar="FILE",
        help="interpreter of an environment with JAX and libtpu (default: that of the environment "
        "that scripts/tpu_compiler.sh makes)",
    )
    group.add_argument(
        "--longest_only",
        action="store_true",
        help="compile only the programs of the longest bucket, which usually need the most memory",
    )
    group.add_argument(
        "--search",
        type=arguments.natural_int,
        default=8,
        metavar="N",
        help="how many batches are compiled to find the largest one that fits; 0: no search",
    )
    group.add_argument(
        "--no_cache",
        action="store_true",
        help="compile also what was compiled before; by default, results are kept in the directory "
        "of the environment variable KERAS_MTL_CACHE, or ~/.cache/keras_mtl",
    )
    group.add_argument("--json", metavar="FILE", help="also write all figures as JSON")


def check_arguments(args: argparse.Namespace) -> None:
    """Checks files, topology and the environment of the compiler.

    Raises:
        ConfigError: a file cannot be read or written, or no configuration is given.
        InputError: the name of the topology is invalid.
    """
    from keras_mtl.tpu_check.chips import parse_topology

    common.check_experiment_arguments(args, writes=False)
    parse_topology(args.topology)
    if args.json:
        arguments.check_output_file("--json", args.json)


def run(args: argparse.Namespace) -> int:
    """Compiles, and prints a table; returns the exit code, 2 if a program does not fit."""
    from keras_mtl.tpu_check.chips import parse_topology
    from keras_mtl.tpu_check.compiler import Compiler, default_python
    from keras_mtl.training.run.planning import plan_training

    draft = common.read_config(args)
    draft.config.runtime.distribution_strategy = "tpu"
    plan = plan_training(draft)
    config = plan.config
    prepared = _prepared(config, args.model_dir)
    sizes = _vocabulary_sizes(config, prepared)
    chip, count = parse_topology(args.topology)
    cache = None if args.no_cache else cache_root() / "check_tpu"
    compiler = Compiler(args.python or default_python(), args.topology, cache)
    if compiler.devices != count:
        raise errors.InputError(
            f"--topology {args.topology}: the TPU compiler reports {compiler.devices} devices for "
            f"{count} chips; only topologies with one device for each chip can be checked"
        )
    shapes = _shapes(config, prepared, compiler.devices)
    if args.longest_only:
        shapes = shapes[-1:]
    from keras_mtl.tpu_check.check import check  # Imports TensorFlow.

    report = check(plan, sizes, shapes, chip, compiler, args.search, to_stderr)
    _print(report, config, prepared is not None)
    if args.json:
        from keras_mtl.tpu_check.report import as_data

        replace_file(args.json, json.dumps(as_data(report), indent=1) + "\n")
        print(f"numbers: {args.json}")
    if report.too_large:
        names = ", ".join(dict.fromkeys(each.program.name for each in report.too_large))
        to_stderr(
            f"error: {len(report.too_large)} of {len(report.programs)} programs do not fit into "
            f"the memory of a chip ({names}). Lower task.data.tokens_per_batch"
        )
        return 2
    return 0


def _prepared(config: "ExperimentConfig", model_dir: str | None) -> "PreparedData | None":
    """Returns the prepared data, if there is any on this machine."""
    from keras_mtl.data.prepared import load_prepared

    if not config.task.data.data_dir and not model_dir:
        return None
    directory = data_directory(config.task.data.data_dir, model_dir or "")
    if is_remote(directory) or not os.path.exists(os.path.join(directory, MANIFEST_FILE)):
        return None
    return load_prepared(directory)


def _vocabulary_sizes(
    config: "ExperimentConfig", prepared: "PreparedData | None"
) -> tuple[int, int | None]:
    """Returns the size of the vocabulary, and that of the sources' own one if there is one."""
    data = config.task.data
    if prepared is not None:
        return prepared.vocabulary.size, prepared.vocabulary.source_size
    from keras_mtl.data.vocabulary import Vocabulary

    size, source_size = vocabulary_sizes(data)
    if data.vocabulary.model_file:
        size = Vocabulary.load(data.vocabulary.model_file).size
    if data.source_vocabulary.model_file:
        source_size = Vocabulary.load(data.source_vocabulary.model_file).size
    return size, source_size


def _shapes(
    config: "ExperimentConfig", prepared: "PreparedData | None", replicas: int
) -> "Sequence[Bucket | PackedShape]":
    """Returns the shapes of batches by increasing length, for all replicas together."""
    from keras_mtl.data.batch_shapes import batch_shapes, training_sources
    from keras_mtl.data.packing import PackedShape, packed_shape

    data = config.task.data
    if data.packing and data.packed_lengths:
        lengths = data.packed_lengths
        return [packed_shape(data.max_length, data.tokens_per_batch, replicas, None, lengths)]
    if data.packing and prepared is None:
        raise errors.ConfigError(
            "task.data.packing is true and task.data.packed_lengths is empty, so the shape of "
            "batches follows from the prepared data, and there is none on this machine. Run "
            "`keras-mtl prepare` and set task.data.data_dir to its result, or set "
            "task.data.packed_lengths"
        )
    sources = training_sources(prepared, config.task) if prepared is not None else []
    shapes = batch_shapes(data, sources, replicas)
    return [shapes] if isinstance(shapes, PackedShape) else shapes


def _print(report: "Report", config: "ExperimentConfig", prepared: bool) -> None:
    from keras_mtl.tpu_check.report import HEADER, largest_lines, loop_line, table

    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    limit = "unknown" if report.limit is None else f"{report.limit / 1e9:.2f} GB"
    print(f"{report.topology}: {report.replicas} chips, memory of a chip: {limit} ({versions})")
    print(
        f"model: {report.parameters:,} trainable parameters, "
        f"{describe_sizes(report.vocabulary, report.source_vocabulary)}"
        f"{'' if prepared else ' (as configured)'}, {config.runtime.mixed_precision_dtype}; "
        f"variables on each chip: {report.variables / 1e9:.2f} GB"
    )
    print()
    print_table(HEADER, table(report))
    print()
    print(_ARITHMETIC)
    if line := loop_line(report):
        print(line)
    for line in largest_lines(report):
        print(line)
