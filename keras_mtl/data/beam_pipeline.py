"""Preparation as an Apache Beam pipeline, on any runner; needs the extra `beam`, no TensorFlow.

Only this module knows Beam, which it imports when a pipeline is built. The steps are functions of
`distributed_steps` and `distributed_stores`.
"""

import functools
import pickle
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_mtl import errors
from keras_mtl.configuration.schema import DataConfig, PairConfig
from keras_mtl.data import distributed_steps as steps
from keras_mtl.data import distributed_stores as stores
from keras_mtl.data.prepare_counts import FIELDS

# Bytes of corpora for each group in which duplicates are searched, and most groups.
_BYTES_PER_BUCKET = 8 << 20
_MOST_BUCKETS = 512
_RESULT = "result.pickle"


class Runner(NamedTuple):
    """A Beam runner.

    Attributes:
        name: name of the runner, such as `DirectRunner` or `DataflowRunner`.
        options: its options, such as `--region=europe-west1`.
    """

    name: str
    options: Sequence[str] = ()


def check_runner(runner: Runner) -> None:
    """Raises ConfigError if Beam is not installed, or does not know the runner or an option."""
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ModuleNotFoundError as error:
        raise errors.ConfigError(
            f"--runner {runner.name}: Apache Beam is not installed. Install the extra `beam` in an "
            "environment of its own"
        ) from error
    try:
        beam.runners.create_runner(runner.name)
    except (ValueError, ImportError, AttributeError) as error:
        raise errors.ConfigError(f"--runner {runner.name}: {error}") from error
    PipelineOptions([*runner.options])


def make_plan(
    tasks: Sequence[PairConfig], data: DataConfig, keep_train_text: bool, size: int
) -> steps.Plan:
    """Returns the plan of a pipeline.

    Args:
        tasks: the tasks, with names and corpora filled in.
        data: the settings of their data.
        keep_train_text: whether training stores keep text.
        size: bytes of all corpora.
    """
    units: list[steps.Unit] = []
    modules: dict[str, None] = {}
    order = [(number, field) for number in range(len(tasks)) for field in FIELDS[:2]]
    for number, field in [*order, *((number, "corpora") for number in range(len(tasks)))]:
        for index, corpus in enumerate(getattr(tasks[number], field)):
            parts = steps.parts_of(tasks[number], corpus)
            modules[type(parts[0]).__module__] = None
            units += [
                steps.Unit(len(units) + part, number, field, index, part)
                for part in range(len(parts))
            ]
    buckets = min(max(size // _BYTES_PER_BUCKET, 1), _MOST_BUCKETS)
    return steps.Plan(tasks, data, keep_train_text, units, tuple(modules), buckets)


def _tagged(
    element: Any, function: Callable[..., Iterable[tuple[str, Any]]], *arguments: Any
) -> Iterator[Any]:
    """Turns what a step yields, (kind, value), into outputs with tags."""
    import apache_beam as beam

    for kind, value in function(element, *arguments):
        yield beam.pvalue.TaggedOutput(kind, value)


def _map(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns `beam.Map`. Types of annotations would choose coders without unsigned integers."""
    import apache_beam as beam

    return beam.Map(function, *arguments).with_output_types(Any)


def _flat_map(function: Callable[..., Any], *arguments: Any) -> Any:
    """Returns `beam.FlatMap`; see `_map`."""
    import apache_beam as beam

    return beam.FlatMap(function, *arguments).with_output_types(Any)


def _added(arrays: Iterable[Any]) -> Any:
    """Returns the sum of Counters or arrays; the sum of none is 0."""
    total: Any = 0
    for each in arrays:
        if isinstance(each, dict):
            total = total or type(each)()
            for name, value in each.items():
                total[name] += value
        elif not isinstance(each, int):
            total = total + each
    return total


def _upload(path: str, name: str, output: str) -> None:
    """Copies a local file to the directory of the result; a repeated attempt replaces it."""
    from apache_beam.io.filesystems import FileSystems

    place = FileSystems.join(output, name)
    with open(path, "rb") as file, FileSystems.create(place, "application/octet-stream") as copy:
        shutil.copyfileobj(file, copy, 16 << 20)


def _write_result(values: Iterable[tuple[str, Any]], output: str) -> None:
    from apache_beam.io.filesystems import FileSystems

    with FileSystems.create(FileSystems.join(output, _RESULT), "application/octet-stream") as file:
        file.write(pickle.dumps(list(values)))


def _keyed(piece: steps.Piece) -> tuple[int, steps.Piece]:
    return piece.order, piece


def _train_size(element: tuple[tuple[int, str], np.ndarray]) -> tuple[int, int]:
    (task, _), counts = element
    return task, int(counts[list(steps.STORED["train"])].sum())


class _Pipeline:
    """The parts of the pipeline.

    Args:
        pipeline: a `beam.Pipeline`.
        plan: the plan.
        output: directory of the result.
    """

    def __init__(self, pipeline: Any, plan: steps.Plan, output: str) -> None:
        import apache_beam as beam

        self._beam = beam
        self._pipeline = pipeline
        self._plan = plan
        self._output = output
        self._results: list[Any] = []

    def _report(self, kind: str, collection: Any) -> None:
        """Adds small values to the result, as (kind, value)."""
        tagged = collection | f"report {kind}" >> _map(_pair, kind)
        self._results.append(tagged)

    def build(self, given: Sequence[bytes | None]) -> None:
        """Builds all steps.

        Args:
            given: the models of the vocabulary; None trains one.
        """
        beam = self._beam
        pieces = self._counted(self._split(self._read()))
        models = self._model(pieces, given)
        batches = pieces | "encode" >> _flat_map(
            _tagged, stores.encode, beam.pvalue.AsList(models), self._plan
        ).with_outputs("batch", "encoded")
        self._report("encoded", batches.encoded | "sum encoded" >> beam.CombinePerKey(_added))
        self._write(batches.batch, models)
        (
            self._results
            | "all results" >> beam.Flatten()
            | "one group" >> beam.GroupBy(_zero)
            | "values" >> beam.Values()
            | "write result" >> _map(_write_result, self._output)
        )

    def _read(self) -> Any:
        """Reads and cleans; returns the pieces."""
        beam, plan = self._beam, self._plan
        read = (
            self._pipeline
            | "parts" >> beam.Create(list(plan.units))
            | "spread parts" >> beam.Reshuffle()
            | "read"
            >> _flat_map(_tagged, steps.read_unit, plan).with_outputs("chunk", "read", "error")
        )
        self._report("read", read.read)
        self._report("error", read.error)
        cleaned = (
            read.chunk
            | "spread chunks" >> beam.Reshuffle()
            | "clean" >> _flat_map(_tagged, steps.clean, plan).with_outputs("piece", "cleaned")
        )
        self._report("cleaned", cleaned.cleaned | "sum cleaned" >> beam.CombinePerKey(_added))
        return cleaned.piece

    def _split(self, pieces: Any) -> Any:
        """Returns the pieces with the final places of all pairs."""
        beam, plan = self._beam, self._plan
        as_dict, as_one = beam.pvalue.AsDict, beam.pvalue.AsSingleton
        duplicates = (
            pieces
            | "buckets" >> _flat_map(steps.in_buckets, plan)
            | "group buckets" >> beam.GroupByKey()
            | "duplicates" >> _flat_map(steps.duplicate_rows)
        )
        given = (
            pieces
            | "given sources" >> _flat_map(steps.given_sources)
            | "union given" >> beam.CombineGlobally(steps.union)
        )
        keyed = pieces | "key pieces" >> _map(_keyed)
        placed = (
            {"pieces": keyed, "duplicates": duplicates}
            | "join duplicates" >> beam.CoGroupByKey()
            | "place" >> _flat_map(steps.place, as_one(given), plan)
        )
        limits = as_dict(
            placed
            | "candidates of caps" >> _flat_map(steps.capped, plan)
            | "lowest" >> beam.CombinePerKey(steps.lowest)
            | "limits" >> _map(steps.threshold)
        )
        capped = placed | "caps" >> _map(steps.apply_caps, limits)
        held_out = (
            capped
            | "held out sources" >> _flat_map(steps.chosen_sources)
            | "union held out" >> beam.CombineGlobally(steps.union)
        )
        returned = capped | "return" >> _map(steps.give_back, as_one(held_out), limits, plan)
        rooms = as_dict(
            returned
            | "returning" >> _flat_map(steps.returning, limits, plan)
            | "lowest returning" >> beam.CombinePerKey(steps.lowest)
            | "rooms" >> _map(steps.threshold)
        )
        final = returned | "apply rooms" >> _map(steps.apply_room, rooms)
        # Several steps read the pieces, which must not be computed for each of them.
        return final | "keep pieces" >> beam.Reshuffle()

    def _counted(self, pieces: Any) -> Any:
        """Reports the numbers of pairs and samples; returns the pieces."""
        beam = self._beam
        counts = (
            pieces
            | "places" >> _map(steps.place_counts)
            | "sum places" >> beam.CombinePerKey(_added)
        )
        self._report("places", counts)
        self._counts = counts
        ranks = (
            pieces
            | "kept" >> _map(steps.kept)
            | "group kept" >> beam.GroupByKey()
            | "ranks" >> _flat_map(steps.sample_ranks)
        )
        samples = pieces | "sample" >> _flat_map(steps.sampled, beam.pvalue.AsDict(ranks))
        self._report("sample", samples)
        return pieces

    def _model(self, pieces: Any, given: Sequence[bytes | None]) -> Any:
        """Returns the models of the vocabulary in one element; no element after an error."""
        beam, plan = self._beam, self._plan
        if None not in given:
            return self._pipeline | "vocabulary" >> beam.Create([list(given)])
        sizes = (
            self._counts
            | "of training" >> beam.Filter(_is_of_corpora)
            | "train sizes" >> _map(_train_size)
        )
        copies = (
            pieces
            | "train ranges" >> _flat_map(stores.train_ranges)
            | "group ranges" >> beam.GroupByKey()
            | "draw" >> _flat_map(stores.draw, beam.pvalue.AsDict(sizes), plan)
        )
        drawn = pieces | "drawn text" >> _flat_map(stores.drawn_text, beam.pvalue.AsDict(copies))
        trained = (
            drawn
            | "all drawn text" >> beam.GroupBy(_zero)
            | "texts" >> beam.Values()
            | "train vocabulary"
            >> _flat_map(_tagged, stores.train_model, plan, given).with_outputs("models", "error")
        )
        self._report("model error", trained.error)
        self._report("models", trained.models)
        return trained.models

    def _write(self, batches: Any, models: Any) -> None:
        beam, plan = self._beam, self._plan
        as_dict = beam.pvalue.AsDict
        cuts = as_dict(
            batches
            | "fine counts" >> _map(stores.fine_counts)
            | "sum fine counts" >> beam.CombinePerKey(stores.merged_counts)
            | "cuts" >> _map(stores.cut_bins, plan)
        )
        firsts = as_dict(
            batches
            | "near cuts" >> _flat_map(stores.near_cuts, cuts)
            | "group near cuts" >> beam.GroupByKey()
            | "exact cuts" >> _map(stores.exact_cuts, cuts)
        )
        empty = self._pipeline | "empty batches" >> beam.Create(stores.empty_batches(plan))
        sharded = batches | "files" >> _flat_map(stores.in_shards, firsts)
        written = (
            [empty, sharded]
            | "all batches" >> beam.Flatten()
            | "group files" >> beam.GroupByKey()
            | "write"
            >> _flat_map(
                stores.write_store,
                beam.pvalue.AsList(models),
                firsts,
                plan,
                functools.partial(_upload, output=self._output),
            )
        )
        self._report("stored", written)


def _pair(value: Any, kind: str) -> tuple[str, Any]:
    return kind, value


def _zero(value: Any) -> int:
    return 0


def _is_of_corpora(element: tuple[tuple[int, str], Any]) -> bool:
    return element[0][1] == "corpora"


def run_pipeline(
    plan: steps.Plan, output: str, given: Sequence[bytes | None], runner: Runner
) -> list[tuple[str, Any]]:
    """Runs the pipeline; returns what its steps report, as (kind, value).

    Args:
        plan: the plan.
        output: directory that all workers can write to; it receives the stores.
        given: the models of the vocabulary; None trains one.
        runner: the runner.
    """
    import apache_beam as beam
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions([f"--runner={runner.name}", *runner.options])
    with beam.Pipeline(options=options) as pipeline:
        _Pipeline(pipeline, plan, output).build(given)
    place = FileSystems.join(output, _RESULT)
    with FileSystems.open(place) as file:
        result: list[tuple[str, Any]] = pickle.loads(file.read())
    FileSystems.delete([place])
    return result
