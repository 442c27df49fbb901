"""A plan on paper: what a run costs on given hardware, by arithmetic.

Nothing is measured when a plan is made. The few figures that were measured are constants below,
each with the program that measures it.
"""

import dataclasses

import numpy as np

from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.configuration.source_vocabulary import vocabulary_sizes
from keras_mtl.configuration.stack_sharing import copies_of_stacks
from keras_mtl.data.batch_plan import make_buckets
from keras_mtl.data.packing import packed_shape
from keras_mtl.errors import ConfigError
from keras_mtl.simulation.accelerators import Hardware
from keras_mtl.simulation.experiment import Experiment
from keras_mtl.simulation.model_costs import Batch, ModelCosts
from keras_mtl.simulation.recurrent_costs import model_costs

# Share of padding by (mixed, packed), measured by benchmarks/mixture.py with 1,000 tasks.
_PADDING = {(False, False): 0.42, (False, True): 0.02, (True, False): 0.24, (True, True): 0.02}
# CPU seconds that drawing takes: for each task and batch, and by (mixed, packed) for each batch and
# for each pair. benchmarks/mixture.py with 1,000 tasks and 4,096 to 1,048,576 tokens in a batch.
_DRAW_TASK = 0.26e-6
_DRAW_BATCH = {(False, False): 0.0, (False, True): 5e-4, (True, False): 0.0, (True, True): 0.0}
_DRAW_PAIR = {
    (False, False): 0.0,
    (False, True): 0.4e-6,
    (True, False): 0.5e-6,
    (True, True): 0.9e-6,
}
# Tokens of gathered batches per CPU second of a core, the lowest of the same measurements.
_GATHERED_TOKENS = 2.8e6
# Multiplications per second and core of the engine, from its speed with batches of 32 on an AMD
# Zen 4 with AVX-512 (docs/explanation/engine.md): 288 and 940 target tokens/s with the size base.
_ENGINE_SPEED = {"float32": 51e9, "int8": 168e9}
PAGE = 4096  # A pair at a random place of a store costs one read of a page from the disk.


@dataclasses.dataclass(frozen=True)
class ScalePlan:
    """The figures of a plan. Times are lower bounds unless stated otherwise.

    Attributes:
        tasks: number of tasks.
        pairs: number of training pairs.
        target_tokens: target tokens of all training pairs.
        token_bytes: bytes of a token in the stores.
        data_bytes: size of the stores of training pairs; every host reads all of them.
        parameters: number of parameters.
        batch_pairs: pairs of a batch.
        batch_shape: shape of a batch, for the user.
        padding: share of padding in a batch.
        batches: number of batches of an update.
        flops: floating-point operations of the matrix products of an update.
        flops_seconds: seconds of an update at the peak of the hardware.
        access: estimated bytes that an update reads and writes in the chips' memories.
        access_seconds: seconds of an update at the peak bandwidth.
        exchanged_bytes: bytes of gradients that every chip sums with the others in an update.
        exchange_seconds: seconds of that at the peak of the interconnect; 0 if not known.
        epoch_updates: number of updates of an epoch over all pairs.
        run_updates: number of updates of the run.
        weight_bytes: bytes of weights, gradients, moments and averages on a chip.
        activation_bytes: estimated bytes that an update keeps for the backward pass on a chip.
        chip_bytes: memory of a chip; 0 if not known.
        input_bytes: bytes of batches that a host reads per second at the shortest time of an
            update.
        random_reads: pairs that a host reads per second at the shortest time of an update.
        input_cores: cores of a host that gather batches at that rate.
        draw_seconds: CPU seconds, on every host, that drawing the pairs of an update takes.
        validation_sentences: sentences of a validation; the first and the last one may have more.
        validation_core_seconds: core seconds of a validation by the engine.
        validation_seconds: seconds of a validation on one host.
        checkpoint_bytes: size of a checkpoint.
        kept_bytes: largest size of all checkpoints that are kept, and of the best weights.
    """

    tasks: int
    pairs: int
    target_tokens: float
    token_bytes: int
    data_bytes: float
    parameters: int
    batch_pairs: float
    batch_shape: str
    padding: float
    batches: int
    flops: float
    flops_seconds: float
    access: float
    access_seconds: float
    exchanged_bytes: float
    exchange_seconds: float
    epoch_updates: float
    run_updates: int
    weight_bytes: float
    activation_bytes: float
    chip_bytes: float
    input_bytes: float
    random_reads: float
    input_cores: float
    draw_seconds: float
    validation_sentences: int
    validation_core_seconds: float
    validation_seconds: float
    checkpoint_bytes: float
    kept_bytes: float

    @property
    def update_seconds(self) -> float:
        """Shortest time of an update: by operations or by memory access, whichever is longer."""
        return max(self.flops_seconds, self.access_seconds)


def make_plan(
    experiment: Experiment, hardware: Hardware, train_steps: int | None = None
) -> ScalePlan:
    """Computes what a run costs.

    Args:
        experiment: the experiment; its `lengths` are those of the pairs.
        hardware: what the run trains on.
        train_steps: number of updates of the run; None takes that of the configuration.

    Raises:
        ConfigError: the number of decoders is not known, or packed lengths are wrong.
    """
    config = experiment.config
    data, trainer = config.task.data, config.trainer
    sizes = np.array([float(task.size) for task in experiment.tasks])
    pairs = sizes.sum()
    if not pairs:
        raise ConfigError("the tasks have no pairs; a plan needs the sizes of the tasks")
    source, target = (sizes @ experiment.lengths) / pairs
    replicas = 1 if hardware.is_cpu else hardware.chips
    kind = experiment.mixed, data.packing
    batch, batch_pairs, shape = _batch(experiment, replicas, source, target)
    size, source_size = vocabulary_sizes(data)
    model = model_costs(config.task.model, size, _copies_of_stacks(config), source_size)
    value = 4 if config.runtime.mixed_precision_dtype == "float32" else 2
    batches = trainer.optimizer.gradient_accumulation_steps
    flops = batches * model.training_flops(batch)
    flops_seconds = flops / hardware.peak(config.runtime.mixed_precision_dtype)
    access = batches * model.memory_access(batch, value, replicas)
    access_seconds = access / hardware.chips / hardware.chip.bandwidth
    update_seconds = max(flops_seconds, access_seconds)
    gradients = 4.0 * model.parameters if replicas > 1 else 0.0
    link = hardware.chip.interconnect / 2  # In one direction; a ring sends every gradient twice.
    pairs_per_second = batches * batch_pairs / update_seconds / hardware.hosts
    token_bytes = 2 if max(size, source_size or 0) <= 1 << 16 else 4
    sentences, core_seconds = _validation(experiment, model)
    best = trainer.best
    validated = len(trainer.evaluation.tasks) or len(sizes)
    workers = trainer.evaluation.workers or hardware.host_cores
    weights = 4.0 * model.parameters
    state = weights * (1 + _copies(config, len(sizes)))
    return ScalePlan(
        tasks=len(sizes),
        pairs=int(pairs),
        target_tokens=pairs * target,
        token_bytes=token_bytes,
        # Two offsets of 8 bytes, and the pieces without tag and ends of sentence.
        data_bytes=pairs * (16 + token_bytes * max(0.0, source + target - 3)),
        parameters=model.parameters,
        batch_pairs=batch_pairs,
        batch_shape=shape,
        padding=_PADDING[kind],
        batches=batches,
        flops=flops,
        flops_seconds=flops_seconds,
        access=access,
        access_seconds=access_seconds,
        exchanged_bytes=gradients,
        exchange_seconds=2 * gradients / link if link else 0.0,
        epoch_updates=pairs / (batches * batch_pairs),
        run_updates=trainer.train_steps if train_steps is None else train_steps,
        weight_bytes=state + weights * (2 if batches > 1 else 1),
        activation_bytes=model.activations(batch.share(replicas), value),
        chip_bytes=hardware.chip.memory,
        input_bytes=pairs_per_second * max(PAGE, token_bytes * (source + target)),
        random_reads=pairs_per_second,
        input_cores=pairs_per_second * (source + target) / _GATHERED_TOKENS,
        draw_seconds=batches
        * (_DRAW_TASK * len(sizes) + _DRAW_BATCH[kind] + _DRAW_PAIR[kind] * batch_pairs),
        validation_sentences=sentences,
        validation_core_seconds=core_seconds,
        validation_seconds=core_seconds / workers,
        checkpoint_bytes=state,
        kept_bytes=state * trainer.max_to_keep
        + weights * (best.macro + best.worst + best.tasks * validated),
    )


def _batch(
    experiment: Experiment, replicas: int, source: float, target: float
) -> tuple[Batch, float, str]:
    """Returns the cells of a batch, its pairs and its shape."""
    data = experiment.config.task.data
    filled = 1 - _PADDING[experiment.mixed, data.packing]
    if data.packing:
        shape = packed_shape(
            data.max_length,
            data.tokens_per_batch,
            replicas,
            experiment.lengths,
            data.packed_lengths,
        )
        sides = shape.source_length, shape.target_length
        batch = Batch(shape.rows * sides[0], shape.rows * sides[1], *sides)
        full = float(shape.examples(np.array([source, target])))
        return batch, filled * full, str(shape)
    # Both sides of a bucket have the same length.
    buckets = make_buckets(
        data.max_length,
        data.tokens_per_batch,
        multiple_of=8 * replicas,
        lengths=data.bucket_lengths or None,
    )
    cells = float(np.mean([bucket.length * bucket.rows for bucket in buckets]))
    length = max(source, target)
    longest, shortest = buckets[-1], buckets[0]
    text = f"from {shortest.rows} x {shortest.length} to {longest.rows} x {longest.length}"
    return (
        Batch(cells, cells, length, length),
        filled * 2 * cells / (source + target),
        f"on average; {text} tokens on each side",
    )


def _copies_of_stacks(config: ExperimentConfig) -> dict[str, tuple[str, ...]]:
    model, pairs = config.task.model, config.task.pairs
    if model.sharing == "full":
        return {}
    if not pairs:
        raise ConfigError(
            f"task.model.sharing = {model.sharing!r} depends on the languages, but a list of tasks "
            "has none. Give the tasks in task.pairs, or use sharing = 'full'"
        )
    return copies_of_stacks(model, pairs)


def _copies(config: ExperimentConfig, tasks: int) -> int:
    """Returns the number of copies of the weights that a checkpoint has besides the weights."""
    optimizer = config.trainer.optimizer
    moments = 2 * (tasks if optimizer.moments == "per_task" else 1)
    return moments + (1 if optimizer.ema_momentum else 0)


def _validation(experiment: Experiment, model: ModelCosts) -> tuple[int, float]:
    """Returns the sentences of a validation, and the core seconds that the engine needs."""
    settings = experiment.config.trainer.evaluation
    chosen = [not settings.tasks or task.name in settings.tasks for task in experiment.tasks]
    counts = np.where(chosen, np.minimum(settings.max_pairs, experiment.dev_pairs), 0)
    multiplications = sum(
        count * model.decoding_multiplications(source, target, settings.beam_size)
        for count, (source, target) in zip(counts, experiment.lengths, strict=True)
    )
    share = min(1.0, settings.max_tasks / max(1, sum(chosen))) if settings.max_tasks else 1.0
    return (
        round(share * counts.sum()),
        share * multiplications / _ENGINE_SPEED[settings.compute_type],
    )
