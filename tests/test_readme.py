"""The README: its configurations load, its commands parse, its links lead somewhere."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from keras_mtl.cli.main import COMMANDS, _parser
from keras_mtl.configuration import files

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIGURATION, ADAPTIVE = re.findall(r"^```yaml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
# Lines of code blocks, with those that a backslash continues.
COMMAND_LINES = re.findall(r"^(keras-mtl .*)$", README.replace("\\\n", " "), re.MULTILINE)


def load(tmp_path, text):
    path = tmp_path / "my.yaml"
    path.write_text(text, encoding="utf-8")
    return files.load_experiment(config_files=[path])


def test_the_first_configuration_is_small_enough_for_a_laptop(tmp_path):
    config = load(tmp_path, CONFIGURATION)
    assert [pair.name for pair in config.task.pairs] == ["en-fr", "en-ca", "en-oc"]
    assert config.task.model.size == "tiny"
    # The demo trains on 1,000 batches of 2,048 tokens in about four minutes.
    assert config.trainer.train_steps * config.task.data.tokens_per_batch < 1.5 * 1000 * 2048
    lines = CONFIGURATION.splitlines()
    assert lines[-1].strip().startswith("schedule:")
    changed = "\n".join([*lines[:-1], ADAPTIVE])
    assert load(tmp_path, changed).trainer.schedule.name == "inverse_ratio"


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_commands_parse(line):
    words = shlex.split(line.partition("<")[0], comments=True)[1:]
    command, parser = _parser(words)
    assert command in COMMANDS
    parser.parse_args(words)


def test_every_command_is_named():
    assert len(COMMAND_LINES) >= 8
    for command in COMMANDS:
        assert re.search(rf"`{command}`|keras-mtl {command}", README), command


def test_extras_that_are_named_exist():
    """In messages and pages; who has no GPU support is told to install `[gpu]`."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = set(tomllib.load(file)["project"]["optional-dependencies"])
    named = set(re.findall(r"'\.\[(\w+)\]'", README))
    for directory, ending in (("keras_mtl", "*.py"), ("docs", "*.md")):
        for path in (ROOT / directory).rglob(ending):
            named |= set(re.findall(r"keras_mtl\[(\w+)\]", path.read_text(encoding="utf-8")))
    assert "gpu" in named
    assert named <= extras


def test_links_and_pictures_exist():
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", README)
    assert len(targets) > 15
    for target in targets:
        assert (ROOT / target).exists(), target
