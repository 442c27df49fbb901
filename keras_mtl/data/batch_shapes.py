"""The tasks' training pairs, and the shapes of their batches."""

from collections.abc import Sequence

from keras_mtl.configuration.schema import DataConfig, TranslationConfig
from keras_mtl.data.batch_plan import Bucket, make_buckets
from keras_mtl.data.packing import PackedShape, packed_shape
from keras_mtl.data.pair_changes import training_changes
from keras_mtl.data.pair_reading import mean_lengths
from keras_mtl.data.prepared import PreparedData
from keras_mtl.data.task_sources import TranslationSource


def training_sources(
    prepared: PreparedData, task_config: TranslationConfig, seed: int = 0
) -> list[TranslationSource]:
    """Returns the training pairs of each task.

    Args:
        prepared: the prepared data.
        task_config: the tasks and what changes their pairs when they are read.
        seed: seed of these changes.

    Raises:
        ConfigError: `task.data.subword_sampling` does not suit the vocabulary.
    """
    vocabulary = prepared.vocabulary
    changes = training_changes(task_config.pairs, task_config.data, vocabulary, seed)
    return [
        TranslationSource(
            task.name,
            prepared.reader(task.name, "train"),
            tag_id=vocabulary.source.tag_id(task.target),
            eos_id=vocabulary.eos_id,
            changes=changes.get(task.name),
        )
        for task in prepared.tasks
    ]


def batch_shapes(
    data: DataConfig, sources: Sequence[TranslationSource], replicas: int
) -> tuple[Bucket, ...] | PackedShape:
    """Chooses the shapes of batches.

    Args:
        data: the configuration, checked.
        sources: the tasks.
        replicas: number of devices that share a batch; the number of rows is a multiple of it.

    Returns:
        Buckets by increasing length; or the one shape of packed batches.
    """
    if data.packing:
        return packed_shape(
            data.max_length,
            data.tokens_per_batch,
            replicas,
            mean_lengths(sources),
            data.packed_lengths,
        )
    return make_buckets(
        data.max_length,
        data.tokens_per_batch,
        multiple_of=8 * replicas,
        lengths=data.bucket_lengths or None,
    )
