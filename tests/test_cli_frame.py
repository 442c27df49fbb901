"""The frame of the command line: help without TensorFlow, messages, exit codes."""

import errno
import sys
import types

import pytest

from keras_mtl import errors
from keras_mtl.cli import common, main

HEAVY = ("tensorflow", "keras", "tf_keras", "official", "numpy")


@pytest.fixture
def command(monkeypatch):
    """Registers a subcommand `fake` that does what the test says; returns a function to set it."""

    def set_action(action):
        module = types.ModuleType("fake_command")
        module.add_arguments = lambda parser: parser.add_argument("--word", default="x")
        module.check_arguments = lambda args: None
        module.run = action
        monkeypatch.setitem(sys.modules, "fake_command", module)
        monkeypatch.setitem(main.COMMANDS, "fake", main.Command("fake_command", "does as told"))

    return set_action


def raising(error):
    def run(args):
        raise error

    return run


@pytest.mark.parametrize(
    ("word", "remedy"),
    [
        ("trian", "; did you mean 'train'?"),
        ("x", "; known: add-adapters, average, baselines, bench"),
    ],
)
def test_a_misspelled_subcommand(word, remedy, capsys):
    with pytest.raises(SystemExit) as end:
        main.main([word])
    assert end.value.code == 2
    assert f"error: {word!r} is not a subcommand{remedy}" in capsys.readouterr().err


def test_result_is_the_exit_code(command):
    command(lambda args: {"x": 0, "y": 3}[args.word])
    assert main.main(["fake"]) == 0
    assert main.main(["fake", "--word", "y"]) == 3


def test_without_a_subcommand_help_is_printed(capsys):
    assert main.main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in main.COMMANDS)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (errors.DataError("a.txt line 3: wrong"), "error: a.txt line 3: wrong\n"),
        (OSError(errno.ENOSPC, "no space", "run/ckpt"), "error: run/ckpt: the disk is full"),
        (PermissionError(errno.EACCES, "denied", "/x"), "error: /x: permission denied"),
        (FileNotFoundError(errno.ENOENT, "none", "corpus.en"), "error: corpus.en: no such file"),
    ],
)
def test_what_the_user_can_repair_is_a_message(command, capsys, error, message):
    command(raising(error))
    assert main.main(["fake"]) == 2
    assert capsys.readouterr().err.startswith(message)


def test_interrupt(command, capsys):
    command(raising(KeyboardInterrupt()))
    assert main.main(["fake"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_defect_keeps_its_traceback(command):
    command(raising(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        main.main(["fake"])
    command(raising(ValueError("not ours")))
    with pytest.raises(ValueError, match="not ours"):
        main.main(["fake"])


def test_a_configuration_without_its_argument_is_explained(capsys):
    with pytest.raises(SystemExit) as end:
        main.main(["inspect", "configs/demo.yaml"])
    assert end.value.code == 2
    message = "unrecognized arguments: configs/demo.yaml. Give a configuration as --config_file"
    assert message in capsys.readouterr().err


def test_bad_usage_exits_with_2(capsys):
    for words in (["no_such_command"], ["inspect", "--no_such_option"]):
        with pytest.raises(SystemExit) as exit_info:
            main.main(words)
        assert exit_info.value.code == 2
        assert "usage:" in capsys.readouterr().err


def test_another_keras_backend_is_refused(command, capsys, monkeypatch):
    command(lambda args: 0)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert main.main(["fake"]) == 2
    assert "KERAS_BACKEND='jax'" in capsys.readouterr().err


_PRINT_MANY = (
    "import sys, types\n"
    "from keras_mtl.cli import main\n"
    "module = types.ModuleType('fake_command')\n"
    "module.add_arguments = module.check_arguments = lambda _: None\n"
    "module.run = lambda args: [print('x' * 100) for _ in range(10_000)] and 0\n"
    "sys.modules['fake_command'] = module\n"
    "main.COMMANDS['fake'] = main.Command('fake_command', 'prints')\n"
    "sys.exit(main.main(['fake']))\n"
)


def test_a_reader_that_leaves_is_no_error(tmp_path):
    """`keras-mtl ... | head -1` ends quietly."""
    import subprocess

    process = subprocess.Popen(
        [sys.executable, "-c", _PRINT_MANY], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_full_disk_under_standard_output(run_python):
    with open("/dev/full", "w") as full:
        done = run_python(_PRINT_MANY, capture_output=False, stdout=full, stderr=-1)
    assert done.returncode == 2
    assert done.stderr == (
        "error: standard output: the disk is full. Free some space and start again\n"
    )


def test_help_loads_nothing_heavy(run_python):
    code = (
        "import contextlib, io, sys\n"
        "from keras_mtl.cli import main\n"
        "words = sys.argv[1:]\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:\n"
        "    main.main([*words, '--help'])\n"
        "assert out.getvalue().startswith('usage: keras-mtl'), out.getvalue()\n"
        f"loaded = [name for name in {HEAVY} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    for words in ([], *([name] for name in main.COMMANDS)):
        done = run_python(code, *words)
        assert done.returncode == 0, f"{words}: {done.stderr}"


def parse(*words):
    import argparse

    parser = argparse.ArgumentParser()
    common.add_experiment_arguments(parser)
    return parser.parse_args(words)


def test_experiment_arguments(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "task:\n  pairs: [{source: en, target: fr}]\n"
        "  data: {corpora: [{reader: cldr}], max_length: 32}\n"
    )
    (tmp_path / "b.yaml").write_text("task: {data: {max_length: 48}}\n")
    args = parse(
        "--experiment=translation/transformer_tiny",
        f"--config_file={tmp_path / 'a.yaml'}",
        f"--config_file={tmp_path / 'b.yaml'}",
        "--params_override=trainer.train_steps=7",
        "--params_override=runtime.seed=3",
    )
    config = common.load_config(args)
    assert config.task.model.size == "tiny"
    assert config.task.data.max_length == 48
    assert config.trainer.train_steps == 7
    assert config.runtime.seed == 3
    assert config.task.pairs[0].name == "en-fr"
    assert args.mode == "train_and_eval"


def test_a_model_dir_alone_is_run_again_from_its_params(tmp_path):
    from keras_mtl.configuration import files

    config = files.load_experiment(
        params_override="task.pairs=[{source: en, target: fr}],task.data.corpora=[{reader: cldr}],"
        "runtime.seed=9"
    )
    files.save_params(config, tmp_path)
    assert common.load_config(parse("--model_dir", str(tmp_path))) == config


def test_nothing_chooses_a_configuration(tmp_path):
    with pytest.raises(errors.ConfigError, match="Give --config_file"):
        common.load_config(parse())
    with pytest.raises(errors.ConfigError, match=r"params\.yaml does not exist"):
        common.load_config(parse("--model_dir", str(tmp_path)))
    with pytest.raises(errors.ConfigError, match="--model_dir is missing"):
        common.require_model_dir(parse())


def test_inspect_prints_tasks_parameters_and_differences(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()  # A directory of the user, not prepared data.
    small = tmp_path / "small.yaml"
    small.write_text(
        "task:\n"
        "  pairs: [{source: en, target: fr, baseline: 31.5}, {source: en, target: de}]\n"
        "  data: {corpora: [{reader: cldr, options: {pairs: 9}}], vocabulary: {size: 500}}\n"
        "  model: {size: tiny, hidden_dim: 16, num_heads: 2, intermediate_dim: 32}\n"
    )
    assert main.main(["inspect", "--config_file", str(small)]) == 0
    out = capsys.readouterr().out
    assert "en-fr" in out
    assert "31.5" in out
    assert "manifest.json" not in out
    assert "cleaning: max_characters=1000" in out
    assert out.count(" ||| ") == 6
    total = int(
        next(line for line in out.splitlines() if "total" in line).split()[1].replace(",", "")
    )
    assert total > 500 * 16

    number = tmp_path / "number.json"
    number.write_text("41.2")
    for old, new, message in (
        ("reader: cldr", "reader: cldrr", "did you mean 'cldr'"),
        (
            "{reader: cldr, options: {pairs: 9}}",
            "{reader: tsv, options: {file: no.tsv}}",
            "no.tsv: does not exist",
        ),
        ("task:", "trainer: {schedule: {name: unifrom}}\ntask:", "did you mean 'uniform'"),
        (
            "task:",
            "trainer: {schedule: {baselines_file: no.json}}\ntask:",
            "no.json' does not exist; `keras-mtl base",
        ),
        (
            "task:",
            f"trainer: {{schedule: {{baselines_file: {number}}}}}\ntask:",
            "holds 41.2; give a JSON file",
        ),
        ("task:", "trainer: {schedule: {name: inverse_ratio}}\ntask:", "'en-de' has no baseline"),
        ("data: {", "data: {dev_fraction: 0, ", "so task 'en-fr' cannot be validated"),
    ):
        bad = tmp_path / "bad.yaml"
        bad.write_text(small.read_text().replace(old, new))
        assert main.main(["inspect", "--config_file", str(bad)]) == 2
        found = capsys.readouterr()
        assert message in found.err
        assert "total" in found.out

    asked = tmp_path / "asked.yaml"
    asked.write_text(small.read_text().replace("target: de", "target: DE"))
    assert main.main(["inspect", "--config_file", str(asked)]) == 0
    assert "note: 'DE' (task en-DE): the usual code is 'de'" in capsys.readouterr().err

    other = tmp_path / "other.yaml"
    other.write_text(small.read_text().replace("31.5", "30"))
    assert main.main(["inspect", "--config_file", str(small), "--diff", str(other)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[1].split() == ["task.pairs[en-fr].baseline", "31.5", "30.0"]


def test_inspect_names_tasks_with_few_dev_pairs_or_none(tmp_path):
    from keras_mtl.configuration import files
    from keras_mtl.training.run.findings import find_notes, find_problems

    config = files.load_experiment(
        params_override="task.pairs=[{source: en, target: fr}, {source: en, target: de}],"
        "task.data.corpora=[{reader: cldr, options: {pairs: 9}}]"
    )
    tasks = [types.SimpleNamespace(name=f"en-{x}", dev_size=n) for x, n in (("fr", 9), ("it", 0))]
    vocabulary = types.SimpleNamespace(model_bytes=b"")
    prepared = types.SimpleNamespace(tasks=tasks, vocabulary=vocabulary)
    (note,) = find_notes(config, prepared)
    assert "noisy for tasks with fewer than 100 dev pairs: en-fr (9). Raise" in note
    assert find_problems(config, prepared) == []
    tasks[0].dev_size = 0
    assert find_notes(config, prepared) == []
    (problem,) = find_problems(config, prepared)
    assert problem.startswith("task 'en-fr' has no dev pair to score")
    config.trainer.evaluation.tasks = ["en-de"]
    assert find_problems(config, prepared) == []


def test_parameters_are_added_up_by_layer():
    from keras_mtl.cli.inspect import count_parameters

    variables = [
        ("model/embedding/table", 10),
        ("model/encoder/layer_0/attention/query/kernel", 4),
        ("model/encoder/layer_0/feed_forward/output/bias", 3),
        ("model/encoder/layer_1/attention/query/kernel", 4),
    ]
    assert count_parameters(variables) == {
        "embedding": 10,
        "encoder/layer_0": 7,
        "encoder/layer_1": 4,
    }
