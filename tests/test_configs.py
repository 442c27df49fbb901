"""Every file in configs/ loads, is valid and builds at a small size, so that none rots."""

import pathlib

import numpy as np
import pytest

from keras_mtl import schedules
from keras_mtl.configuration import files
from keras_mtl.data import batch_plan, corpora
from keras_mtl.simulation.experiment import read_experiment

CONFIGS = pathlib.Path(__file__).parents[1] / "configs"
NAMES = sorted(path.stem for path in CONFIGS.glob("*.yaml"))

# Small enough to build in a second; everything else stays as the file has it.
SMALL = (
    "task.data.vocabulary.size=400,task.model.hidden_dim=16,task.model.num_heads=2,"
    "task.model.intermediate_dim=32,task.model.encoder_layers=1,task.model.decoder_layers=1,"
    "runtime.mixed_precision_dtype=float32"
)

PO_FILE = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "a"\nmsgstr "b"\n'


def load(name, *params):
    return files.load_experiment(None, [CONFIGS / f"{name}.yaml"], params)


def all_corpora(config):
    for pair in config.task.pairs:
        for corpus in pair.corpora or config.task.data.corpora:
            yield pair, corpus
        for corpus in [*pair.dev_corpora, *pair.test_corpora]:
            yield pair, corpus


def test_the_promised_ones_are_there():
    assert {"demo", "gettext_romance", "wmt14_en_fr_de", "ted_many"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_head_comment_gives_data_and_command(name):
    lines = (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    head = "\n".join(lines[: next(i for i, line in enumerate(lines) if line[:1] != "#")])
    assert "# Data: " in head
    assert "# Run:  " in head
    assert f"configs/{name}.yaml" in head


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_saved_and_run_again(name, tmp_path):
    config = load(name)
    files.save_params(config, tmp_path)
    assert files.diff(config, files.load_params(tmp_path)) == []


@pytest.mark.parametrize("name", NAMES)
def test_readers_take_the_options(name, tmp_path, monkeypatch):
    """With a file of one line wherever the configuration names one."""
    monkeypatch.chdir(tmp_path)
    config = load(name)
    for pair, corpus in all_corpora(config):
        options = corpus.options
        for option, value in options.items():
            if option == "file" or option.endswith("_file"):
                assert pathlib.Path(value).is_relative_to(CONFIGS.parent / "data"), (
                    "what the user supplies lies below data/"
                )
                path = tmp_path / pathlib.Path(value).relative_to(CONFIGS.parent)
                options[option] = str(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("a\tb\n" if corpus.reader == "tsv" else "a\n")
        if "folders" in options:
            options["folders"] = "locale"
            messages = pathlib.Path("locale") / pair.target / "LC_MESSAGES"
            messages.mkdir(parents=True, exist_ok=True)
            (messages / "program.po").write_text(PO_FILE)
        reader = corpora.create_reader(corpus.reader, pair.source, pair.target, options)
        assert isinstance(next(iter(reader)), corpora.Pair)


@pytest.mark.parametrize("name", NAMES)
def test_schedule_and_buckets_can_be_built(name):
    config = load(name)
    tasks = [
        schedules.TaskInfo(pair.name, pair.max_pairs or 1000 * (i + 1), pair.baseline)
        for i, pair in enumerate(config.task.pairs)
    ]
    settings = config.trainer.schedule
    schedule = schedules.create(settings.name, tasks, **settings.parameters)
    assert np.isclose(schedule.probabilities(0, schedule.init()).sum(), 1)
    data = config.task.data
    buckets = batch_plan.make_buckets(
        data.max_length, data.tokens_per_batch, lengths=data.bucket_lengths
    )
    assert buckets[-1].length >= data.max_length


@pytest.mark.parametrize("name", NAMES)
def test_the_model_can_be_built_and_called(name):
    from keras_mtl.models.factory import build_transformer

    config = load(name, SMALL)
    targets = tuple(dict.fromkeys(pair.target for pair in config.task.pairs))
    decoders = targets if config.task.model.sharing == "encoder" else ("",)
    size = config.task.data.vocabulary.size
    model = build_transformer(config.task.model, size, decoders)
    ids = np.array([[5, 6, 2], [7, 2, 0]], np.int32)
    decoder = np.full([2], len(decoders) - 1, np.int32)
    logits = model({"source": ids, "target": ids, "decoder": decoder})
    assert logits.shape == (2, 3, size)
    assert np.isfinite(np.asarray(logits)).all()


def test_demo_is_truly_unequal():
    sizes = [pair.max_pairs for pair in load("demo").task.pairs]
    assert len(sizes) >= 6
    assert max(sizes) >= 100 * min(sizes)


def test_the_seed_s_pair():
    """En-Fr whole, En-De cut to a million pairs, a decoder each, Transformer base."""
    config = load("wmt14_en_fr_de")
    assert [(p.name, p.max_pairs) for p in config.task.pairs] == [
        ("en-fr", None),
        ("en-de", 1_000_000),
    ]
    assert (config.task.model.sharing, config.task.model.size) == ("encoder", "base")


def test_a_simulation_reads_what_training_reads():
    config = load("demo")
    found = read_experiment([CONFIGS / "demo.yaml"])
    assert [task.name for task in found.tasks] == [pair.name for pair in config.task.pairs]
    assert [task.baseline for task in found.tasks] == [p.baseline for p in config.task.pairs]
    schedule = config.trainer.schedule
    assert found.schedule == (schedule.name, schedule.parameters)
    assert found.steps == config.trainer.train_steps
    assert found.interval == config.trainer.evaluation.interval
