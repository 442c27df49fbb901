"""`keras-mtl inspect`: shows the meaning of a configuration, or the content of a model."""

import argparse
import collections
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl import errors
from keras_mtl.cli import arguments, common
from keras_mtl.cli.inspect_adapters import adapter_lines, stack_lines
from keras_mtl.cli.inspect_advice import print_advice
from keras_mtl.cli.inspect_quantization import quantization_lines
from keras_mtl.cli.inspect_tasks import task_lines
from keras_mtl.cli.inspect_trainer import trainer_lines
from keras_mtl.cli.inspect_variables import print_selected_variables
from keras_mtl.cli.printing import describe_sublayers, print_table
from keras_mtl.configuration import baselines, sublayers
from keras_mtl.configuration.schema import as_dict
from keras_mtl.configuration.source_vocabulary import describe_sizes, vocabulary_sizes
from keras_mtl.messages import to_stderr
from keras_mtl.run_files import PARAMS_FILE, data_directory

if TYPE_CHECKING:
    from keras_mtl.configuration.schema import CorpusConfig, ExperimentConfig, PairConfig
    from keras_mtl.data.prepare import PreparedData

# Maximum time to read the first pairs of a task.
_SAMPLE_SECONDS = 5.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the subcommand's arguments."""
    common.add_experiment_arguments(parser, modes=())
    parser.add_argument(
        "--model",
        metavar="PATH",
        help="engine file, exported model or model directory to inspect instead",
    )
    parser.add_argument(
        "--verify",
        action="store_true",
        help="read the whole model and compare its checksums",
    )
    parser.add_argument(
        "--diff",
        metavar="OTHER",
        help="print only the differences from OTHER, a YAML file or a model directory",
    )


def check_arguments(args: argparse.Namespace) -> None:
    """Checks the configuration files.

    Raises:
        ConfigError: a file cannot be read, or no configuration is given.
        InputError: two arguments are inconsistent.
    """
    from keras_mtl.cli.inspect_model import is_model

    if is_model(args):
        return  # Reading the model reports errors without TensorFlow.
    common.check_experiment_arguments(args, writes=False)
    if args.diff and os.path.isdir(args.diff):
        arguments.check_input_file("--diff", os.path.join(args.diff, PARAMS_FILE))
    elif args.diff:
        arguments.check_input_file("--diff", args.diff)


def run(args: argparse.Namespace) -> int:
    """Prints tasks, sizes and parameters, or a difference; returns the exit code."""
    from keras_mtl.cli.inspect_model import is_model, print_checkpoints, print_model

    if is_model(args):
        print_model(args.model, args.verify)
        return 0
    config = common.load_config(args)
    if args.diff:
        from keras_mtl.configuration import files

        print_difference(files.diff(config, files.load_params(args.diff)), args.diff)
        return 0
    prepared = None
    if config.task.data.data_dir or args.model_dir:
        prepared = _load_prepared(data_directory(config.task.data.data_dir, args.model_dir or ""))
    print_tasks(config, prepared)
    if prepared is not None:
        print()
        print_advice(config, args.model_dir)
    print()
    print_samples(config, prepared)
    print()
    problems = []
    try:
        print_parameters(config, prepared, args.model_dir)
    except errors.ConfigError as error:
        problems.append(str(error))
    if args.model_dir:
        print_checkpoints(args.model_dir, args.verify)
    from keras_mtl.training.run.findings import find_notes, find_problems

    for note in find_notes(config, prepared):
        to_stderr(f"note: {note}")
    problems += find_problems(config, prepared)
    for problem in problems:
        to_stderr(f"error: {problem}")
    return 2 if problems else 0


def print_difference(differences: Sequence[tuple[str, Any, Any]], other: str) -> None:
    """Prints one line for each field that differs."""
    if not differences:
        print(f"no differences from {other}")
        return
    rows = [(path, _shown(ours), _shown(theirs)) for path, ours, theirs in differences]
    print_table(("field", "this", other), rows)


def print_tasks(config: "ExperimentConfig", prepared: "PreparedData | None") -> None:
    """Prints the tasks, with sizes if the data has been prepared."""
    baselines = _baselines(config)
    sizes = {} if prepared is None else {task.name: task for task in prepared.tasks}
    rows = []
    for pair in config.task.pairs:
        corpora = pair.corpora or config.task.data.corpora
        task = sizes.get(pair.name)
        rows.append(
            (
                pair.name,
                _direction(pair),
                _readers(corpora),
                "all" if pair.max_pairs is None else f"{pair.max_pairs:,}",
                "-" if task is None else f"{task.train_size:,}",
                "-" if baselines[pair.name] is None else f"{baselines[pair.name]:g}",
            )
        )
    print_table(("task", "direction", "corpora", "at most", "prepared", "baseline"), rows)
    schedule = config.trainer.schedule
    listed = _listed(schedule.parameters)
    print(f"schedule: {schedule.name}({listed}), granularity {config.task.data.granularity}")
    if config.task.data.packing:
        print(_packing(config, prepared))
    balancing = config.trainer.balancing
    if balancing.name:
        print(f"balancing: {balancing.name}({_listed(balancing.parameters)})")
    for line in [*task_lines(config), *trainer_lines(config)]:
        print(line)
    print(f"cleaning: {_listed(as_dict(config.task.data.cleaning))}")
    for pair in config.task.pairs:
        own = {rule: value for rule, value in as_dict(pair.cleaning).items() if value is not None}
        if own:
            print(f"cleaning of {pair.name}: {_listed(own)}")
    if prepared is None:
        print("sizes are unknown, because the data is not prepared; run `keras-mtl prepare`")


def _direction(pair: "PairConfig") -> str:
    """Returns what a task reads and writes: its languages, or its kind and language."""
    from keras_mtl.configuration.other_tasks import is_translation

    if is_translation(pair):
        return f"{pair.source} -> {pair.target}"
    return f"{pair.kind} of {pair.target}"


def _packing(config: "ExperimentConfig", prepared: "PreparedData | None") -> str:
    """Returns a line about packed batches."""
    if prepared is None:
        lengths = config.task.data.packed_lengths
        rows = " + ".join(map(str, lengths)) if lengths else "chosen from the prepared data"
        return f"packing: source and target tokens of a row: {rows}"
    from keras_mtl.data.batch_shapes import batch_shapes, training_sources

    replicas = max(1, config.runtime.num_replicas)
    sources = training_sources(prepared, config.task)
    return f"packing: {batch_shapes(config.task.data, sources, replicas)}"


def print_samples(config: "ExperimentConfig", prepared: "PreparedData | None") -> None:
    """Prints some pairs of each task and warns of corpora that seem to have other languages."""
    from keras_mtl.data.prepare_report import sample_lines
    from keras_mtl.data.prepare_samples import sample_corpora
    from keras_mtl.data.prepare_settings import filled_tasks

    width = shutil.get_terminal_size((100, 24)).columns
    warnings = [] if prepared is None else list(prepared.warnings)
    data = config.task.data
    for task in filled_tasks(config.task.pairs, data):
        pairs: Sequence[Sequence[str]] = []
        if prepared is not None:
            pairs = prepared.samples.get(task.name, [])
        if not pairs:
            pairs, found = sample_corpora(task, data, _SAMPLE_SECONDS)
            warnings += found
        if pairs:
            print("\n".join([f"sample pairs of {task.name}:", *sample_lines(pairs, width)]))
    for warning in dict.fromkeys(warnings):
        to_stderr(f"warning: {warning}")


def print_parameters(
    config: "ExperimentConfig", prepared: "PreparedData | None", model_dir: str | None = None
) -> None:
    """Builds the model and prints its parameters, layer by layer.

    Args:
        config: the configuration.
        prepared: the prepared data, if there is any.
        model_dir: directory of the run, if one is given.

    Raises:
        ConfigError: the model cannot be built.
    """
    from keras_mtl.evaluation import tasks as evaluation_tasks
    from keras_mtl.models.factory import build_model, check_sublayers
    from keras_mtl.models.quantizers import quantizable_layers
    from keras_mtl.models.variables import variables_by_name

    model_config = config.task.model
    check_sublayers(model_config, config.runtime.mixed_precision_dtype)
    size, source_size = vocabulary_sizes(config.task.data)
    if prepared is not None:
        size, source_size = prepared.vocabulary.size, prepared.vocabulary.source_size
    pairs = config.task.pairs
    decoders = evaluation_tasks.decoders(model_config.sharing, [pair.target for pair in pairs])
    model = build_model(
        model_config,
        size,
        decoders,
        tasks=config.task.pairs,
        source_vocabulary_size=source_size,
    )
    counts = count_parameters(
        (variable.path, _product(variable.shape)) for variable in variables_by_name(model).values()
    )
    total = sum(counts.values())
    rows = [(layer, f"{count:,}", f"{count / total:.1%}") for layer, count in counts.items()]
    rows.append(("total", f"{total:,}", "100.0%"))
    print_table(("layer", "parameters", "share"), rows)
    print(f"{describe_sizes(size, source_size)}{'' if prepared else ' (as configured)'}")
    for line in (*stack_lines(config), *adapter_lines(config)):
        print(line)
    for line in quantization_lines(model_config.quantization, quantizable_layers(model)):
        print(line)
    print_selected_variables(config, model, prepared, model_dir)
    print(f"sub-layers: {describe_sublayers(as_dict(model_config))}")
    for field in sublayers.STANDARD:
        name = getattr(model_config, field)
        if name in sublayers.BUILT_IN[field]:
            continue
        own = _listed(getattr(model_config, f"{field}_parameters"))
        print(f"{field}: {name}({own}) from a plug-in")
    if reason := sublayers.only_tensorflow(model_config):
        print(
            f"{reason}, so validation and decoding use TensorFlow, and only the export formats "
            "saved_model and saved_model_native support the model"
        )
    if reason := sublayers.not_in_ctranslate2(model_config):
        print(f"no export to CTranslate2: {reason}")


def count_parameters(variables: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Adds up the parameters of each layer.

    Args:
        variables: pairs of a path, such as `transformer/encoder/layer_0/attention/query/kernel`,
            and a number of parameters.

    Returns:
        Number of parameters by layer, such as `encoder/layer_0`, in order of appearance.
    """
    counts: dict[str, int] = collections.defaultdict(int)
    for path, size in variables:
        layers = path.split("/")[1:-1]  # Drop the names of the model and the variable.
        counts["/".join(layers[:2])] += size
    return dict(counts)


def _baselines(config: "ExperimentConfig") -> dict[str, float | None]:
    """Returns the baseline of each task; without those of a file that cannot be read."""
    try:
        return baselines.of_tasks(config.task.pairs, config.trainer.schedule.baselines_file)[0]
    except errors.ConfigError:
        return {pair.name: pair.baseline for pair in config.task.pairs}


def _load_prepared(directory: str) -> "PreparedData | None":
    """Returns the prepared data; None if there is none."""
    from keras_mtl.data.prepare import load_prepared

    if not os.path.isdir(directory):
        return None
    try:
        return load_prepared(directory)
    except errors.DataError as error:
        print(f"{directory}: {error}")
        return None


def _readers(corpora: "Sequence[CorpusConfig]") -> str:
    """Returns the readers of a task, such as `parallel x5, tsv`."""
    counts = collections.Counter(corpus.reader for corpus in corpora)
    return ", ".join(name if n == 1 else f"{name} x{n}" for name, n in counts.items())


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())


def _shown(value: Any) -> str:
    """Returns a value of a difference as shortened text; of a task only the fields that are set."""
    if isinstance(value, dict):
        value = {key: child for key, child in value.items() if child not in (None, [], {}, "")}
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _product(shape: Iterable[int]) -> int:
    product = 1
    for size in shape:
        product *= int(size)
    return product
