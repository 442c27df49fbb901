"""A run with the sub-layers of docs/how-to/extending.md, from a user's directory to SavedModel."""

import re
import sys
from pathlib import Path

import pytest

from keras_mtl.decoding.saved_model_translator import SavedModelTranslator
from tests import processes

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")
(MODULE,) = re.findall(r"```python\n([^`]*?SquaredReluFeedForward.*?)```", PAGE, re.DOTALL)

CONFIG = """
task:
  pairs: [{source: en, target: fr}, {source: en, target: es}]
  data:
    corpora: [{reader: cldr, options: {pairs: 300}}]
    vocabulary: {size: 500}
    dev_fraction: 0.05
    test_fraction: 0.05
    max_length: 64
    bucket_lengths: [64]
    tokens_per_batch: 256
  decoding: {max_length: 4}
  model:
    size: tiny
    hidden_dim: 16
    num_heads: 2
    intermediate_dim: 32
    encoder_layers: 1
    decoder_layers: 1
    max_length: 64
    feed_forward: squared_relu
    feed_forward_parameters: {use_bias: true}
    norm: scale
    norm_parameters: {epsilon: 1.0e-5}
trainer:
  checkpoint_interval: 1
  steps_per_loop: 1
  evaluation: {interval: 2, max_pairs: 2}
"""


@pytest.mark.nightly  # Parts: test_docs_extending.py, test_plugins.py.
def test_train_resume_evaluate_and_export(tmp_path):
    (tmp_path / "my_layers.py").write_text(MODULE)
    (tmp_path / "run.yaml").write_text(CONFIG)
    train = "train --import my_layers --config_file run.yaml --params_override"
    commands = [
        f"{train} trainer.evaluation.backend=native --model_dir none",
        f"{train} trainer.train_steps=1 --model_dir run --mode train",
        f"{train} trainer.train_steps=2 --model_dir run",
        "evaluate --model_dir run --max_pairs 2 --beam_size 1 --tasks en-fr",
        "export --model_dir run --format engine --output model.kmtl",
        "export --model_dir run --output portable",
    ]
    _, output, error = processes.keras_mtl_in(tmp_path, *commands).finish()
    codes = [int(code) for code in re.findall(r"^code (\d)$", output, re.M)]
    assert codes == [2, 0, 0, 0, 2, 0], error
    assert not (tmp_path / "none").exists()
    names = "task.model.feed_forward is 'squared_relu' and task.model.norm is 'scale'"
    reason = f"{names}, and only TensorFlow"
    assert f"trainer.evaluation.backend = 'native': {reason}" in error
    assert error.count(f"decoding with TensorFlow: {reason}") == 2  # validation, evaluate
    assert f"error: {reason} runs sub-layers of plug-ins. Export the portable" in error
    # The exported model needs no plug-in, and this process has none.
    (tmp_path / "my_layers.py").unlink()
    assert "my_layers" not in sys.modules
    translator = SavedModelTranslator(tmp_path / "portable")
    assert len(translator.translate(["Monday", "June"], "en-fr")) == 2
