"""The configuration of an experiment: one tree of plain dataclasses, written to and read from YAML.

The names of the sections (`task`, `trainer`, `runtime`) are those of TensorFlow Model Garden.
`keras_mtl.garden.experiments` makes Model Garden's own configuration classes from these. Nothing
here builds anything, and nothing here imports TensorFlow.

A field that does not exist cannot be set: the classes have slots.
"""

import dataclasses
from typing import Any

from keras_mtl.configuration.sublayers import STANDARD

Options = dict[str, Any]
"""Free-form options of a registered component; the component itself checks their names."""


@dataclasses.dataclass(slots=True)
class CorpusConfig:
    """One corpus of a task.

    Attributes:
        reader: registered reader: cldr, csv, gettext, jsonl, parallel, parquet, tfds, tmx, tsv, or
            one of a plug-in.
        options: the reader's options, for example `{source_file: a.en, target_file: a.fr}`.
    """

    reader: str = ""
    options: Options = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class CleaningConfig:
    """Rules that drop a pair; each is counted and printed.

    Attributes:
        max_characters: longest source or target, in characters.
        max_length_ratio: longest side / shortest side, above `ratio_slack`. Lengths are in
            letters: a Chinese character counts as three, a Japanese or Korean syllable as two.
        ratio_slack: a pair whose sides differ by at most this number of letters passes the ratio
            rule.
        drop_identical: drop pairs whose source equals the target.
        drop_duplicates: keep the first of equal (source, target) pairs of a task.
        max_bad_lines: share of unreadable lines above which a file is an error, in [0, 1].
    """

    max_characters: int = 1000
    max_length_ratio: float = 4.0
    ratio_slack: int = 15
    drop_identical: bool = True
    drop_duplicates: bool = True
    max_bad_lines: float = 0.01


@dataclasses.dataclass(slots=True)
class TaskCleaningConfig:
    """One task's cleaning: every field of `CleaningConfig`; None takes `data.cleaning`'s."""

    max_characters: int | None = None
    max_length_ratio: float | None = None
    ratio_slack: int | None = None
    drop_identical: bool | None = None
    drop_duplicates: bool | None = None
    max_bad_lines: float | None = None


@dataclasses.dataclass(slots=True)
class PairConfig:
    """One task: a direction of translation.

    Attributes:
        name: unique name; empty means `source-target`.
        source: source language code.
        target: target language code.
        corpora: where its pairs come from; empty means the experiment's `data.corpora`.
        dev_corpora: pairs to validate on; empty means a part of `corpora` split off by a hash.
        test_corpora: pairs to test on; empty means a part of `corpora` split off by a hash.
        max_pairs: most training pairs to keep (chosen by a hash); None keeps all.
        baseline: score of a model trained on only this task, in the metric's unit; > 0.
        cleaning: the task's own values of the cleaning rules; fields that are None take those of
            `data.cleaning`.
    """

    name: str = ""
    source: str = ""
    target: str = ""
    corpora: list[CorpusConfig] = dataclasses.field(default_factory=list)
    dev_corpora: list[CorpusConfig] = dataclasses.field(default_factory=list)
    test_corpora: list[CorpusConfig] = dataclasses.field(default_factory=list)
    max_pairs: int | None = None
    baseline: float | None = None
    cleaning: TaskCleaningConfig = dataclasses.field(default_factory=TaskCleaningConfig)


@dataclasses.dataclass(slots=True)
class VocabularyConfig:
    """The SentencePiece vocabulary shared by all tasks.

    Attributes:
        size: number of ids, special ids, language tags and 256 byte pieces included.
        model_type: `unigram` or `bpe`.
        temperature: tasks are sampled for training the vocabulary by n_i^(1/temperature).
        max_sentences: most sentences it is trained on.
        character_coverage: share of characters with a piece of their own, in (0, 1].
        model_file: an existing SentencePiece model to use instead of training one.
    """

    size: int = 8000
    model_type: str = "unigram"
    temperature: float = 5.0
    max_sentences: int = 1_000_000
    character_coverage: float = 0.9995
    model_file: str = ""


@dataclasses.dataclass(slots=True)
class DataConfig:
    """From corpora to batches.

    Attributes:
        data_dir: directory of the prepared store; empty means `<model_dir>/data`.
        corpora: corpora of every task that names none.
        cleaning: rules that drop a pair.
        vocabulary: the subword vocabulary.
        dev_fraction: share of sources that goes to dev by hash, in [0, 1).
        test_fraction: share of sources that goes to test by hash, in [0, 1).
        dev_pairs: most dev pairs a task keeps.
        test_pairs: most test pairs a task keeps.
        max_length: longest source or target in tokens, tag and end of sentence included; longer
            pairs are dropped and counted.
        tokens_per_batch: token budget of a global batch: rows x bucket length.
        bucket_lengths: padded lengths; empty means a list made from `max_length`.
        granularity: `batch` (each batch from one task) or `example` (mixed batches).
    """

    data_dir: str = ""
    corpora: list[CorpusConfig] = dataclasses.field(default_factory=list)
    cleaning: CleaningConfig = dataclasses.field(default_factory=CleaningConfig)
    vocabulary: VocabularyConfig = dataclasses.field(default_factory=VocabularyConfig)
    dev_fraction: float = 0.01
    test_fraction: float = 0.01
    dev_pairs: int = 1000
    test_pairs: int = 1000
    max_length: int = 128
    tokens_per_batch: int = 4096
    bucket_lengths: list[int] = dataclasses.field(default_factory=list)
    granularity: str = "batch"


@dataclasses.dataclass(slots=True)
class TransformerConfig:
    """The model.

    Attributes:
        size: `tiny`, `small`, `base` or `big`: fills every field below that is None.
        hidden_dim: width of the model; a multiple of num_heads.
        num_heads: attention heads.
        intermediate_dim: width inside the feed-forward block.
        encoder_layers: layers of the encoder.
        decoder_layers: layers of each decoder.
        dropout: dropout on embeddings and on each sublayer's output.
        attention_dropout: dropout on attention weights.
        activation_dropout: dropout inside the feed-forward block.
        activation: `relu`, `gelu` or `silu`.
        feed_forward: `standard`, or a feed-forward block of a plug-in; only TensorFlow runs that.
        feed_forward_parameters: parameters of the plug-in's block.
        norm: `layer_norm`, or a normalization of a plug-in; only TensorFlow runs that.
        norm_parameters: parameters of the plug-in's normalization.
        positions: `sinusoidal` or `learned`.
        max_length: positions of a learned table, and the longest input that is accepted.
        tie_embeddings: one table for source, target and output projection.
        sharing: `full` (one decoder, language tag on the source) or `encoder` (a decoder for
            each target language).
        label_smoothing: probability mass moved off the right token, in [0, 1).
    """

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
    feed_forward: str = STANDARD["feed_forward"]
    feed_forward_parameters: Options = dataclasses.field(default_factory=dict)
    norm: str = STANDARD["norm"]
    norm_parameters: Options = dataclasses.field(default_factory=dict)
    positions: str = "sinusoidal"
    max_length: int = 256
    tie_embeddings: bool = True
    sharing: str = "full"
    label_smoothing: float = 0.1


@dataclasses.dataclass(slots=True)
class SearchOptions:
    """Options of beam search; `docs/reference/beam_search.md` describes the rule.

    Attributes:
        beam_size: k, live hypotheses of a sentence; >= 1. 1 is greedy decoding.
        num_hypotheses: hypotheses returned for a sentence; in [1, beam_size].
        patience: a sentence ends when round(beam_size * patience) hypotheses are finished (halves
            round up); > 0, and that number must reach `num_hypotheses`.
        min_length: fewest target tokens, end of sentence not counted; >= 0.
        max_length: most target tokens, end of sentence not counted; >= 1 and >= min_length.
        max_length_factor: when set, a sentence of n source tokens (tag and end of sentence not
            counted) gets at most floor(max_length_factor * n) + max_length_offset target tokens,
            never more than `max_length`; > 0.
        max_length_offset: see `max_length_factor`; >= 0.
        length_penalty: what a hypothesis' log-probability is divided by, its length being in tokens
            and counting the end of sentence: `none`, `power` (length^alpha), `gnmt`
            (((5 + length) / 6)^alpha), `lingvo` (((5 + length) / 5)^alpha) or `constant`
            (((c + length) / (c + 1))^alpha, c being `length_penalty_constant`).
        alpha: exponent of the length penalty; >= 0. 0 is the same as `none`.
        length_penalty_constant: c of the penalty `constant`; >= 0.
        coverage_penalty: b; b · Σ over source tokens of log(min(Σ of their attention, 1)) is added
            to the score; >= 0. Native only.
        repetition_penalty: logits of tokens that a hypothesis holds already are divided by it where
            above 0 and multiplied by it where below; in [0.01, 100], 1 is off. Native only.
        no_repeat_ngram: no hypothesis holds a sequence of this number of tokens twice; 0 is off.
            Native only.
        sampling: draw `beam_size` independent sequences at random, and return the
            `num_hypotheses` of best score. What is drawn depends only on `seed`, the sentence's
            index, the step and the number of the sequence. Native only, as are the four below.
        temperature: logits are divided by it before drawing; > 0. Scores are the model's own.
        top_k: draw from the `top_k` likeliest tokens; 0 is all.
        top_p: then draw from the fewest likeliest tokens that reach this share; in (0, 1].
        seed: in [0, 2^64).
        lingvo_pruning: steps and ends by Lingvo's rule (`docs/reference/beam_search.md`) instead.
            Native only, as are the five below, which are read only then.
        eos_max_logit_delta: a hypothesis may end where the end's log-probability is above that of
            its best token less this; >= 0.
        local_eos_threshold: and above this.
        beam_gap: a sentence ends when all live hypotheses are this far below the best that ended;
            >= 0.
        ensure_full_beam: and not before `beam_size` hypotheses have ended.
        force_eos_in_last_step: hypotheses may end at `max_length` in any case.

    Reference: `gnmt` and the coverage penalty are equation 14 of arXiv 1609.08144.
    """

    beam_size: int = 4
    num_hypotheses: int = 1
    patience: float = 1.0
    min_length: int = 1
    max_length: int = 256
    max_length_factor: float | None = None
    max_length_offset: int = 0
    length_penalty: str = "power"
    alpha: float = 1.0
    length_penalty_constant: float = 5.0
    coverage_penalty: float = 0.0
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0
    sampling: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    lingvo_pruning: bool = False
    eos_max_logit_delta: float = 5.0
    local_eos_threshold: float = -100.0
    beam_gap: float = 3.0
    ensure_full_beam: bool = False
    force_eos_in_last_step: bool = False


@dataclasses.dataclass(slots=True)
class DecodingConfig(SearchOptions):
    """Beam search of evaluation and export: every field of `SearchOptions`, and the batch.

    Attributes:
        max_length: this and the next two have defaults of their own: 2 tokens for one and 10 more.
        batch_size: sentences translated at once.
    """

    max_length: int = 128
    max_length_factor: float | None = 2.0
    max_length_offset: int = 10
    batch_size: int = 64


@dataclasses.dataclass(slots=True)
class TranslationConfig:
    """What is learned: tasks, data, model, decoding."""

    pairs: list[PairConfig] = dataclasses.field(default_factory=list)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: TransformerConfig = dataclasses.field(default_factory=TransformerConfig)
    decoding: DecodingConfig = dataclasses.field(default_factory=DecodingConfig)


@dataclasses.dataclass(slots=True)
class ScheduleConfig:
    """Which task gets the next batch.

    Attributes:
        name: registered schedule, for example proportional, temperature or inverse_ratio.
        parameters: its parameters, for example `{alpha: 1.0, epsilon: 0.05}`.
        baselines_file: JSON file {task: score}; a task's own `baseline` wins over it.
        application: what the factors of an implicit schedule multiply: `gradient` (a weight of
            the loss) or `learning_rate`, which needs batches of one task and no accumulation.
        draw: `random` by the probabilities, or `blend`: no chance, the next batch is of the
            task that is furthest behind its share.
    """

    name: str = "temperature"
    parameters: Options = dataclasses.field(default_factory=dict)
    baselines_file: str = ""
    application: str = "gradient"
    draw: str = "random"


@dataclasses.dataclass(slots=True)
class BalancingConfig:
    """What the losses or gradients of several tasks in one update do to each other.

    Attributes:
        name: registered balancing method, for example dwa or pcgrad; empty sums the losses.
        parameters: its parameters, for example `{temperature: 2.0}`.
    """

    name: str = ""
    parameters: Options = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class OptimizerConfig:
    """Adam with the Transformer's learning rate schedule (arXiv 1706.03762, section 5.3).

    Attributes:
        learning_rate: factor on hidden_dim^-0.5 * min(step^-0.5, step * warmup_steps^-1.5), or the
            peak if `learning_rate_schedule` is `linear` or `constant`.
        learning_rate_schedule: `transformer`, `linear` (to 0 at train_steps) or `constant`,
            all after a linear warm-up.
        warmup_steps: steps of linear warm-up.
        beta_1: Adam's decay of the first moment.
        beta_2: Adam's decay of the second moment.
        epsilon: Adam's epsilon.
        weight_decay: decoupled weight decay; 0 is Adam.
        global_clipnorm: largest norm of the gradient over all replicas; 0 does not clip.
        gradient_accumulation_steps: batches summed into one update.
        ema_momentum: momentum of the average of the weights that is evaluated and exported; 0 is
            off.
        moments: `shared` by the tasks; `scaled`: shared, the first with each gradient times its
            task's factor; or `per_task` (memory times the number of tasks). The last two need
            batches of one task and no accumulation. None takes what the application of an implicit
            schedule's factors needs, else shared ones.
    """

    learning_rate: float = 2.0
    learning_rate_schedule: str = "transformer"
    warmup_steps: int = 4000
    beta_1: float = 0.9
    beta_2: float = 0.98
    epsilon: float = 1e-9
    weight_decay: float = 0.0
    global_clipnorm: float = 1.0
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
        lag: steps after which a validation's scores take effect while training continues, with it
            on the engine, at most `interval`; 0 lets training wait for the scores.
        metric: `bleu`, `chrf`, `neg_log_perplexity` or that of a plug-in: drives the schedule
            and the choice of the best checkpoint.
        max_pairs: dev pairs of each task that are translated.
        beam_size: beam of validation (the test uses `task.decoding`).
        backend: what translates: `native` (the C++ engine on the host's CPU), `tf`, or
            `auto`: `native` if the engine loads, else `tf`.
        compute_type: of `native`: `float32` or `int8`.
        workers: threads of `native`; 0 takes one for each processor.
    """

    interval: int = 1000
    tasks: list[str] = dataclasses.field(default_factory=list)
    lag: int = 0
    metric: str = "chrf"
    max_pairs: int = 200
    beam_size: int = 1
    backend: str = "auto"
    compute_type: str = "float32"
    workers: int = 0


@dataclasses.dataclass(slots=True)
class TrainerConfig:
    """How long, how fast, how often saved."""

    train_steps: int = 100_000
    steps_per_loop: int = 100
    checkpoint_interval: int = 1000
    max_to_keep: int = 5
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    balancing: BalancingConfig = dataclasses.field(default_factory=BalancingConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    evaluation: EvaluationConfig = dataclasses.field(default_factory=EvaluationConfig)
    log_batches: bool = False


@dataclasses.dataclass(slots=True)
class RuntimeConfig:
    """Where it runs.

    Attributes:
        distribution_strategy: `one_device`, `mirrored` or `tpu`.
        num_replicas: devices of `mirrored`; 0 takes all.
        tpu: address of the TPU; `local` on a TPU VM.
        mixed_precision_dtype: `float32`; `mixed_bfloat16`; or `mixed_float16`, with a dynamic
            loss scale, for GPUs without bfloat16 (before Ampere).
        jit_compile: compile the training step with XLA; None does so on GPUs. On CPUs compiling
            each batch shape takes longer than a run of some hours gains.
        seed: seed of weights, dropout, shuffling and draws.
        deterministic: bit-identical weights from one seed on one device, at some cost in speed.
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
        trainer: how long, how fast, how often saved.
        runtime: where it runs.
        imports: plug-ins, modules that are imported before names of readers, schedules, metrics and
            others are looked up; see `keras_mtl.configuration.plugins`. Their code is run.
    """

    task: TranslationConfig = dataclasses.field(default_factory=TranslationConfig)
    trainer: TrainerConfig = dataclasses.field(default_factory=TrainerConfig)
    runtime: RuntimeConfig = dataclasses.field(default_factory=RuntimeConfig)
    imports: list[str] = dataclasses.field(default_factory=list)


def task_name(pair: PairConfig) -> str:
    """Returns the name of a task: its own, or `source-target`."""
    return pair.name or f"{pair.source}-{pair.target}"


def as_dict(section: Any) -> dict[str, Any]:
    """Returns a section as nested plain values, in the order of the fields; nothing is shared."""
    return dataclasses.asdict(section)
