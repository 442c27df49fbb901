"""Prepares data: reads, cleans and splits corpora, trains the vocabulary, encodes and writes.

There are two passes. The first reads every corpus once and writes cleaned text to temporary files.
The vocabulary is trained on a sample of them. The second pass encodes them into stores. Everything
is written to a directory next to `data_dir` and renamed at the end, so prepared data is complete or
absent. Several processes read, clean and encode; the result does not depend on their number. Memory
holds buffers of fixed size, never a corpus.
"""

import contextlib
import fcntl
import functools
import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from keras_mtl import errors
from keras_mtl.configuration.schema import DataConfig, PairConfig
from keras_mtl.data import languages, prepare_inputs, prepared
from keras_mtl.data.prepare_inputs import Fingerprints
from keras_mtl.data.prepare_report import summary
from keras_mtl.data.prepare_samples import language_warnings, shown_pairs
from keras_mtl.data.prepare_settings import filled_tasks, stored_pairs
from keras_mtl.data.prepare_stores import write_stores
from keras_mtl.data.prepare_text import TaskText, read_text
from keras_mtl.data.prepare_vocabulary import VocabularyPart, complete, given_models, of_models
from keras_mtl.data.prepared import PreparedData, PreparedTask, load_prepared
from keras_mtl.data.processes import Processes
from keras_mtl.data.store_runs import disk_errors
from keras_mtl.data.vocabulary import Vocabulary
from keras_mtl.data.vocabulary_files import write_vocabulary
from keras_mtl.data.vocabulary_training import BOTH_SIDES, train_vocabulary
from keras_mtl.data.vocabulary_training import TaskText as VocabularyText
from keras_mtl.files import finish_replacing, remove, replacing_directory
from keras_mtl.hardware import processor_count
from keras_mtl.run_files import MANIFEST_FILE

if TYPE_CHECKING:
    from keras_mtl.data.beam_pipeline import Runner

__all__ = [
    "PreparedData",
    "PreparedTask",
    "load_prepared",
    "open_prepared",
    "prepare",
]

_SIDES = ("source", "target")
# Size of corpora from which several processes are faster: they start in half a second.
_BYTES_FOR_SEVERAL = 4_000_000


def prepare(
    pairs: Sequence[PairConfig],
    data_dir: str | os.PathLike[str],
    data: DataConfig | None = None,
    *,
    keep_train_text: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
    runner: "Runner | None" = None,
    log: Callable[[str], None] = print,
) -> PreparedData:
    """Prepares the data of all tasks, unless it is prepared already.

    Data that was prepared for more tasks is used unchanged, and the other tasks are ignored.

    Args:
        pairs: the tasks; at least one, names unique.
        data_dir: directory to write. Missing parents are created.
        data: default corpora, cleaning, split and vocabulary; None means the defaults.
        keep_train_text: whether training stores keep the text in addition to the tokens.
        overwrite: whether to replace data that was prepared from other inputs or settings.
        processes: number of processes that read and encode; the result does not depend on it. None
            means one for each processor that this process may use, or one for small corpora.
        runner: an Apache Beam runner that prepares the data instead of processes of this machine.
            Its workers must see the corpora and `data_dir`.
        log: function that is called with lines for the user: bad lines, and tables at the end.

    Returns:
        The prepared data, opened.

    Raises:
        ConfigError: tasks, a reader's options or the vocabulary's size are wrong.
        DataError: a corpus is missing or damaged, a task has no training pairs, the disk is full,
            or `data_dir` holds something else. `data_dir` is then unchanged.
    """
    data = data or DataConfig()
    tasks = filled_tasks(pairs, data)
    data_dir = os.path.abspath(os.fspath(data_dir))
    requested = prepare_inputs.requested(tasks, data, keep_train_text)
    found = None if overwrite else prepared.read_manifest(data_dir)
    fingerprints = Fingerprints(tasks, found and found["inputs"])
    inputs = {**requested, "files": fingerprints.files}
    changes = "" if found is None else _differences(found, inputs)
    if found is not None and not changes:
        # Without a lock, because the directory may belong to another user.
        return _as_it_is(data_dir, found, fingerprints, log)
    if fingerprints.missing:
        missing = prepare_inputs.missing_files(fingerprints.missing)
        instead = f"; {data_dir} was prepared from other inputs or settings: {changes}"
        raise errors.DataError(missing + (instead if changes else ""))
    parent, name = os.path.split(data_dir)
    with disk_errors(data_dir):
        os.makedirs(parent, exist_ok=True)
    with _locked(os.path.join(parent, f".{name}.lock"), data_dir, log):
        with disk_errors(data_dir):
            finish_replacing(data_dir)
            _tidy(data_dir, parent, name)
        found = _usable(data_dir, inputs, overwrite)
        if found is not None:
            return _as_it_is(data_dir, found, fingerprints, log)
        with contextlib.ExitStack() as replacing:
            with disk_errors(data_dir):
                partial = replacing.enter_context(replacing_directory(data_dir))
            places = os.fspath(partial), data_dir
            given = given_models(tasks, data)
            if runner is not None:
                from keras_mtl.data.distributed import prepare_into

                size = fingerprints.size
                prepare_into(*places, tasks, data, inputs, given, size, runner, log)
            else:
                with Processes(processes or _processes(fingerprints)) as pool:
                    _prepare_into(*places, tasks, data, inputs, given, pool, log)
            with disk_errors(data_dir):
                replacing.close()
    return load_prepared(data_dir)


def open_prepared(
    pairs: Sequence[PairConfig],
    data_dir: str | os.PathLike[str],
    data: DataConfig | None = None,
    *,
    place: str = "",
    log: Callable[[str], None] = print,
) -> PreparedData:
    """Opens data that was prepared from these inputs and settings; writes nothing.

    Args:
        pairs: the tasks; at least one, names unique.
        data_dir: directory of the prepared data.
        data: as of `prepare`.
        place: where messages say the data is; empty means `data_dir`.
        log: receives lines of text.

    Raises:
        ConfigError: tasks or a reader's options are wrong.
        DataError: the directory holds no prepared data, or it was prepared from other inputs or
            settings.
    """
    data = data or DataConfig()
    tasks = filled_tasks(pairs, data)
    data_dir = os.path.abspath(os.fspath(data_dir))
    place = place or data_dir
    found = prepared.read_manifest(data_dir)
    if found is None:
        raise errors.DataError(f"{place}: no prepared data is there ({MANIFEST_FILE} is missing)")
    fingerprints = Fingerprints(tasks, found["inputs"])
    inputs = {**prepare_inputs.requested(tasks, data), "files": fingerprints.files}
    changes = _differences(found, inputs)
    if changes:
        raise errors.DataError(
            f"{place}: prepared from other inputs or settings: {changes}; choose another "
            "task.data.data_dir, or replace it with `keras-mtl prepare --overwrite`"
        )
    return _as_it_is(data_dir, found, fingerprints, log)


def _processes(fingerprints: Fingerprints) -> int:
    """Returns the number of processes that suits the corpora."""
    return processor_count() if fingerprints.size >= _BYTES_FOR_SEVERAL else 1


def _tidy(data_dir: str, parent: str, name: str) -> None:
    """Completes or removes what killed processes of earlier versions left next to `data_dir`.

    They wrote into directories with random names. The caller holds the lock that they held.
    """
    pattern = os.path.join(glob.escape(parent), f".{glob.escape(name)}.*.partial")
    for replaced in glob.glob(f"{pattern}.old"):
        if os.path.lexists(data_dir):
            remove(replaced)
        else:  # Killed between the two renames.
            os.rename(replaced, data_dir)
    for partial in glob.glob(pattern):
        remove(partial)


@contextlib.contextmanager
def _locked(path: str, data_dir: str, log: Callable[[str], None]) -> Iterator[None]:
    """Holds a lock file, so that only one process prepares a directory; removes it at the end."""
    while True:
        with disk_errors(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log(f"{data_dir}: another process is preparing it; waiting for its result")
                fcntl.flock(handle, fcntl.LOCK_EX)
            # The previous holder may have removed the file; a lock on a removed file has no effect.
            try:
                holds = os.path.samestat(os.fstat(handle), os.stat(path))
            except FileNotFoundError:
                holds = False
            if holds:
                try:
                    yield
                finally:
                    os.unlink(path)
                return
        finally:
            os.close(handle)


def _as_it_is(
    data_dir: str,
    manifest: dict[str, Any],
    fingerprints: Fingerprints,
    log: Callable[[str], None],
) -> PreparedData:
    if fingerprints.missing:
        # Training reads only the store, so prepared data can be used without its corpora.
        log(
            f"warning: {data_dir}: prepared already; its corpora are missing, so it is used as it "
            f"is, and changes of the corpora are not detected: "
            f"{prepare_inputs.missing_files(fingerprints.missing)}"
        )
    else:
        log(f"{data_dir}: prepared already from these inputs and settings; used as it is")
    older = manifest["inputs"].get("prepare_version") != prepared.PREPARE_VERSION
    if older and any(_is_short(task[side]) for task in manifest["tasks"] for side in _SIDES):
        log(
            f"{data_dir}: prepared by an older version, whose cleaning drops more short Chinese, "
            "Japanese and Korean pairs; `keras-mtl prepare --overwrite` prepares it again (models "
            "trained on it then need the old vocabulary back)"
        )
    names = list(fingerprints.files)
    unused = [name for name in manifest["inputs"]["task_order"] if name not in names]
    if unused:
        log(f"{data_dir}: tasks that are not used: {', '.join(unused)}")
    data = load_prepared(data_dir, names)
    for warning in data.warnings:
        log(f"warning: {warning}")
    return data


def _differences(manifest: dict[str, Any], inputs: dict[str, Any]) -> str:
    """Returns how prepared data differs from the request; its other tasks are ignored."""
    known = prepare_inputs.narrowed(manifest["inputs"], inputs["tasks"])
    return prepare_inputs.differences(known, inputs)


def _is_short(code: str) -> bool:
    """Whether an older cleaning dropped short texts of a language."""
    tag = languages.parse(code)
    return tag is not None and tag.language in ("zh", "ja", "ko")


def _usable(data_dir: str, inputs: dict[str, Any], overwrite: bool) -> dict[str, Any] | None:
    """Returns the manifest if `data_dir` holds the requested data; None if it must be written.

    Raises:
        DataError: the directory holds something that must not be replaced.
    """
    manifest = prepared.read_manifest(data_dir)
    if manifest is None:
        if os.path.isdir(data_dir) and not os.listdir(data_dir):
            return None
        if os.path.lexists(data_dir):
            raise errors.DataError(
                f"{data_dir}: exists, but holds no prepared data ({MANIFEST_FILE} is "
                "missing); choose another task.data.data_dir, or delete it"
            )
        return None
    if overwrite:
        return None
    changes = _differences(manifest, inputs)
    if changes:
        raise errors.DataError(
            f"{data_dir}: prepared from other inputs or settings: {changes}. Use the old ones, set "
            "another task.data.data_dir, or replace the data with `keras-mtl prepare --overwrite`, "
            "after which a run that was trained on it can only resume with its old vocabulary"
        )
    return manifest


def _prepare_into(
    directory: str,
    data_dir: str,
    tasks: Sequence[PairConfig],
    data: DataConfig,
    inputs: dict[str, Any],
    given: Sequence[bytes | None],
    processes: Processes,
    log: Callable[[str], None],
) -> None:
    """Writes everything into `directory`, which will become `data_dir`."""
    work = os.path.join(directory, ".work")
    with disk_errors(data_dir):
        os.mkdir(work)
    texts = read_text(tasks, data, work, processes, log)
    warnings = [processes.submit(language_warnings, text.spec, text.samples) for text in texts]
    train = functools.partial(_trained, texts)
    vocabulary = of_models(complete(tasks, data, given, train))
    with disk_errors(data_dir):
        write_vocabulary(directory, vocabulary)
    keep_text = inputs["settings"]["keep_train_text"]
    stored = list(write_stores(texts, directory, vocabulary, work, data, keep_text, processes))
    os.rmdir(work)
    manifest = prepared.new_manifest(
        inputs,
        vocabulary,
        [result.task for result in stored],
        {result.task.name: result.shards for result in stored},
        samples={text.spec.name: shown_pairs(text.samples) for text in texts},
        warnings={
            text.spec.name: processes.result(job) for text, job in zip(texts, warnings, strict=True)
        },
    )
    with disk_errors(data_dir):
        prepared.write_manifest(directory, manifest)
    for line in summary(manifest, {result.task.name: result.in_bytes for result in stored}):
        log(line)


def _trained(texts: Sequence[TaskText], part: VocabularyPart) -> Vocabulary:
    """Trains a part of the vocabulary on the training text of all tasks."""
    settings = part.settings
    return train_vocabulary(
        [
            VocabularyText(
                text.spec.name, text.sizes["train"], functools.partial(_pairs, text, part)
            )
            for text in texts
        ],
        part.languages,
        size=settings.size,
        model_type=settings.model_type,
        temperature=settings.temperature,
        max_sentences=settings.max_sentences,
        character_coverage=settings.character_coverage,
        sides=part.sides,
        section=part.section,
    )


def _pairs(text: TaskText, part: VocabularyPart) -> Iterable[tuple[str, str]]:
    """Returns the training pairs of a task whose sides a part of the vocabulary encodes."""
    if part.sides == BOTH_SIDES:
        return text.pairs("train")
    return (stored_pairs(text.spec, [pair], True)[0] for pair in text.pairs("train"))
