"""Wrong arguments of every subcommand: a message and exit code 2 at once, without TensorFlow."""

import importlib
import json
import os
import subprocess
import sys

import pytest

from keras_mtl import errors
from keras_mtl.cli import arguments, main

# {dir} is a directory with the files of the fixture; every other word is passed as it is.
_CONFIG = "--config_file {dir}/config.yaml --model_dir {dir}/run"
_MODEL = "{dir}/model"
TABLE = {
    "prepare": [
        ("--config_file {dir}/no.yaml", "--config_file {dir}/no.yaml: no such file"),
        ("--config_file {dir}", "--config_file {dir}: this is a directory"),
        ("--model_dir {dir}/no", "{dir}/no/params.yaml does not exist"),
        ("", "no configuration is given. Give --config_file"),
        ("--model_dir gs://bucket/run", "gs://bucket/run: the configuration is not read from a U"),
        (f"{_CONFIG} --params_override no.yaml", "'no.yaml' is neither FIELD=VALUE nor a YAML"),
        (f"{_CONFIG} --import no_such_plug_in", "no_such_plug_in"),
        ("--config_file {dir}/config.yaml --model_dir {dir}/file/run", "{dir}/file is a file"),
        (f"{_CONFIG} --processes 0", "argument --processes: must be at least 1, got 0"),
        (f"{_CONFIG} --processes 2 --runner DirectRunner", "--processes has no effect with --run"),
        (f"{_CONFIG} --runner_option=--region=x", "--runner_option is for --runner, which is miss"),
    ],
    "train": [
        ("--config_file {dir}/no.yaml --model_dir {dir}/run", "no.yaml: no such file"),
        ("--config_file {dir}/config.yaml", "--model_dir is missing"),
        (f"{_CONFIG} --experiment translation/transformer_tini", "did you mean 'translation/tra"),
        ("--config_file {dir}/config.yaml --model_dir {dir}/file", "{dir}/file: this is a file"),
        (
            "--config_file {dir}/bad.yaml --model_dir {dir}/run",
            "{dir}/bad.yaml line 2: trainer.trai",
        ),
        (f"{_CONFIG} --params_override trainer.schedule.name=", "trainer.schedule.name is empty"),
        (f"{_CONFIG} --params_override trainer.schedule.name=unifrm", "did you mean 'uniform'"),
        (f"{_CONFIG} --params_override trainer.optimizer.warmup_steps=0", "= 0: must be >= 1"),
        (f"{_CONFIG} --mode trian", "argument --mode: invalid choice: 'trian'"),
    ],
    "baselines": [
        ("--config_file {dir}/config.yaml", "--model_dir is missing"),
        (
            "--config_file {dir}/config.yaml --model_dir gs://bucket/run",
            "--model_dir gs://bucket/run: this is a URL. Give a local path",
        ),
        (f"{_CONFIG} --train_steps 0", "argument --train_steps: must be at least 1, got 0"),
        (f"{_CONFIG} --train_steps many", "argument --train_steps: 'many' is not an integer"),
        ("--config_file {dir} --model_dir {dir}/run", "{dir}: this is a directory"),
    ],
    "propose": [
        ("--config_file {dir}/config.yaml", "--model_dir is missing"),
        (f"{_CONFIG} --jobs 0", "argument --jobs: must be at least 1, got 0"),
        (f"{_CONFIG} --importance en-fr=much", "--importance: en-fr=much is not a number"),
        (f"{_CONFIG} --baselines_file {{dir}}/no.json", "--baselines_file {dir}/no.json: "),
    ],
    "evaluate": [
        ("", "the following arguments are required: --model_dir"),
        ("--model_dir {dir}/no", "--model_dir {dir}/no does not exist; give a model directory"),
        ("--model_dir {dir}/engine", "{dir}/engine is not a model file of keras_mtl"),
        ("--model_dir gs://bucket/run", "gs://bucket/run is a URL. Copy it to a local directory"),
        (f"--model_dir {_MODEL} --workers -1", "argument --workers: must be at least 1, got -1"),
        (f"--model_dir {_MODEL} --max_pairs 0", "argument --max_pairs: must be at least 1"),
        (f"--model_dir {_MODEL} --beam_size 0", "argument --beam_size: must be at least 1"),
        (f"--model_dir {_MODEL} --samples 0", "argument --samples: must be at least 1"),
        (
            f"--model_dir {_MODEL} --checkpoint {{dir}}/no",
            "--checkpoint {dir}/no: there is no such checkpoint",
        ),
        (f"--model_dir {_MODEL} --backend tf --compute_type int8", "supports only float32"),
        (f"--model_dir {_MODEL} --corpora {{dir}}/no.yaml", "--corpora {dir}/no.yaml: no such fi"),
        (f"--model_dir {_MODEL} --unseen", "--unseen requires --corpora"),
        (f"--model_dir {_MODEL} --tasks en-xx", "unknown task 'en-xx'; did you mean 'en-"),
        (f"--model_dir {_MODEL} --metrics blue", "unknown metric 'blue'; did you mean 'bleu'"),
    ],
    "score": [
        (f"--model {_MODEL} --task en-fr", "give --source and --target, or only --tsv"),
        (f"--model {_MODEL} --task en-fr --tsv {{dir}}/no", "--tsv {dir}/no: no such file"),
        (f"--model {_MODEL} --task en-xx --tsv -", "unknown task 'en-xx'; did you mean 'en-"),
        ("--model {dir}/no --task en-fr --tsv -", "--model {dir}/no does not exist"),
        (f"--model {_MODEL} --task en-fr --tsv - --batch_size 0", "--batch_size: must be at lea"),
        (
            f"--model {_MODEL} --task en-fr --tsv - --checkpoint no",
            "no: there is no such checkpoint",
        ),
    ],
    "benchmark": [
        ("--model {dir}/no", "--model {dir}/no does not exist"),
        (f"--model {_MODEL} --batch_sizes 1 0", "argument --batch_sizes: must be at least 1"),
        (f"--model {_MODEL} --workers 0", "argument --workers: must be at least 1, got 0"),
        (f"--model {_MODEL} --seconds 0", "argument --seconds: must be above 0, got 0"),
        (f"--model {_MODEL} --seconds nan", "argument --seconds: 'nan' is not a finite number"),
        (f"--model {_MODEL} --target_tokens 0", "argument --target_tokens: must be at least 1"),
        (f"--model {_MODEL} --checkpoint no", "--checkpoint no: there is no such checkpoint"),
    ],
    "translate": [
        ("--model {dir}/no --task en-fr", "{dir}/no does not exist; give a model directory"),
        (f"--model {_MODEL} --task en-xx", "? The tasks are en-fr, en-de"),
        (f"--model {_MODEL} --task en-fr --n_best 0", "argument --n_best: must be at least 1"),
        (f"--model {_MODEL} --task en-fr --chunk_lines 0", "--chunk_lines: must be at least 1"),
        (f"--model {_MODEL} --task en-fr --options beam=2", "unknown decoding option 'beam'"),
        (f"--model {_MODEL} --task en-fr --options beam_size", "'beam_size' is not NAME=VALUE"),
    ],
    "average": [
        ("--model_dir {dir}/no --output {dir}/out --last 2", "--model_dir {dir}/no does not exist"),
        (f"--model_dir {_MODEL} --output {{dir}}/out", "one of the arguments --last --best is"),
        (f"--model_dir {_MODEL} --output {{dir}}/out --last 0", "argument --last: must be at leas"),
        (f"--model_dir {_MODEL} --output {{dir}}/file --last 2", "{dir}/file exists. Give another"),
        (f"--model_dir {_MODEL} --output {{dir}}/out --last 2 --score worst", "only with --best"),
        (f"--model_dir {_MODEL} --output gs://bucket/out --last 2", "gs://bucket/out: this is a U"),
    ],
    "add-adapters": [
        (
            "--model {dir}/no --adapters {dir}/file --output {dir}/out",
            "--model {dir}/no: no such f",
        ),
        ("--model {dir}/file --adapters {dir}/no --output {dir}/out", "--adapters {dir}/no: no su"),
        (
            "--model {dir}/file --adapters {dir}/file --output {dir}/engine",
            "{dir}/engine exists. G",
        ),
    ],
    "export": [
        (f"--model_dir {_MODEL} --output {{dir}}/out --format adapters", "requires --base FILE"),
        (
            f"--model_dir {_MODEL} --output {{dir}}/out --base {{dir}}/file",
            "saved_model has no base",
        ),
        (
            f"--model_dir {_MODEL} --output {{dir}}/out --format adapters --base {{dir}}/file",
            "task.model.adapters is empty, so there are no adapters to export",
        ),
        ("--model_dir {dir}/no --output {dir}/out", "--model_dir {dir}/no does not exist"),
        (f"--model_dir {_MODEL} --output {{dir}}/file", "{dir}/file exists. Give --overwrite"),
        (
            f"--model_dir {_MODEL} --output gs://bucket/out",
            "--output gs://bucket/out: this is a URL",
        ),
        (
            f"--model_dir {_MODEL} --output {{dir}}/file --format engine --overwrite",
            "{dir}/file exists and is not an engine file",
        ),
        (f"--model_dir {_MODEL} --output {{dir}} --format engine", "{dir} is a directory. Give"),
        (f"--model_dir {_MODEL} --output {{dir}}/file/out", "{dir}/file: this is a file"),
        (
            f"--model_dir {_MODEL} --output {{dir}}/out --format engine --weight_type int3",
            "weight_type='int3' is not supported by --format engine; did you mean 'int8'",
        ),
        (
            f"--model_dir {_MODEL} --output {{dir}}/out --format engine --weight_type float16",
            "weight_type='float16' is not supported by --format engine",
        ),
        (
            f"--model_dir {_MODEL} --output {{dir}}/out --weight_type int8",
            "saved_model supports only float32",
        ),
        (f"--model_dir {_MODEL} --output {{dir}}/out --options beem=3", "option 'beem'"),
        (
            f"--model_dir {_MODEL} --output {{dir}}/out --checkpoint no",
            "there is no such checkpoint",
        ),
    ],
    "inspect": [
        ("--config_file {dir}/no.yaml", "--config_file {dir}/no.yaml: no such file"),
        ("--model {dir}/no", "{dir}/no does not exist; give a model directory, an engine file"),
        ("--verify", "give --model PATH"),
        ("--config_file {dir}/config.yaml --diff {dir}/no.yaml", "--diff {dir}/no.yaml: no such"),
        ("--config_file {dir}/config.yaml --diff {dir}", "--diff {dir}/params.yaml: no such file"),
    ],
    "simulate": [
        ("--config_file {dir}/no.yaml", "--config_file {dir}/no.yaml: no such file"),
        ("--config_file {dir}/config.yaml --train_steps 0", "--train_steps: must be at least 1"),
        ("--config_file {dir}/config.yaml --noise -1", "argument --noise: must be at least 0"),
        ("--config_file {dir}/config.yaml --output a.jpg", "Give a name that ends in .png"),
        ("--config_file {dir}/config.yaml --json {dir}", "--json {dir}: this is a directory"),
        ("--tasks {dir}/no.yaml", "--tasks {dir}/no.yaml: no such file"),
        ("--config_file {dir}/config.yaml --recorded {dir}/no", "{dir}/no"),
    ],
    "check-tpu": [
        ("--config_file {dir}/no.yaml --topology v5e:2x4", "--config_file {dir}/no.yaml: no such"),
        ("--config_file {dir}/config.yaml --topology v9:2x4", "--topology"),
    ],
    "report": [
        ("{dir}/no", "{dir}/no is not a directory"),
        (
            "{dir}/model --output {dir}/file",
            "--output {dir}/file: this is a file. Give a directory",
        ),
        ("{dir}/model --samples -1", "argument --samples: must be at least 0, got -1"),
    ],
    "demo": [
        ("--config_file {dir}/no.yaml", "--config_file {dir}/no.yaml: no such file"),
        ("--model_dir {dir}/file", "--model_dir {dir}/file: this is a file"),
        ("--params_override no.yaml", "'no.yaml' is neither FIELD=VALUE nor a YAML file"),
    ],
}
ROWS = [(command, *row) for command, rows in TABLE.items() for row in rows]

_RUN_ALL = """
import contextlib, io, json, sys
from keras_mtl.cli import main
found = []
for words in json.load(open(sys.argv[1])):
    error = io.StringIO()
    with contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = main.main(words)
        except SystemExit as stop:
            code = stop.code
    found.append([code, error.getvalue(), "tensorflow" in sys.modules])
    assert not found[-1][2], f"{words} imports TensorFlow: {error.getvalue()}"
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """A configuration, a file, and what looks like a trained model until its weights are read."""
    directory = tmp_path_factory.mktemp("arguments")
    (directory / "config.yaml").write_text(
        "task:\n  pairs: [{source: en, target: fr, max_pairs: 9}]\n"
        "  data: {corpora: [{reader: cldr}]}\n"
    )
    (directory / "bad.yaml").write_text("trainer:\n  train_stps: 5\n")
    (directory / "file").write_text("text")
    (directory / "engine").write_text("not an engine file")
    model = directory / "model"
    model.mkdir()
    (model / "params.yaml").write_text("{}\n")
    tasks = [
        {"name": f"en-{target}", "source": "en", "target": target, "decoder": 0}
        for target in ("fr", "de")
    ]
    (model / "tasks.json").write_text(json.dumps({"tasks": tasks, "vocabulary_hash": "0"}))
    (model / "metrics.jsonl").write_text("")
    return str(directory)


def _words(command, text, directory):
    return [command, *text.format(dir=directory).split()]


@pytest.fixture(scope="module")
def answers(directory):
    """Exit code, standard error, and whether TensorFlow is loaded, of each row."""
    path = os.path.join(directory, "table.json")
    with open(path, "w") as file:
        json.dump([_words(command, text, directory) for command, text, _ in ROWS], file)
    done = subprocess.run(
        [sys.executable, "-c", _RUN_ALL, path],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=directory,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_subcommand_is_in_the_table():
    assert set(TABLE) == set(main.COMMANDS)


@pytest.mark.parametrize("index", range(len(ROWS)), ids=[" ".join(row[:2]) for row in ROWS])
def test_a_wrong_argument_costs_no_waiting(index, answers, directory):
    _, _, message = ROWS[index]
    code, error, has_tensorflow = answers[index]
    assert message.format(dir=directory) in error
    assert "Traceback" not in error
    assert (code, has_tensorflow) == (2, False)


def test_nothing_was_written(answers, directory):
    assert not os.path.exists(os.path.join(directory, "run"))
    assert not os.path.exists(os.path.join(directory, "out"))


def test_a_configuration_may_come_from_a_pipe(tmp_path):
    """As `--config_file <(make_config)` of a shell: it can be read once only."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    arguments.check_input_file("--config_file", path)


def test_files_and_directories_without_permission(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(errors.ConfigError, match=r"--config_file .*a: permission denied"):
        arguments.check_input_file("--config_file", tmp_path / "a")
    with pytest.raises(errors.ConfigError, match="is not writable"):
        arguments.check_output_directory("--model_dir", tmp_path / "b/c")
    with pytest.raises(errors.ConfigError, match="--model_dir gs://bucket/run: this is a URL"):
        arguments.check_output_directory("--model_dir", "gs://bucket/run")


@pytest.mark.parametrize(
    ("words", "writes"),
    [
        (["inspect"], False),
        (["train", "--mode", "eval"], False),
        (["train"], True),
        (["prepare"], True),
        (["baselines"], True),
    ],
)
def test_a_directory_that_cannot_be_written_can_be_read(tmp_path, monkeypatch, words, writes):
    (tmp_path / "params.yaml").write_text("")
    words = [*words, "--model_dir", str(tmp_path)]
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK and access(path, mode))
    command, parser = main._parser(words)
    check = importlib.import_module(main.COMMANDS[command].module).check_arguments
    if writes:
        with pytest.raises(errors.ConfigError, match="is not writable"):
            check(parser.parse_args(words))
    else:
        check(parser.parse_args(words))


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("en-xx", ["en-fr"], "; did you mean 'en-fr'? The only task is en-fr"),
        ("q", ["en-fr", "en-de"], "; the tasks are en-fr, en-de"),
        ("en-fre", ["en-fr", "en-de"], "; did you mean 'en-fr'? The tasks are en-fr, en-de"),
        ("q", [], "; there are no tasks"),
        ("t5x", [f"t{i}" for i in range(11)], "; did you mean 't5'? There are 11 tasks; `x` lists"),
        ("q", [f"t{i}" for i in range(11)], "; there are 11 tasks; `x` lists them"),
    ],
)
def test_an_unknown_task_is_answered_with_those_that_there_are(name, known, message):
    assert errors.nearest_task(name, known, "x").startswith(message)
