"""Names of the files in a run's directory and in a directory of prepared data.

Each name is defined here once. A room that reads or writes a file describes its content.
"""

import os

PARAMS_FILE = "params.yaml"
"""The configuration of a run."""

VOCABULARY_FILE = "vocabulary.model"
"""The vocabulary, a SentencePiece model; prepared data has it, and a run has a copy."""

TASKS_FILE = "tasks.json"
"""The tasks of a trained model and their decoders."""

DATA_DIRECTORY = "data"
"""Where a run's data is prepared unless `task.data.data_dir` names another place."""

MANIFEST_FILE = "manifest.json"
"""What prepared data holds, and how it was prepared."""

METRICS_FILE = "metrics.jsonl"
"""The events of a run, one JSON object per line."""

BASELINES_FILE = "baselines.json"
"""The scores of models that were each trained on only one task, by task."""


def data_directory(configured: str, model_dir: str | os.PathLike[str]) -> str:
    """Returns the directory of a run's prepared data.

    Args:
        configured: `task.data.data_dir`; empty means a directory in `model_dir`.
        model_dir: the run's directory.
    """
    return configured or os.path.join(model_dir, DATA_DIRECTORY)


def evaluation_file(part: str) -> str:
    """Returns the name of the report on a split (`test`) or on a list of corpora (`news`)."""
    return f"evaluation-{part}.json"
