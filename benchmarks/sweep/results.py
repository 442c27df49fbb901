"""Small files with the results of finished runs, which spare other machines from training them.

`benchmarks/compare_schedules.py --results DIR` writes a file for each finished run, and takes the
runs whose files it finds there. A file has what the report reads: configuration, log, scores and
translations, but no weights. It holds neither paths of a machine nor texts of the corpus: sources
and references are those of the prepared data, which must be the same.
"""

import copy
import io
import json
import lzma
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from keras_mtl.configuration.files import diff, save_params
from keras_mtl.configuration.schema import ExperimentConfig
from keras_mtl.data.prepared import PreparedData, read_manifest
from keras_mtl.errors import DataError
from keras_mtl.evaluation.translations import SUFFIX, pairs_digest, read_translations
from keras_mtl.files import replace_file
from keras_mtl.run_files import METRICS_FILE, PARAMS_FILE, evaluation_file
from keras_mtl.training.run.jobs import CONFIG_FILE

EXTENSION = ".tar.xz"
EVALUATION = evaluation_file("test")
_TRANSLATIONS = Path(EVALUATION).stem
_IDENTITY = "identity.json"


class Results:
    """Results of the runs of a sweep.

    Args:
        directory: directory of the files; it is created if it is missing.
        data_dir: the prepared data of the sweep.

    Raises:
        DataError: the prepared data cannot be read.
    """

    def __init__(self, directory: Path, data_dir: Path) -> None:
        manifest = read_manifest(str(data_dir))
        if manifest is None:
            raise DataError(f"{data_dir} has no prepared data; run `keras-mtl prepare`")
        self._directory = directory
        self._data = PreparedData(str(data_dir), manifest)
        self._pairs: dict[str, list[tuple[str, str]]] = {}
        self._digests: dict[str, str] = {}

    def record(self, name: str, run: Path, config: ExperimentConfig) -> bool:
        """Writes the file of a run if there is none yet.

        Args:
            name: path of the run in the sweep, which becomes the path of the file.
            run: directory of the run.
            config: its configuration.

        Returns:
            Whether the file was written. False if it exists, or if the run was evaluated on other
            test sets than those of the prepared data.
        """
        path = self._path(name)
        if path.exists():
            return False
        evaluation = json.loads((run / EVALUATION).read_text(encoding="utf-8"))
        if not self._same_test_sets(evaluation):
            return False
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w:xz") as archive:
            _add(archive, _IDENTITY, json.dumps(self._identity(config)))
            for file in (METRICS_FILE, EVALUATION):
                _add(archive, file, (run / file).read_text(encoding="utf-8"))
            for task in evaluation["tasks"]:
                rows = read_translations(run / _TRANSLATIONS / f"{task}{SUFFIX}")
                text = "".join(
                    json.dumps(row.hypothesis, ensure_ascii=False) + "\n" for row in rows
                )
                _add(archive, f"{_TRANSLATIONS}/{task}{SUFFIX}", text)
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content.getvalue())
        return True

    def restore(self, name: str, run: Path, config: ExperimentConfig) -> bool:
        """Makes the directory of a run from its file.

        Args:
            name: path of the run in the sweep.
            run: directory of the run, which must not have been started.
            config: its configuration.

        Returns:
            Whether the run is restored. False if the file is missing, or was written for another
            configuration, other data or other baselines.

        Raises:
            DataError: the file is damaged.
        """
        path = self._path(name)
        if not path.exists():
            return False
        files = _read(path)
        try:
            identity = json.loads(files[_IDENTITY])
            evaluation = json.loads(files[EVALUATION])
            if identity != self._identity(config) or not self._same_test_sets(evaluation):
                return False
            texts = {task: self._rejoined(task, files) for task in evaluation["tasks"]}
            log = files[METRICS_FILE]
        except (KeyError, ValueError, TypeError) as error:
            raise DataError(f"{path} is damaged: {error!r}. Delete it") from error
        (run / _TRANSLATIONS).mkdir(parents=True, exist_ok=True)
        for task, text in texts.items():
            replace_file(run / _TRANSLATIONS / f"{task}{SUFFIX}", text)
        replace_file(run / METRICS_FILE, log)
        for file in (CONFIG_FILE, PARAMS_FILE):
            save_params(config, run / file)
        # Last, because it marks the run as finished.
        replace_file(run / EVALUATION, files[EVALUATION])
        return True

    def _path(self, name: str) -> Path:
        return self._directory / f"{name}{EXTENSION}"

    def _identity(self, config: ExperimentConfig) -> Mapping[str, Any]:
        """Returns what two runs with the same results have in common."""
        file = config.trainer.schedule.baselines_file
        baselines = json.loads(Path(file).read_text(encoding="utf-8")) if file else None
        default = ExperimentConfig()
        changed = {path: value for path, _, value in diff(default, _without_paths(config))}
        return json.loads(
            json.dumps(
                {
                    "configuration": {path: changed[path] for path in sorted(changed)},
                    "baselines": baselines,
                    "vocabulary": self._data.manifest["vocabulary_hash"],
                    "train_sizes": {task.name: task.train_size for task in self._data.tasks},
                }
            )
        )

    def _same_test_sets(self, evaluation: Mapping[str, Any]) -> bool:
        return all(
            result["test_set_hash"] == self._digest(task)
            for task, result in evaluation["tasks"].items()
        )

    def _test_pairs(self, task: str) -> list[tuple[str, str]]:
        if task not in self._pairs:
            self._pairs[task] = list(self._data.reader(task, "test").texts())
        return self._pairs[task]

    def _digest(self, task: str) -> str:
        if task not in self._digests:
            self._digests[task] = pairs_digest(self._test_pairs(task))
        return self._digests[task]

    def _rejoined(self, task: str, files: Mapping[str, str]) -> str:
        """Returns the translations of a task with their sources and references."""
        lines = files[f"{_TRANSLATIONS}/{task}{SUFFIX}"].split("\n")[:-1]
        rows = [
            {"source": source, "hypothesis": json.loads(line), "reference": reference}
            for line, (source, reference) in zip(lines, self._test_pairs(task), strict=True)
        ]
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _without_paths(config: ExperimentConfig) -> ExperimentConfig:
    """Returns a configuration without the places of its data, which differ between machines."""
    config = copy.deepcopy(config)
    config.task.data.data_dir = ""
    config.trainer.schedule.baselines_file = ""
    config.imports = [Path(name).name for name in config.imports]
    for section in (config.task.data, *config.task.pairs):
        for field in ("corpora", "dev_corpora", "test_corpora"):
            if getattr(section, field, None):
                setattr(section, field, [])
    return config


def _add(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    # Without a date or an owner, the same results are the same bytes.
    entry = tarfile.TarInfo(name)
    entry.size = len(data)
    archive.addfile(entry, io.BytesIO(data))


def _read(path: Path) -> dict[str, str]:
    """Returns the texts in a file by name."""
    try:
        return dict(_texts(path))
    except (OSError, EOFError, lzma.LZMAError, tarfile.TarError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}. Delete it") from error


def _texts(path: Path) -> Iterator[tuple[str, str]]:
    with tarfile.open(path, "r:xz") as archive:
        for entry in archive:
            file = archive.extractfile(entry)
            if file is not None:
                yield entry.name, file.read().decode()
