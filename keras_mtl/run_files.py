"""Names of the files in a run's directory and in a directory of prepared data.

Each name is defined only here. The module that writes a file documents its content.
"""

import os

PARAMS_FILE = "params.yaml"
"""The configuration of a run."""

VOCABULARY_FILE = "vocabulary.model"
"""The vocabulary, a SentencePiece model, of prepared data; each run has a copy."""

SOURCE_VOCABULARY_FILE = "source_vocabulary.model"
"""The vocabulary of the sources, if it is not that of the targets."""

TASKS_FILE = "tasks.json"
"""The tasks of a trained model and their decoders."""

INITIAL_WEIGHTS_FILE = "initial_weights.json"
"""The models from which a run took its first weights, and what each variable took."""

DATA_DIRECTORY = "data"
"""Directory of a run's prepared data unless `task.data.data_dir` is set."""

MANIFEST_FILE = "manifest.json"
"""The content of prepared data, and the settings and inputs that it was prepared from."""

BEST_SCORES_FILE = "scores.json"
"""The scores of the checkpoints in a directory of best weights, the best first."""

METRICS_FILE = "metrics.jsonl"
"""The events of a run, one JSON object per line."""

SAMPLES_FILE = "samples.jsonl"
"""Translations of a few dev sentences at each validation of a run, one JSON object per line."""

MODEL_FILE = "model_analysis.txt"
"""The variables of a run's model, with their shapes and numbers of parameters."""

BASELINES_FILE = "baselines.json"
"""For each task, the score of a model that was trained on only that task."""


def data_directory(configured: str, model_dir: str | os.PathLike[str]) -> str:
    """Returns the directory of a run's prepared data.

    Args:
        configured: `task.data.data_dir`; empty means a directory in `model_dir`.
        model_dir: directory of the run.
    """
    return configured or os.path.join(model_dir, DATA_DIRECTORY)


def evaluation_file(part: str) -> str:
    """Returns the name of the report on a split (`test`) or on a list of corpora (`news`)."""
    return f"evaluation-{part}.json"
