"""The configuration of an experiment: one tree of plain dataclasses, written to and read from YAML.

The names of the sections (`task`, `trainer`, `runtime`) are those of TensorFlow Model Garden.
`keras_mtl.garden.experiments` makes Model Garden's configuration classes from these classes. This
module builds nothing and imports no TensorFlow.

The classes have slots, so a field that does not exist cannot be set.
"""

import dataclasses
import keyword
from typing import Any

from keras_mtl.configuration.adapters import AdapterConfig
from keras_mtl.configuration.architectures import TRANSFORMER
from keras_mtl.configuration.corpus_sections import (
    CleaningConfig,
    CorpusConfig,
    Options,
    TaskCleaningConfig,
)
from keras_mtl.configuration.initial_weights import InitConfig
from keras_mtl.configuration.keeping import BestConfig, PlateauConfig, StoppingConfig
from keras_mtl.configuration.optimizer_sections import ADAM, LearningRateFactorConfig
from keras_mtl.configuration.other_tasks import TRANSLATION, NoiseConfig, SubwordSamplingConfig
from keras_mtl.configuration.quantization import QuantizationConfig
from keras_mtl.configuration.schedule_sections import BalancingConfig, ScheduleConfig
from keras_mtl.configuration.search_options import DecodingConfig
from keras_mtl.configuration.stack_sharing import StacksConfig
from keras_mtl.configuration.sublayers import STANDARD
from keras_mtl.configuration.vocabulary_sections import SourceVocabularyConfig, VocabularyConfig


@dataclasses.dataclass(slots=True)
class PairConfig:
    """One task: a direction of translation, or a task on the target side of its corpora.

    Attributes:
        name: unique name; empty means `source-target`, or `target-kind` if it is not translation.
        source: source language code. If the task is not translation, the language of the other side
            of its corpora; empty if they have one side.
        target: target language code.
        corpora: corpora of its pairs; empty means the experiment's `data.corpora`.
        dev_corpora: corpora of its dev pairs; empty means a part of `corpora`, chosen by a hash.
        test_corpora: corpora of its test pairs; empty means a part of `corpora`, chosen by a hash.
        max_pairs: largest number of training pairs, chosen by a hash; None keeps all.
        baseline: score of a model trained on only this task, in the metric's unit; > 0.
        introduce_at: training step before which the task is not drawn; >= 0.
        stop_at: training step from which on the task is not drawn; None always draws it.
        max_epochs: largest number of passes over its training pairs; > 0. None takes
            `trainer.schedule.max_epochs`.
        metric: metric of its validation; empty means `trainer.evaluation.metric`, or `perplexity`
            if that compares translations and the task is not translation. If metrics differ, the
            best checkpoint is that of the highest average of score / baseline, or baseline / score
            of metrics that are better if lower.
        cleaning: cleaning rules of this task; fields that are None take the values of
            `data.cleaning`.
        train_only: regular expressions for the whole names of the variables that this task trains;
            empty means all. Batches must be of one task.
        kind: `translation`; `denoising`, which restores text from noisy text; or `language_model`,
            which predicts text without a source.
        noise: the noise of a denoising task.
    """

    name: str = ""
    source: str = ""
    target: str = ""
    corpora: list[CorpusConfig] = dataclasses.field(default_factory=list)
    dev_corpora: list[CorpusConfig] = dataclasses.field(default_factory=list)
    test_corpora: list[CorpusConfig] = dataclasses.field(default_factory=list)
    max_pairs: int | None = None
    baseline: float | None = None
    introduce_at: int = 0
    stop_at: int | None = None
    max_epochs: float | None = None
    metric: str = ""
    cleaning: TaskCleaningConfig = dataclasses.field(default_factory=TaskCleaningConfig)
    train_only: list[str] = dataclasses.field(default_factory=list)
    kind: str = TRANSLATION
    noise: NoiseConfig = dataclasses.field(default_factory=NoiseConfig)


@dataclasses.dataclass(slots=True)
class DataConfig:
    """Data: corpora, cleaning, vocabulary, splits and batches.

    Attributes:
        data_dir: directory of the prepared store, or its URL; empty means `<model_dir>/data`.
        corpora: corpora of every task that has none of its own.
        cleaning: rules that drop pairs.
        vocabulary: the subword vocabulary; if `source_vocabulary` is set, that of the targets.
        source_vocabulary: a vocabulary of the sources only.
        dev_fraction: share of sources that a hash assigns to the dev set, in [0, 1).
        test_fraction: share of sources that a hash assigns to the test set, in [0, 1).
        dev_pairs: largest number of dev pairs of a task.
        test_pairs: largest number of test pairs of a task.
        max_length: longest source or target in tokens, including tag and end of sentence; longer
            pairs are dropped and counted.
        shard_pairs: largest number of pairs in a file of the prepared store; a larger store has
            several files. Batches do not depend on it.
        tokens_per_batch: token budget of a global batch: rows times bucket length, or times the
            longer side of a packed row.
        bucket_lengths: padded lengths; empty means a list made from `max_length`.
        granularity: `batch` (each batch is of one task) or `example` (mixed batches).
        packing: put several pairs into one row, so that all batches have one shape and little
            padding. The model sees each pair as if it had the row to itself.
        packed_lengths: source and target tokens of a packed row, each at least `max_length`; empty
            takes twice `max_length` for one side and what suits the data for the other.
        subword_sampling: different segmentations of the same text in training.
    """

    data_dir: str = ""
    corpora: list[CorpusConfig] = dataclasses.field(default_factory=list)
    cleaning: CleaningConfig = dataclasses.field(default_factory=CleaningConfig)
    vocabulary: VocabularyConfig = dataclasses.field(default_factory=VocabularyConfig)
    source_vocabulary: SourceVocabularyConfig = dataclasses.field(
        default_factory=SourceVocabularyConfig
    )
    dev_fraction: float = 0.01
    test_fraction: float = 0.01
    dev_pairs: int = 1000
    test_pairs: int = 1000
    max_length: int = 128
    shard_pairs: int = 4_000_000
    tokens_per_batch: int = 4096
    bucket_lengths: list[int] = dataclasses.field(default_factory=list)
    granularity: str = "batch"
    packing: bool = False
    packed_lengths: list[int] = dataclasses.field(default_factory=list)
    subword_sampling: SubwordSamplingConfig = dataclasses.field(
        default_factory=SubwordSamplingConfig
    )


@dataclasses.dataclass(slots=True)
class TransformerConfig:
    """The model.

    Attributes:
        architecture: `transformer`; `rnmt`, the recurrent encoder and decoder of RNMT+ (arXiv
            1804.09849); or `hybrid`, the encoder of a Transformer with the decoder of RNMT+.
        size: `tiny`, `small`, `base`, `big` or `deep_shallow` of a Transformer, `tiny` or `base` of
            the others; fills every field below that is None.
        hidden_dim: width of the model; a multiple of `num_heads`.
        num_heads: number of attention heads.
        intermediate_dim: width inside the feed-forward block.
        encoder_layers: number of encoder layers.
        decoder_layers: number of layers of each decoder.
        dropout: dropout rate on embeddings and on the output of each sub-layer, in [0, 1).
        attention_dropout: dropout rate on attention weights, in [0, 1).
        activation_dropout: dropout rate inside the feed-forward block, in [0, 1).
        activation: `relu`, `gelu` or `silu`.
        self_attention: `multi_head`, or self-attention of a plug-in, which only TensorFlow runs.
        self_attention_parameters: parameters of the plug-in's self-attention.
        transparent_attention: each decoder layer attends to its own learned mixture of the outputs
            of all encoder layers (arXiv 1808.07233), not to the last output.
        feed_forward: `standard`; `gated`, the gated linear units of arXiv 2002.05202 with
            `activation` on the gate; or a block of a plug-in, which only TensorFlow runs.
        feed_forward_parameters: parameters of the plug-in's block.
        norm: `layer_norm`; `rms_norm` (arXiv 1910.07467); or a normalization of a plug-in, which
            only TensorFlow runs.
        norm_parameters: parameters of the plug-in's normalization.
        norm_position: `pre`: the input of each sub-layer is normalized, and the last output; or
            `post`: the sum of each sub-layer and its input is.
        positions: `sinusoidal` or `learned`, which are added to embeddings; `rotary`, which turns
            queries and keys of self-attention by their position (arXiv 2104.09864); or `none`.
        max_length: longest input in tokens, and the number of learned positions.
        tie_embeddings: use one table for source, target and output projection.
        tie_projection: use the table of the target for the output projection, too, if
            `tie_embeddings` is false.
        sharing: `full` (one decoder, and a language tag on the source), `encoder` (a decoder for
            each target language) or `by_stack`, as `stacks` says.
        stacks: which tasks share which stacks, if `sharing` is `by_stack`.
        adapters: sets of adapters, small weights that only some tasks use.
        init: trained models from which a new run takes its first weights; later ones override
            earlier ones.
        quantization: quantization-aware training.
        label_smoothing: probability mass that is moved away from the correct token, in [0, 1).
        logits_chunk: largest number of target positions of a device whose logits training holds in
            memory at once, for example 2048; 0 for no limit. With a limit, logits are computed
            twice, but their memory no longer grows with the batch.
        recompute: `none`; or `layer`: training keeps only the input of each layer of the encoder
            and decoder in memory, and computes the layer again in the backward pass.
    """

    architecture: str = TRANSFORMER
    size: str = "base"
    hidden_dim: int | None = None
    num_heads: int | None = None
    intermediate_dim: int | None = None
    encoder_layers: int | None = None
    decoder_layers: int | None = None
    dropout: float | None = None
    attention_dropout: float | None = None
    activation_dropout: float | None = None
    activation: str = "relu"
    self_attention: str = STANDARD["self_attention"]
    self_attention_parameters: Options = dataclasses.field(default_factory=dict)
    transparent_attention: bool = False
    feed_forward: str = STANDARD["feed_forward"]
    feed_forward_parameters: Options = dataclasses.field(default_factory=dict)
    norm: str = STANDARD["norm"]
    norm_parameters: Options = dataclasses.field(default_factory=dict)
    norm_position: str = "pre"
    positions: str = "sinusoidal"
    max_length: int = 256
    tie_embeddings: bool = True
    tie_projection: bool = False
    sharing: str = "full"
    stacks: StacksConfig = dataclasses.field(default_factory=StacksConfig)
    adapters: list[AdapterConfig] = dataclasses.field(default_factory=list)
    init: list[InitConfig] = dataclasses.field(default_factory=list)
    quantization: QuantizationConfig = dataclasses.field(default_factory=QuantizationConfig)
    label_smoothing: float = 0.1
    logits_chunk: int = 0
    recompute: str = "none"


@dataclasses.dataclass(slots=True)
class TranslationConfig:
    """What is learned: tasks, data, model and decoding.

    Attributes:
        pairs: the tasks, at least one.
        data: corpora, cleaning, vocabulary, splits and batches.
        model: the architecture and its sizes.
        decoding: beam search of evaluation and export.
    """

    pairs: list[PairConfig] = dataclasses.field(default_factory=list)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: TransformerConfig = dataclasses.field(default_factory=TransformerConfig)
    decoding: DecodingConfig = dataclasses.field(default_factory=DecodingConfig)


@dataclasses.dataclass(slots=True)
class OptimizerConfig:
    """The optimizer, by default Adam, and its learning rate.

    Attributes:
        name: `adam`, or an optimizer of Keras: AdamW, Adafactor, Lion, Muon, SGD and others.
        parameters: parameters of an optimizer of Keras, for example `{momentum: 0.9}`.
        learning_rate: factor of hidden_dim^-0.5 * min(step^-0.5, step * warmup_steps^-1.5), or the
            peak if `learning_rate_schedule` is not `transformer`; > 0.
        learning_rate_schedule: `transformer` (arXiv 1706.03762, section 5.3), `inverse_sqrt`,
            `linear`, `cosine`, `polynomial`, `piecewise` or `constant`, all after a linear warm-up.
        learning_rate_parameters: parameters of the schedule: `final` of `cosine` and `polynomial`
            (share of the peak at `train_steps`, 0), `power` of `polynomial` (1), `steps` and
            `factors` of `piecewise`.
        warmup_steps: steps of the linear warm-up; >= 1.
        plateau: decay of the learning rate when scores do not improve.
        learning_rate_factors: factors on the learning rates of variables; the first one whose
            expression matches counts, and 1 without a match.
        beta_1: Adam's decay rate of the first moment, in [0, 1).
        beta_2: Adam's decay rate of the second moment, in [0, 1).
        epsilon: Adam's epsilon; > 0.
        weight_decay: decoupled weight decay; 0 is plain Adam.
        global_clipnorm: largest norm of the gradient over all replicas; 0 does not clip.
        max_norm_deviation: an update is skipped if the logarithm of its gradient norm exceeds the
            running mean by more than this number of standard deviations; 0 skips none.
        gradient_accumulation_steps: number of batches whose gradients are summed into one update.
        ema_momentum: momentum of the moving average of the weights, which is evaluated and
            exported; in [0, 1), 0 is off.
        moments: Adam's moments. `shared`: all tasks share them. `scaled`: shared, but each gradient
            enters the first moment times the factor of its task. `per_task`: each task has its
            own, which multiplies their memory by the number of tasks. The last two need batches of
            one task and no accumulation. None takes what the application of an implicit schedule's
            factors needs, else `shared`.
    """

    name: str = ADAM
    parameters: Options = dataclasses.field(default_factory=dict)
    learning_rate: float = 2.0
    learning_rate_schedule: str = "transformer"
    learning_rate_parameters: Options = dataclasses.field(default_factory=dict)
    warmup_steps: int = 4000
    plateau: PlateauConfig = dataclasses.field(default_factory=PlateauConfig)
    learning_rate_factors: list[LearningRateFactorConfig] = dataclasses.field(default_factory=list)
    beta_1: float = 0.9
    beta_2: float = 0.98
    epsilon: float = 1e-9
    weight_decay: float = 0.0
    global_clipnorm: float = 1.0
    max_norm_deviation: float = 0.0
    gradient_accumulation_steps: int = 1
    ema_momentum: float = 0.0
    moments: str | None = None


@dataclasses.dataclass(slots=True)
class EvaluationConfig:
    """Validation of every task.

    Attributes:
        interval: steps between validations; 0 validates only at the end.
        tasks: names of the tasks that are validated; empty means all. The other tasks are trained
            without validation and need no dev pairs. A schedule that adapts to scores needs all.
        lag: with 0, training waits for the scores of a validation. With a larger value, the engine
            validates while training continues, and the scores take effect after this number of
            steps; at most `interval`.
        metric: `chrf`, `bleu`, `neg_log_perplexity` or another metric, also that of a plug-in. It
            drives the schedule and the choice of the best checkpoint.
        max_pairs: largest number of dev pairs of each task that are translated.
        max_tasks: largest number of tasks that a validation scores, except the first and the last
            one, which score all; 0 always scores all. The other tasks keep their latest scores.
        beam_size: beam size of validation; `task.decoding` sets that of the test.
        backend: what translates: `native` (the C++ engine on the host's CPU), `tf`, or
            `auto`: `native` if the engine loads, else `tf`.
        compute_type: arithmetic of `native`: `float32` or `int8`.
        workers: number of threads of `native`; 0 takes one for each processor.
        samples: number of dev sentences of each task whose translations a validation writes to
            `samples.jsonl` and TensorBoard; always the same ones.
        attention: add the attention of the decoder to the samples, and images to TensorBoard.
        histograms: write a histogram of each variable to TensorBoard when a validation begins.
    """

    interval: int = 1000
    tasks: list[str] = dataclasses.field(default_factory=list)
    lag: int = 0
    metric: str = "chrf"
    max_pairs: int = 200
    max_tasks: int = 0
    beam_size: int = 1
    backend: str = "auto"
    compute_type: str = "float32"
    workers: int = 0
    samples: int = 3
    attention: bool = False
    histograms: bool = False


@dataclasses.dataclass(slots=True)
class TrainerConfig:
    """How the model is trained: number of steps, checkpoints, schedule, optimizer, validation.

    Attributes:
        train_steps: number of training steps; each step is one update of the weights.
        steps_per_loop: largest number of steps between two lines of metrics.
        checkpoint_interval: steps between two checkpoints.
        checkpoint_minutes: also save when this time has passed since the last checkpoint; 0 is off.
        max_to_keep: number of newest checkpoints that are kept; >= 1.
        async_checkpointing: write checkpoints in a thread while training continues. The host needs
            memory for a copy of the weights and moments.
        best: number of best weights that are kept.
        stopping: when training ends before `train_steps`.
        schedule: the schedule, which decides which task gets the next batch.
        balancing: the balancing method, which combines losses or gradients of several tasks.
        optimizer: the optimizer and the learning rate.
        freeze: regular expressions; variables whose whole name matches one of them keep their
            weights and have no moments.
        evaluation: validation of every task.
        log_batches: write the step, task and hash of every batch to `batches.tsv`.
    """

    train_steps: int = 100_000
    steps_per_loop: int = 100
    checkpoint_interval: int = 1000
    checkpoint_minutes: float = 0.0
    max_to_keep: int = 5
    async_checkpointing: bool = False
    best: BestConfig = dataclasses.field(default_factory=BestConfig)
    stopping: StoppingConfig = dataclasses.field(default_factory=StoppingConfig)
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    balancing: BalancingConfig = dataclasses.field(default_factory=BalancingConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    freeze: list[str] = dataclasses.field(default_factory=list)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    log_batches: bool = False


@dataclasses.dataclass(slots=True)
class RuntimeConfig:
    """Where and how the program runs: devices, precision, compilation and seed.

    Attributes:
        distribution_strategy: `one_device`; `mirrored`, devices of one machine;
            `multi_worker_mirrored`, of several; `tpu`; or `off`, without `tf.distribute`.
        num_replicas: number of devices of `mirrored`; 0 takes all.
        tpu: address of the TPU; `local` on a TPU VM.
        mixed_precision_dtype: `float32`; `mixed_bfloat16`; or `mixed_float16`, with a dynamic
            loss scale, for GPUs without bfloat16 (before Ampere).
        jit_compile: compile the training step with XLA. None compiles on GPUs only: on CPUs,
            compiling each batch shape takes longer than a run of a few hours gains.
        seed: seed of weights, dropout, shuffling and draws, in [0, 2^32).
        deterministic: get bit-identical weights from one seed on one device, at some cost in speed.
    """

    distribution_strategy: str = "one_device"
    num_replicas: int = 0
    tpu: str = "local"
    mixed_precision_dtype: str = "float32"
    jit_compile: bool | None = None
    seed: int = 1
    deterministic: bool = True


@dataclasses.dataclass(slots=True)
class ExperimentConfig:
    """A whole experiment.

    Attributes:
        task: what is learned.
        trainer: how it is trained.
        runtime: where and how the program runs.
        imports: names of plug-ins. These modules are imported, which runs their code, before
            names of readers, schedules, metrics and other components are looked up.
    """

    task: TranslationConfig = dataclasses.field(default_factory=TranslationConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)
    imports: list[str] = dataclasses.field(default_factory=list)


def task_name(pair: PairConfig) -> str:
    """Returns the name of a task: its `name`, or, if that is empty, what it does."""
    if pair.kind != TRANSLATION:
        return pair.name or f"{pair.target}-{pair.kind}"
    return pair.name or f"{pair.source}-{pair.target}"


def source_language(pair: PairConfig) -> str:
    """Returns the source language: of a task with one side, its target if the field is empty."""
    return pair.source if pair.kind == TRANSLATION else pair.source or pair.target


def as_dict(section: Any) -> dict[str, Any]:
    """Returns a section as a new tree of plain values, in the order of its fields."""
    return dataclasses.asdict(
        section, dict_factory=lambda items: {field_name(name): value for name, value in items}
    )


def field_name(attribute: str) -> str:
    """Returns the name of an attribute in a configuration: `from_` is written `from`."""
    return attribute.removesuffix("_")


def attribute_name(field: str) -> str:
    """Returns the attribute of a field: Python does not allow a keyword such as `from`."""
    return f"{field}_" if keyword.iskeyword(field) else field
