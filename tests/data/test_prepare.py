"""prepare: every pair is accounted for, nothing leaks between splits, nothing half-written."""

import json
import multiprocessing
import os
import resource
import shutil
import stat
import time
import unittest.mock

import pytest

from keras_mtl import errors
from keras_mtl.configuration.schema import (
    CleaningConfig,
    CorpusConfig,
    DataConfig,
    PairConfig,
    TaskCleaningConfig,
    VocabularyConfig,
)
from keras_mtl.data import prepare as prepare_lib
from keras_mtl.data import split
from keras_mtl.data.corpora import base
from keras_mtl.data.prepare import load_prepared, prepare

NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TRANSLATED = {
    "fr": ["un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix"],
    "de": ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"],
    "en": NUMBERS,
}


def sentence(number, words):
    return " ".join(words[int(digit)] for digit in f"{number:03d}")


@base.register_reader
class CountingReader(base.CorpusReader):
    """Numbers in words; a small stand-in for a corpus."""

    name = "counting_test"

    def __init__(self, source, target, *, begin=0, end=400, bad=0, repeat=1, pause=0.0):
        super().__init__(source, target)
        self._range = range(begin, end)
        self._bad, self._repeat, self._pause = bad, repeat, pause

    def read(self):
        for _ in range(self._repeat):
            for i in self._range:
                self.lines["counting.txt"] += 1
                if i < self._bad:
                    yield base.BadLine("counting.txt", i + 1, "unreadable")
                    continue
                time.sleep(self._pause)
                yield base.Pair(
                    sentence(i, TRANSLATED[self.source]),
                    sentence(i, TRANSLATED[self.target]),
                    i + 1,
                )


SETTINGS = DataConfig(vocabulary=VocabularyConfig(size=290), dev_fraction=0.1, test_fraction=0.1)


def task(source="en", target="fr", **fields):
    options = fields.pop("options", {})
    fields.setdefault("corpora", [CorpusConfig("counting_test", options)])
    return PairConfig(fields.pop("name", f"{source}-{target}"), source, target, **fields)


def run(tmp_path, tasks, settings=SETTINGS, **options):
    lines = []
    data = prepare(tasks, tmp_path / "data", settings, log=lines.append, **options)
    data.log = lines
    return data


def texts(data, name, part):
    """Text of a store, decoded from its ids (training stores keep no text)."""
    reader = data.reader(name, part)
    decode = data.vocabulary.decode
    return [(decode(reader.source(i)), decode(reader.target(i))) for i in range(len(reader))]


def read_or_dropped(entry):
    dropped = sum(
        value
        for rule, value in entry.counts.items()
        if rule not in ("read", "kept", "normalized", "bad lines")
    )
    return dropped + entry.train_size + entry.dev_size + entry.test_size


def test_every_pair_is_kept_or_counted(tmp_path):
    data = run(
        tmp_path,
        [task(options={"repeat": 2}), task(target="de", max_pairs=100)],
        DataConfig(
            cleaning=CleaningConfig(max_characters=15),
            vocabulary=VocabularyConfig(size=290),
            dev_fraction=0.1,
            test_fraction=0.1,
            dev_pairs=5,
            max_length=17,
        ),
    )
    for entry in data.tasks:
        assert entry.counts["read"] == read_or_dropped(entry)
        assert entry.dev_size <= 5
    french, german = data.tasks
    assert french.counts["duplicate"] == french.counts["kept"] > 200
    assert french.counts["over max_length, train"] > 0
    assert german.train_size + german.counts.get("over max_length, train", 0) == 100
    assert german.counts["over train cap"] > 0
    assert french.counts["over dev cap"] > 0


def test_what_is_stored_is_the_corpus_in_its_split(tmp_path):
    data = run(tmp_path, [task()])
    for part in split.SPLITS:
        stored = texts(data, "en-fr", part)
        expected = {
            (sentence(i, NUMBERS), sentence(i, TRANSLATED["fr"]))
            for i in range(400)
            if split.split_of(sentence(i, NUMBERS), 0.1, 0.1) == part
        }
        assert set(stored) == expected
        assert len(stored) == len(expected) > 10
        reader = data.reader("en-fr", part)
        assert reader.has_text == (part != "train")
        if reader.has_text:
            assert list(reader.texts()) == stored
    entry = data.task("en-fr")
    assert entry.source_tokens == data.reader("en-fr", "train").source_tokens
    data.verify()


def test_no_sentence_is_trained_on_in_one_task_and_tested_in_another(tmp_path):
    """Tasks that share a side in either direction, and one whose dev and test sets are given."""
    given = [CorpusConfig("counting_test", {"begin": 100, "end": 120})]
    data = run(
        tmp_path,
        [
            task("en", "fr"),
            task("en", "de"),
            task("fr", "en"),
            task(
                "de",
                "en",
                dev_corpora=given,
                test_corpora=[CorpusConfig("counting_test", {"end": 9})],
            ),
        ],
    )
    held_out = {
        (entry.source, source)
        for entry in data.tasks
        for part in ("dev", "test")
        for source, _ in texts(data, entry.name, part)
    }
    assert len(texts(data, "de-en", "dev")) == 20
    assert len(texts(data, "de-en", "test")) == 9
    assert len(held_out) > 150
    for entry in data.tasks:
        for source, target in texts(data, entry.name, "train"):
            assert (entry.source, source) not in held_out
            assert (entry.target, target) not in held_out
        assert entry.counts["read"] == read_or_dropped(entry)
        assert entry.counts["held out"] > 0


def test_given_sets_stay_whole_and_in_cap(tmp_path):
    """Duplicates and identical pairs of an official test set count in its score."""
    spec = task(
        dev_corpora=[CorpusConfig("counting_test", {"end": 10, "repeat": 2})],
        test_corpora=[CorpusConfig("counting_test", {"begin": 10, "end": 13})],
    )
    data = run(tmp_path, [spec])
    assert (data.tasks[0].dev_size, data.tasks[0].test_size) == (20, 3)
    assert data.tasks[0].train_size == 400 - 13


def test_max_pairs_is_a_stable_sample(tmp_path):
    small = run(tmp_path / "a", [task(max_pairs=50)])
    large = run(tmp_path / "b", [task(max_pairs=100, options={"end": 400})])
    assert small.tasks[0].train_size == 50
    assert set(texts(small, "en-fr", "train")) < set(texts(large, "en-fr", "train"))


def test_bad_lines_are_reported_and_too_many_are_fatal(tmp_path):
    data = run(tmp_path, [task(options={"bad": 3})])
    assert data.tasks[0].counts["bad lines"] == 3
    assert "en-fr: counting.txt:1: unreadable" in data.log
    with pytest.raises(errors.DataError, match=r"counting\.txt: 5 of 400 lines"):
        run(tmp_path / "b", [task(options={"bad": 5})])
    assert os.listdir(tmp_path / "b") == []


def test_prepared_twice_is_prepared_once(tmp_path, monkeypatch):
    first = run(tmp_path, [task()])
    stamp = os.stat(tmp_path / "data" / "en-fr.train.store").st_mtime_ns
    monkeypatch.setattr(prepare_lib, "read_text", lambda *_: pytest.fail("read again"))
    second = run(tmp_path, [task()])
    assert os.stat(tmp_path / "data" / "en-fr.train.store").st_mtime_ns == stamp
    assert second.vocabulary.hash == first.vocabulary.hash
    assert "prepared already" in second.log[0]


def test_the_result_depends_on_the_inputs_alone(tmp_path):
    for name in "ab":
        run(tmp_path / name, [task(), task(target="de")])
    names = sorted(os.listdir(tmp_path / "a" / "data"))
    assert names == sorted(
        [f"en-{t}.{part}.store" for t in ("fr", "de") for part in split.SPLITS]
        + ["manifest.json", "vocabulary.model"]
    )
    for name in names:
        first, second = ((tmp_path / run / "data" / name).read_bytes() for run in "ab")
        assert first == second


def test_other_settings_are_named_and_replaced_only_when_asked(tmp_path):
    run(tmp_path, [task()])
    before = (tmp_path / "data" / "manifest.json").read_bytes()
    other = DataConfig(vocabulary=VocabularyConfig(size=292), dev_fraction=0.1, test_fraction=0.1)
    with pytest.raises(
        errors.DataError,
        match=r"settings\.vocabulary\.size: 290 -> 292\. .*`keras-mtl prepare --overwrite`",
    ):
        run(tmp_path, [task()], other)
    with pytest.raises(errors.DataError, match=r"tasks\.en-fr\.max_pairs: null -> 7"):
        run(tmp_path, [task(max_pairs=7)])
    with pytest.raises(errors.DataError, match=r"options\.end: \"\(absent\)\" -> 300"):
        run(tmp_path, [task(options={"end": 300})])
    assert (tmp_path / "data" / "manifest.json").read_bytes() == before
    assert run(tmp_path, [task()], other, overwrite=True).vocabulary.size == 292
    assert os.listdir(tmp_path) == ["data"]


def test_a_folder_of_something_else_is_never_replaced(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "thesis.tex").write_text("years of work")
    with pytest.raises(errors.DataError, match="holds no prepared data"):
        run(tmp_path, [task()], overwrite=True)
    (tmp_path / "data" / "manifest.json").write_text('{"kind": "web app"}')
    with pytest.raises(errors.DataError, match=r"manifest\.json: not a manifest of prepared"):
        run(tmp_path, [task()], overwrite=True)
    assert (tmp_path / "data" / "thesis.tex").read_text() == "years of work"
    assert sorted(os.listdir(tmp_path)) == ["data"]


def test_an_empty_folder_is_used(tmp_path):
    (tmp_path / "data").mkdir()
    assert run(tmp_path, [task()]).tasks[0].train_size > 300


def test_an_empty_task_is_named_with_its_counts_and_leaves_nothing(tmp_path):
    with pytest.raises(errors.DataError, match=r"task 'copy'.*read 400, identical 400.*cleaning"):
        run(tmp_path, [task(), task("en", "en", name="copy")])
    with pytest.raises(errors.DataError, match=r"task 'en-fr'.*read 0"):
        run(tmp_path, [task(options={"end": 0})])
    settings = DataConfig(vocabulary=VocabularyConfig(size=290), max_length=3)
    with pytest.raises(errors.DataError, match=r"over max_length, train \d+.*max_length, 3"):
        run(tmp_path, [task()], settings)
    assert os.listdir(tmp_path) == []


def test_full_disk_leaves_what_was_there(tmp_path):
    run(tmp_path, [task()])
    before = sorted(os.listdir(tmp_path / "data"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # While text, the rest of a buffer of text, stores, the vocabulary are written.
    for limit in (2_000, 6_000, 12_000, 260_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(errors.DataError, match=r"cannot write: .*free some space"):
                run(tmp_path, [task(options={"end": 900, "repeat": 9})], UNIQUE, overwrite=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert os.listdir(tmp_path) == ["data"]
        assert sorted(os.listdir(tmp_path / "data")) == before
    load_prepared(tmp_path / "data").verify()


UNIQUE = DataConfig(
    cleaning=CleaningConfig(drop_duplicates=False),
    vocabulary=VocabularyConfig(size=290),
)


def _prepare_in_process(directory, results):
    data = prepare([task(options={"pause": 0.001})], directory, SETTINGS, log=lambda _: None)
    data.verify()
    results.put(data.vocabulary.hash)


def test_two_processes_at_once_give_one_result(tmp_path):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [
        context.Process(target=_prepare_in_process, args=(tmp_path / "data", results))
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    hashes = {results.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(hashes) == 1
    assert os.listdir(tmp_path) == ["data"]


def test_leftovers_of_a_killed_run_go(tmp_path):
    (tmp_path / ".data.partial" / "en-fr").mkdir(parents=True)
    (tmp_path / ".data2.partial").mkdir()
    (tmp_path / ".data.k3xq_9zt.partial" / "en-fr").mkdir(parents=True)  # Of an older release.
    run(tmp_path, [task()])
    assert sorted(os.listdir(tmp_path)) == [".data2.partial", "data"]


def test_a_kill_while_data_are_replaced_loses_none(tmp_path):
    run(tmp_path, [task()])
    (tmp_path / "data").rename(tmp_path / ".data.old")  # Killed right then.
    assert "prepared already" in run(tmp_path, [task()]).log[0]
    shutil.copytree(tmp_path / "data", tmp_path / ".data.old")  # Or a moment later.
    run(tmp_path, [task()], overwrite=True)
    assert os.listdir(tmp_path) == ["data"]


def test_prepared_data_can_be_shared(tmp_path):
    before = os.umask(0o022)
    try:
        run(tmp_path / "mine", [task()])
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat(tmp_path / "mine/data").st_mode) == 0o755
    with unittest.mock.patch.object(prepare_lib, "_locked", side_effect=PermissionError):
        assert "prepared already" in run(tmp_path / "mine", [task()]).log[0]


def test_an_error_inside_the_lock_is_the_error(tmp_path, monkeypatch):
    def read(*_):
        raise FileNotFoundError(2, "No such file or directory", "gone.txt")

    monkeypatch.setattr(prepare_lib, "read_text", read)
    with pytest.raises(FileNotFoundError, match=r"gone\.txt"):
        run(tmp_path, [task()])
    assert os.listdir(tmp_path) == []


def test_a_given_vocabulary_is_used_and_gets_missing_tags(tmp_path):
    first = run(tmp_path / "a", [task()])
    path = str(tmp_path / "a" / "data" / "vocabulary.model")
    settings = DataConfig(vocabulary=VocabularyConfig(model_file=path))
    assert run(tmp_path / "b", [task()], settings).vocabulary.hash == first.vocabulary.hash
    added = run(tmp_path / "c", [task(target="de")], settings).vocabulary
    assert added.languages == ("fr", "de")
    assert added.size == first.vocabulary.size + 1


def test_loading_names_what_is_missing_or_damaged(tmp_path):
    with pytest.raises(errors.DataError, match=r"has no prepared data .*manifest\.json"):
        load_prepared(tmp_path / "data")
    run(tmp_path, [task()])
    data = load_prepared(tmp_path / "data")
    with pytest.raises(errors.DataError, match=r"no task 'en-fe'.*did you mean 'en-fr'"):
        data.reader("en-fe", "train")
    with pytest.raises(ValueError, match="'training'; it must be"):
        data.reader("en-fr", "training")
    (tmp_path / "data" / "en-fr.dev.store").unlink()
    with pytest.raises(errors.DataError, match=r"en-fr\.dev\.store: cannot read"):
        data.reader("en-fr", "dev")
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    for field, value, match in (
        ("vocabulary_hash", "0", "field vocabulary_hash"),
        ("inputs", {"prepare_version": 0}, "format 0"),
    ):
        changed = json.dumps({**manifest, field: value})
        (tmp_path / "data" / "manifest.json").write_text(changed)
        with pytest.raises(errors.DataError, match=match):
            load_prepared(tmp_path / "data")
    (tmp_path / "data" / "manifest.json").write_text("{")
    with pytest.raises(errors.DataError, match="damaged manifest"):
        load_prepared(tmp_path / "data")


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: [], "task.pairs is empty"),
        (lambda: [task(), task()], "is also the name of task.pairs"),
        (lambda: [task(), task(name="EN-FR")], "'EN-FR' is also the name of .*, which is 'en-fr'"),
        (lambda: [task(name="../x")], "'../x' cannot be part of a file name"),
        (lambda: [task(target="")], "target = '': expected a language code"),
        (lambda: [task(corpora=[])], "task 'en-fr' has no data"),
        (lambda: [task(max_pairs=0)], "max_pairs = 0: must be >= 1"),
        (
            lambda: [task(corpora=[CorpusConfig("gettxt")])],
            "reader = 'gettxt' is not known; did you mean 'gettext'",
        ),
        (lambda: [task(options={"ende": 3})], "has no option 'ende'; did you mean 'end'"),
    ],
)
def test_wrong_tasks_are_named(tmp_path, make, match):
    with pytest.raises(errors.ConfigError, match=match):
        run(tmp_path, make())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("field", "value"), [("max_length", 2), ("dev_pairs", -1), ("dev_fraction", 1.0)]
)
def test_wrong_settings_are_named(tmp_path, field, value):
    with pytest.raises(errors.ConfigError, match=f"data.{field}.*{value}"):
        run(tmp_path, [task()], DataConfig(**{field: value}))
    assert os.listdir(tmp_path) == []


def test_the_report_shows_counts_and_warns_of_a_task_that_cannot_be_scored(tmp_path):
    settings = DataConfig(vocabulary=VocabularyConfig(size=290), dev_fraction=0.0)
    data = run(tmp_path, [task(), task(target="de")], settings)
    report = "\n".join(data.log)
    assert "en-de" in report
    assert f"{data.tasks[0].train_size:,}" in report
    assert "en-fr: no dev pairs" in report


def test_a_name_may_have_letters_of_all_scripts(tmp_path):
    data = run(tmp_path, [task(name="en-français")])
    assert (tmp_path / "data" / "en-français.train.store").exists()
    assert load_prepared(tmp_path / "data", ["en-français"]).tasks == data.tasks


def test_a_task_has_cleaning_rules_of_its_own(tmp_path):
    short = TaskCleaningConfig(max_characters=15)
    data = run(tmp_path, [task(), task(target="de", cleaning=short)])
    ours, others = data.tasks[1].counts, data.tasks[0].counts
    assert ours["too long"] > 20
    assert "too long" not in others
    with pytest.raises(errors.DataError, match=r"tasks\.en-de\.cleaning: \{.*max_characters"):
        run(tmp_path, [task(), task(target="de")])
