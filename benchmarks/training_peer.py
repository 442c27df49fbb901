"""The PyTorch side of benchmarks/training.py, in a process of its own with its own interpreter.

    python benchmarks/training_peer.py SETTINGS.json BATCHES.npz

Trains `torch.nn.Transformer` with tied embeddings, sinusoidal positions and pre-norm layers.
`torch.nn.Transformer` has one dropout rate, for embeddings, sub-layers, attention weights and
activations alike. Each line of standard input is a JSON list `[name, steps]`, which trains `eager`
or `compiled` for that number of steps; each line of standard output is a JSON list of wall seconds
and CPU seconds. It imports no part of keras_mtl.
"""

import json
import math
import sys
import time

import numpy as np
import torch


def sinusoids(length: int, dim: int) -> torch.Tensor:
    position = torch.arange(length)[:, None]
    rate = torch.exp(torch.arange(dim // 2) * (-math.log(10_000.0) / (dim // 2 - 1)))
    angle = position * rate
    return torch.cat([torch.sin(angle), torch.cos(angle)], 1)


class Translator(torch.nn.Module):
    """Embeddings, `torch.nn.Transformer` and the loss."""

    def __init__(self, settings: dict) -> None:
        super().__init__()
        self.dim, self.smoothing = settings["dim"], settings["smoothing"]
        self.embedding = torch.nn.Embedding(settings["vocabulary"], self.dim)
        torch.nn.init.normal_(self.embedding.weight, std=self.dim**-0.5)
        self.dropout = torch.nn.Dropout(settings["dropout"])
        self.transformer = torch.nn.Transformer(
            self.dim,
            settings["heads"],
            settings["layers"],
            settings["layers"],
            settings["ff"],
            settings["dropout"],
            batch_first=True,
            norm_first=True,
        )
        self.register_buffer("positions", sinusoids(512, self.dim), persistent=False)

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        embedded = self.embedding(ids) * math.sqrt(self.dim) + self.positions[: ids.shape[1]]
        return self.dropout(embedded)

    def forward(self, source: torch.Tensor, target: torch.Tensor, padded: bool) -> torch.Tensor:
        shifted = torch.cat([torch.ones_like(target[:, :1]), target[:, :-1]], 1)
        causal = torch.nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        padding = torch.where(source == 0, float("-inf"), 0.0) if padded else None
        states = self.transformer(
            self.embed(source),
            self.embed(shifted),
            tgt_mask=causal,
            tgt_is_causal=True,
            src_key_padding_mask=padding,
            memory_key_padding_mask=padding,
        )
        logits = torch.nn.functional.linear(states, self.embedding.weight)
        return torch.nn.functional.cross_entropy(
            logits.flatten(0, 1),
            target.flatten(),
            ignore_index=0,
            label_smoothing=self.smoothing,
        )


class Contestant:
    """A training step on batches in turn."""

    def __init__(self, settings: dict, compiles: bool) -> None:
        torch.manual_seed(1)
        model = Translator(settings)
        self._model = torch.compile(model) if compiles else model
        self._optimizer = torch.optim.Adam(model.parameters(), 1e-4, fused=True)

    def run(self, batches: list, steps: int) -> tuple[float, float]:
        start, cpu_start = time.perf_counter(), time.process_time()
        for i in range(steps):
            loss = self._model(*batches[i % len(batches)])
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
        loss.item()
        return time.perf_counter() - start, time.process_time() - cpu_start


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        settings = json.load(file)
    if settings["threads"]:
        torch.set_num_threads(settings["threads"])
    arrays = np.load(sys.argv[2])
    batches = []
    for i in range(len(arrays.files) // 2):
        sides = [torch.from_numpy(arrays[f"{side}{i}"]).long() for side in ("source", "target")]
        batches.append((*sides, any(bool((ids == 0).any()) for ids in sides)))
    contestants = {
        name: Contestant(settings, name == "compiled") for name in settings["contestants"]
    }
    for line in sys.stdin:
        name, steps = json.loads(line)
        print(json.dumps(contestants[name].run(batches, steps)), flush=True)


if __name__ == "__main__":
    main()
