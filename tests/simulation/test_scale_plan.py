"""What a run costs on given hardware, and the page whose figures come from it."""

import json
import pathlib
import re
import shlex

import pytest

from keras_mtl.cli.main import main
from keras_mtl.configuration.schema import PairConfig, TransformerConfig
from keras_mtl.configuration.stack_sharing import StackConfig, StacksConfig, copies_of_stacks
from keras_mtl.errors import ConfigError
from keras_mtl.simulation.accelerators import CHIPS, parse_hardware
from keras_mtl.simulation.experiment import read_experiment
from keras_mtl.simulation.model_costs import Batch, ModelCosts
from keras_mtl.simulation.recurrent_costs import model_costs
from keras_mtl.simulation.scale_plan import make_plan
from keras_mtl.simulation.scale_table import bytes_text, seconds_text
from tests.simulation.test_simulate_command import CONFIG

PAGE = pathlib.Path(__file__).parents[2] / "docs/explanation/scale.md"


def blocks(kind):
    """The fenced blocks of the page, of one language."""
    text = PAGE.read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def page_files(tmp_path, monkeypatch):
    """A directory with the files that the page makes."""
    monkeypatch.chdir(tmp_path)
    (configuration,), (program,) = blocks("yaml"), blocks("python")
    pathlib.Path("large.yaml").write_text(configuration)
    exec(program, {})
    return tmp_path


def words_of_page():
    (command,) = blocks("bash")
    return shlex.split(command.replace("\\\n", " "))[1:]


def test_the_page_shows_what_its_command_prints(page_files, capsys):
    assert main(words_of_page()) == 0
    (shown,) = blocks("text")
    assert capsys.readouterr().out == shown


def test_the_page_compares_batches(page_files, capsys):
    text = PAGE.read_text(encoding="utf-8")
    rows = re.findall(
        r"^  \| `(\w+)`(, packed)? \| (\d+)% \| ([\d.]+) h \| ([\d.]+)% \|$", text, re.M
    )
    assert len(rows) == 4
    configuration = pathlib.Path("large.yaml").read_text()
    for granularity, packed, padding, hours, share in rows:
        other = configuration.replace("granularity: batch", f"granularity: {granularity}")
        other = other.replace("packing: true", f"packing: {str(bool(packed)).lower()}")
        pathlib.Path("large.yaml").write_text(other)
        assert main([*words_of_page(), "--json", "plan.json"]) == 0
        plan = json.loads(pathlib.Path("plan.json").read_text())
        update = max(plan["flops_seconds"], plan["access_seconds"])
        assert f"{plan['padding']:.0%}" == f"{padding}%"
        assert f"{plan['epoch_updates'] * plan['access_seconds'] / 3600:.3g}" == hours
        assert f"{plan['draw_seconds'] / update:.1%}" == f"{share}%"


def test_the_page_compares_with_the_compiler():
    base = ModelCosts(TransformerConfig(size="base"), 32_000, {})
    cells = {rows: Batch(rows * 128, rows * 128, 128, 128) for rows in (192, 256, 512)}
    text = PAGE.read_text(encoding="utf-8")
    for computed in (
        f"{base.training_flops(cells[256]) / 1e12:.1f} TFLOP",
        f"{base.memory_access(cells[256], 2, 1) / 1e9:.0f} GB",
        *(f"{base.activations(cells[rows], 2) / 1e9:.1f} GB" for rows in (256, 192, 512)),
    ):
        assert f"| {computed} |" in text
    assert f"{base.parameters / 1e6:.1f} million" in text


def test_recomputation_saves_memory_and_costs_operations():
    batch = Batch(256 * 128, 256 * 128, 128, 128)
    plain, layers, logits = (
        ModelCosts(TransformerConfig(size="base", **fields), 32_000, {})
        for fields in ({}, {"recompute": "layer"}, {"logits_chunk": 2048})
    )
    assert layers.activations(batch, 2) < 0.5 * plain.activations(batch, 2)
    saved = plain.activations(batch, 2) - logits.activations(batch, 2)
    assert saved == pytest.approx((1 - 2048 / 32_768) * 32_768 * 32_000 * 4)
    for other in (layers, logits):
        assert plain.training_flops(batch) < other.training_flops(batch)
        assert other.training_flops(batch) < 4 / 3 * plain.training_flops(batch)
        assert other.memory_access(batch, 2, 1) > plain.memory_access(batch, 2, 1)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": "tiny"},
        {"size": "tiny", "tie_embeddings": False, "positions": "learned", "max_length": 30},
        {"size": "tiny", "sharing": "encoder", "decoder_layers": 1, "encoder_layers": 3},
        {"size": "tiny", "feed_forward": "gated", "norm": "rms_norm", "encoder_layers": 3},
        {"size": "tiny", "norm_position": "post", "transparent_attention": True},
        {"size": "tiny", "stacks": {"encoder": "source", "embeddings": "target"}},
        {
            "size": "tiny",
            "tie_embeddings": False,
            "stacks": {"decoder": "target", "source_embedding": "source"},
        },
        {"size": "tiny", "architecture": "rnmt", "encoder_layers": 3, "decoder_layers": 3},
        {"size": "tiny", "architecture": "rnmt", "tie_embeddings": False, "sharing": "encoder"},
        {"size": "tiny", "architecture": "hybrid", "positions": "learned", "encoder_layers": 3},
        {
            "size": "tiny",
            "architecture": "rnmt",
            "tie_embeddings": False,
            "stacks": {"decoder": "target", "projection": "target"},
        },
    ],
)
def test_parameters_are_those_of_the_model(fields):
    fields = dict(fields)
    from keras_mtl.models.factory import build_model

    stacks = {name: StackConfig(per) for name, per in fields.pop("stacks", {}).items()}
    if stacks:
        fields |= {"sharing": "by_stack", "stacks": StacksConfig(**stacks)}
    config = TransformerConfig(**fields)
    pairs = [PairConfig(name=f"{s}-{t}", source=s, target=t) for s, t in ("ef", "ed", "sf")]
    copies = copies_of_stacks(config, pairs)
    model = build_model(config, 300, copies.get("decoder", ()), tasks=pairs)
    expected = sum(int(weight.shape.num_elements()) for weight in model.trainable_variables)
    assert model_costs(config, 300, copies).parameters == expected


def test_hardware():
    pod = parse_hardware("v5e:16x16")
    assert (pod.chips, pod.hosts, pod.host_cores) == (256, 64, 56)
    assert pod.peak("mixed_bfloat16") == 256 * 197e12
    board = parse_hardware("v6e:2x4")
    assert (board.chips, board.hosts, board.host_cores) == (8, 1, 90)
    gpus = parse_hardware("h100:16")
    assert (gpus.chips, gpus.hosts, gpus.host_cores) == (16, 2, 104)
    assert gpus.peak("float32") < gpus.peak("mixed_float16")
    assert parse_hardware("a100:2").host_cores == 12
    cores = parse_hardware("cpu:4")
    assert (cores.chips, cores.hosts, cores.is_cpu) == (4, 1, True)
    assert all(chip.source for chip in CHIPS.values())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5:2x4", "unknown chip 'v5'; did you mean"),
        ("v5e:3x3", "'3x3' is not a topology of TPU v5e"),
        ("h100:many", "'many' is not a number"),
        ("cpu:0", "'0' is not a number of at least 1"),
        ("h100:12", "at most 8 or a multiple of 8"),
    ],
)
def test_unknown_hardware(name, message, capsys):
    with pytest.raises(ConfigError, match=message):
        parse_hardware(name)
    assert main(["simulate", "--hardware", name]) == 2
    assert message in capsys.readouterr().err


def plan_of(tmp_path, hardware="v5e:2x4", **overrides):
    """The plan of a small configuration; overrides replace fields of `trainer.optimizer`."""
    import yaml

    config = {**CONFIG, "trainer": {**CONFIG["trainer"], "optimizer": overrides}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config).replace("'1e-1'", "1e-1"))
    return make_plan(read_experiment([tmp_path / "config.yaml"]), parse_hardware(hardware))


def test_what_changes_the_plan(tmp_path):
    plain = plan_of(tmp_path)
    weights = 4 * plain.parameters
    assert plain.checkpoint_bytes == 3 * weights
    assert plan_of(tmp_path, ema_momentum=0.999).checkpoint_bytes == 4 * weights
    assert plan_of(tmp_path, moments="per_task").checkpoint_bytes == 7 * weights  # 3 tasks
    twice = plan_of(tmp_path, gradient_accumulation_steps=2)
    assert twice.flops == 2 * plain.flops
    assert twice.activation_bytes == plain.activation_bytes
    assert twice.epoch_updates == plain.epoch_updates / 2
    assert plain.epoch_updates == pytest.approx(11_090 / plain.batch_pairs)
    assert plan_of(tmp_path, "cpu:2").exchanged_bytes == 0
    assert plan_of(tmp_path, "v6e:2x4").flops_seconds < plain.flops_seconds


def test_what_is_kept_and_validated(tmp_path):
    plan = plan_of(tmp_path)
    config = read_experiment([tmp_path / "config.yaml"])
    assert plan.kept_bytes == (3 * config.config.trainer.max_to_keep + 1) * 4 * plan.parameters
    config.config.trainer.best.worst, config.config.trainer.best.tasks = 2, 1
    config.config.trainer.evaluation.max_tasks = 2
    other = make_plan(config, parse_hardware("v5e:2x4"))
    more = 2 + 3  # Of the worst task, and of three tasks.
    assert other.kept_bytes - plan.kept_bytes == more * 4 * plan.parameters
    assert other.validation_sentences == round(plan.validation_sentences * 2 / 3)
    assert other.validation_seconds == pytest.approx(plan.validation_seconds * 2 / 3)
    config.config.trainer.evaluation.max_tasks = 9
    assert make_plan(config, parse_hardware("v5e:2x4")).validation_seconds == (
        plan.validation_seconds
    )


def test_arguments_that_do_not_fit(tmp_path, capsys):
    tasks = tmp_path / "tasks.yaml"
    tasks.write_text("- {name: a, size: 1000}\n")
    words = ["simulate", "--tasks", str(tasks)]
    assert main([*words, "--source_tokens", "5"]) == 2
    assert "only with --hardware" in capsys.readouterr().err
    assert main([*words, "--hardware", "cpu:1", "--schedule", "uniform"]) == 2
    assert "--schedule has no effect with --hardware" in capsys.readouterr().err
    config = tmp_path / "config.yaml"
    config.write_text("task: {model: {sharing: encoder}}\n")
    assert main([*words, "--config_file", str(config), "--hardware", "cpu:1"]) == 2
    assert "task.model.sharing = 'encoder' depends on the languages" in capsys.readouterr().err
    tasks.write_text("- {name: a, size: 0}\n")
    assert main([*words, "--hardware", "cpu:1"]) == 2
    assert "the tasks have no pairs" in capsys.readouterr().err


def test_prepared_data_gives_sizes_and_lengths(tmp_path):
    from keras_mtl.data.prepared import MANIFEST_KIND

    task = {"source": "en", "target": "fr", "test_size": 1, "counts": {}}
    manifest = {
        "kind": MANIFEST_KIND,
        "tasks": [
            {**task, "name": "en-fr", "train_size": 100, "dev_size": 7}
            | {"source_tokens": 1000, "target_tokens": 1500}
        ],
    }
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "manifest.json").write_text(json.dumps(manifest))
    config = tmp_path / "config.yaml"
    config.write_text("task: {pairs: [{source: en, target: fr}]}\n")
    plan = make_plan(read_experiment([config], tmp_path), parse_hardware("cpu:1"))
    assert plan.pairs == 100
    assert plan.target_tokens == 1700  # With tag and end of sentence.
    assert plan.validation_sentences == 7


def test_numbers_as_text():
    assert [bytes_text(n) for n in (5, 1200, 3.45e6, 1.18e12)] == [
        "5 B",
        "1.2 kB",
        "3.45 MB",
        "1.18 TB",
    ]
    shown = [seconds_text(n) for n in (2e-5, 0.113, 1.5, 119, 600, 8e3, 2e5, 1e8)]
    assert shown == [
        "20 µs",
        "113 ms",
        "1.5 s",
        "119 s",
        "10 min",
        "2.22 h",
        "2.31 days",
        "1,157 days",
    ]
