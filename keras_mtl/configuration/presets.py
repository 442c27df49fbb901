"""Registered experiments: importing this module makes them known to ``exp_factory``.

``keras-mtl --experiment NAME`` starts from one of them, and so do Model Garden's own tools. A new
experiment is a function here, or in a module of the user that is imported first.
"""

from official.core import exp_factory

from keras_mtl.configuration import schema as config


@exp_factory.register_config_factory("translation/transformer")
def transformer() -> config.ExperimentConfig:
    """Every field at its default."""
    return config.ExperimentConfig()


@exp_factory.register_config_factory("translation/transformer_tiny")
def transformer_tiny() -> config.ExperimentConfig:
    """Learns short sentences in minutes on a CPU."""
    experiment = config.ExperimentConfig()
    experiment.task.model.size = "tiny"
    experiment.task.data.vocabulary.size = 4000
    experiment.task.data.max_length = 64
    experiment.task.data.tokens_per_batch = 2048
    experiment.task.decoding.max_length = 64
    experiment.trainer.train_steps = 2000
    experiment.trainer.optimizer.warmup_steps = 400
    experiment.trainer.evaluation.interval = 500
    experiment.trainer.checkpoint_interval = 500
    return experiment


@exp_factory.register_config_factory("translation/transformer_small")
def transformer_small() -> config.ExperimentConfig:
    """For some hundred thousand pairs, an hour on a CPU or minutes on an accelerator."""
    experiment = config.ExperimentConfig()
    experiment.task.model.size = "small"
    experiment.task.data.max_length = 96
    experiment.task.data.tokens_per_batch = 4096
    experiment.trainer.train_steps = 20_000
    experiment.trainer.optimizer.warmup_steps = 1000
    return experiment


@exp_factory.register_config_factory("translation/transformer_base")
def transformer_base() -> config.ExperimentConfig:
    """The base model of Vaswani et al., arXiv 1706.03762, table 3, with its batch and steps."""
    experiment = config.ExperimentConfig()
    experiment.task.model.size = "base"
    experiment.task.data.vocabulary.size = 32_000
    experiment.task.data.tokens_per_batch = 25_000
    experiment.trainer.train_steps = 100_000
    experiment.trainer.optimizer.warmup_steps = 4000
    return experiment


@exp_factory.register_config_factory("translation/transformer_big")
def transformer_big() -> config.ExperimentConfig:
    """The big model of Vaswani et al., arXiv 1706.03762, table 3, with its batch and steps."""
    experiment = config.ExperimentConfig()
    experiment.task.model.size = "big"
    experiment.task.data.vocabulary.size = 32_000
    experiment.task.data.tokens_per_batch = 25_000
    experiment.trainer.train_steps = 300_000
    experiment.trainer.optimizer.warmup_steps = 4000
    return experiment
