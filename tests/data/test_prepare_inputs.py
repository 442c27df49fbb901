"""When prepared data is used as it is: content of files counts, not their paths and times."""

import dataclasses
import hashlib
import json
import os
import shutil

import pytest

from keras_mtl import errors
from keras_mtl.configuration.files import load_experiment
from keras_mtl.configuration.schema import CorpusConfig, DataConfig, PairConfig, VocabularyConfig
from keras_mtl.data import prepare_inputs
from keras_mtl.data.prepare import prepare
from keras_mtl.data.prepare_settings import filled_tasks

NUMBERS = {
    "en": ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"],
    "fr": ["un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix"],
    "de": ["eins", "zwei", "drei", "vier", "fünf", "sechs", "sieben", "acht", "neun", "zehn"],
}
SETTINGS = DataConfig(vocabulary=VocabularyConfig(size=290), dev_fraction=0.1, test_fraction=0.1)


def sentence(number, language):
    return " ".join(NUMBERS[language][int(digit)] for digit in f"{number:03d}")


def task(*corpora, **fields):
    return PairConfig("en-fr", "en", "fr", [CorpusConfig(*corpus) for corpus in corpora], **fields)


def run(tmp_path, tasks, settings=SETTINGS, **options):
    """Prepares and returns the lines that were logged."""
    lines = []
    prepare(tasks, tmp_path / "data", settings, log=lines.append, **options)
    return lines


def write_tsv(path, target="fr", size=200):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{sentence(i, 'en')}\t{sentence(i, target)}" for i in range(size)]
    path.write_text("\n".join(lines) + "\n")
    return task(("tsv", {"file": str(path)}))


def test_a_file_with_other_content_is_named(tmp_path):
    path = tmp_path / "a.tsv"
    spec = write_tsv(path)
    run(tmp_path, [spec])
    path.write_text(path.read_text().replace("one one one", "one one two"))
    with pytest.raises(errors.DataError, match=r"the content of .*a\.tsv has changed\. Use"):
        run(tmp_path, [spec])
    write_tsv(path, size=201)
    with pytest.raises(errors.DataError, match=r"the size of .*a\.tsv has changed \([\d,]+ -> "):
        run(tmp_path, [spec])
    shutil.copy(path, tmp_path / "b.tsv")
    both = task(("tsv", {"file": [str(path), str(tmp_path / "b.tsv")]}))
    with pytest.raises(errors.DataError, match=r"2 files instead of 1, such as .*b\.tsv"):
        run(tmp_path, [both])


def test_the_same_content_is_the_same_corpus(tmp_path, monkeypatch):
    spec = write_tsv(tmp_path / "a.tsv")
    run(tmp_path, [spec])
    os.utime(tmp_path / "a.tsv", ns=(1, 1))
    assert "prepared already from these" in run(tmp_path, [spec])[0]
    elsewhere = write_tsv(tmp_path / "elsewhere" / "renamed.tsv")
    assert "prepared already from these" in run(tmp_path, [elsewhere])[0]


def test_a_file_that_has_not_changed_is_not_read_again(tmp_path, monkeypatch):
    spec = write_tsv(tmp_path / "a.tsv")
    run(tmp_path, [spec])
    monkeypatch.setattr(prepare_inputs, "content_hash", lambda path: pytest.fail("read again"))
    assert "prepared already from these" in run(tmp_path, [spec])[0]


def test_a_file_of_several_tasks_is_read_once(tmp_path, monkeypatch):
    read = []
    content_hash = prepare_inputs.content_hash
    monkeypatch.setattr(
        prepare_inputs, "content_hash", lambda path: read.append(path) or content_hash(path)
    )
    spec = write_tsv(tmp_path / "a.tsv")
    fingerprints = prepare_inputs.Fingerprints([spec, dataclasses.replace(spec, name="again")])
    assert read == [str(tmp_path / "a.tsv")]
    assert len(fingerprints.files) == 2


def make_older(data_dir):
    """Turns a manifest into one that a release before content hashes wrote."""
    path = data_dir / "manifest.json"
    manifest = json.loads(path.read_text())
    inputs = manifest["inputs"]
    inputs["prepare_version"] = 1
    for name, entry in inputs["tasks"].items():
        del entry["cleaning"]
        for _, options in entry["corpora"]:
            options["file"] = os.path.relpath(options["file"])
        for fingerprint in inputs["files"][name]["corpora"]:
            fingerprint["options"]["file"] = os.path.relpath(fingerprint["options"]["file"])
            fingerprint["files"] = [
                [os.path.relpath(path), size, time] for path, size, time, _ in fingerprint["files"]
            ]
    path.write_text(json.dumps(manifest))


@pytest.mark.parametrize("target", ["fr", "zh_TW"])
def test_data_that_an_older_release_prepared_is_used(tmp_path, target):
    spec = dataclasses.replace(write_tsv(tmp_path / "a.tsv"), target=target)
    run(tmp_path, [spec])
    make_older(tmp_path / "data")
    log = run(tmp_path, [spec])
    assert "prepared already from these" in log[0]
    # Only these languages are cleaned otherwise now.
    again = any("`keras-mtl prepare --overwrite` prepares it again" in line for line in log)
    assert again == (target == "zh_TW")
    os.utime(tmp_path / "a.tsv", ns=(1, 1))
    with pytest.raises(errors.DataError, match=r"modification time of .*a\.tsv has changed"):
        run(tmp_path, [spec])


def test_prepared_data_works_where_its_corpora_are_not(tmp_path):
    def spec(path):
        options = {"source_file": str(path / "a.en"), "target_file": str(path / "a.fr")}
        return task(("parallel", options))

    for language in ("en", "fr"):
        lines = [sentence(i, language) for i in range(200)]
        (tmp_path / f"a.{language}").write_text("\n".join(lines) + "\n")
    run(tmp_path, [spec(tmp_path)])
    (tmp_path / "a.fr").unlink()
    log = run(tmp_path, [spec(tmp_path)])
    assert log[0].startswith("warning: ")
    assert f"{tmp_path / 'a.fr'}: does not exist" in log[0]
    with pytest.raises(errors.DataError, match=r"a\.fr: does not exist"):
        run(tmp_path, [spec(tmp_path)], overwrite=True)
    with pytest.raises(errors.DataError, match=r"a\.fr: does not exist"):
        run(tmp_path, [spec(tmp_path)], DataConfig())


def test_a_missing_corpus_hides_no_change_of_another(tmp_path):
    first, second = (write_tsv(tmp_path / name) for name in ("a.tsv", "b.tsv"))
    tasks = [first, dataclasses.replace(second, name="other")]
    run(tmp_path, tasks)
    (tmp_path / "a.tsv").unlink()
    assert "a.tsv: does not exist" in run(tmp_path, tasks)[0]
    write_tsv(tmp_path / "b.tsv", "de")
    with pytest.raises(
        errors.DataError, match=r"a\.tsv: does not exist.*; .*prepared from .*b\.tsv has changed"
    ):
        run(tmp_path, tasks)


def test_a_configuration_asks_for_the_same_data_in_every_release():
    """Release 0.1 computed this digest; another one would prepare all prepared data again."""
    pairs = (
        "task.pairs=[{source: en, target: fr, max_pairs: 5, baseline: 31.5, "
        "cleaning: {max_length_ratio: 3}, corpora: "
        "[{reader: tsv, options: {columns: [0, 1], quote: '\"', path: ü.tsv}}]}, "
        "{name: norwegian, source: en, target: 'no', dev_corpora: [{reader: cldr}]}]"
    )
    settings = (
        "task.data.corpora=[{reader: cldr}],task.data.cleaning.ratio_slack=20,"
        "task.data.vocabulary.size=900,task.data.test_pairs=7"
    )
    task = load_experiment(None, (), [pairs, settings]).task
    tasks = filled_tasks(task.pairs, task.data)
    text = json.dumps(prepare_inputs.requested(tasks, task.data), ensure_ascii=False)
    assert hashlib.sha256(text.encode()).hexdigest() == (
        "a71de126999e7ef360502471e1f1db163d162ab8e28f5c40362d35011d81aa21"
    )
