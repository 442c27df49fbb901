"""Measures what adapters cost the engine, in batches of one task and of many tasks.

    python benchmarks/adapters.py [--rounds 5] [--batches 1 8 32] [--beams 1 4] [--tasks 8]

The model is the Transformer base of random weights of `benchmarks/decode.py` (25 source and exactly
25 target tokens), on one core. The same weights are translated without adapters, with
bottlenecks of width 64 after all layers, and with LoRA of rank 8 on all attention inputs; `one`
means that all sentences of a batch have the same adapter, `mixed` that they have those of `--tasks`
tasks in turn. The kinds alternate in the rounds. Each line has the median target tokens per CPU
second, and the CPU time relative to the model without adapters.

Measured on a busy machine (Intel Xeon with AVX-512 VNNI) with the adapters of 8 tasks, CPU time
relative to that without adapters: int8 at batch 1, 8 and 32, with 1 and 4 beams, 1.03 to 1.06
(bottlenecks) and 1.02 to 1.06 (LoRA); float32 at batch 8 with 1 beam 1.05 and 1.07.
"""

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from decode import LENGTH, SIZES, IdVocabulary
from random_transformer import RandomTransformer

from keras_mtl.configuration.adapters import AdapterSet
from keras_mtl.decoding.engine_file import write_engine_file
from keras_mtl.decoding.tasks import TranslationTask
from keras_mtl.engine import Engine, open_model_file, write_model_file
from keras_mtl.engine.adapter_arrays import adapter_hyperparameters
from keras_mtl.engine.arrays import quantize_rows

OPTIONS = {"alpha": 1.0, "min_length": LENGTH, "max_length": LENGTH}
STACKS = ("encoder", "decoder")
MATCH = ".*attention/(qkv|query|key_value)"


def with_adapters(base: Path, path: Path, kind: str, tasks: int) -> Path:
    """Writes the model of a file with random adapters of one kind."""
    random = np.random.default_rng(3)
    file = open_model_file(base)
    tensors = {name: np.array(file.tensor(name)) for name in file.tensor_names}
    int8 = file.hyperparameters["weight_type"] == "int8"
    dim = SIZES["hidden_dim"]

    def matrix(name: str, rows: int, columns: int) -> None:
        value = (random.normal(size=[rows, columns]) * 0.3 * columns**-0.5).astype(np.float32)
        if int8:
            tensors[f"{name}.weight"], tensors[f"{name}.scale"] = quantize_rows(value)
        else:
            tensors[f"{name}.weight"] = value

    size = 64 if kind == "bottleneck" else 8
    outputs = {"qkv": 3 * dim, "query": dim, "key_value": 2 * dim}
    for name in list(tensors):
        for member in range(tasks):
            if kind == "bottleneck" and name.endswith(".feed_forward.output.weight"):
                layer = name.removesuffix(".feed_forward.output.weight")
                own = f"{layer}.adapter.0.{member}"
                tensors[f"{own}.norm.gamma"] = np.ones(dim, np.float32)
                tensors[f"{own}.norm.beta"] = np.zeros(dim, np.float32)
                tensors[f"{own}.down.bias"] = np.zeros(size, np.float32)
                tensors[f"{own}.up.bias"] = np.zeros(dim, np.float32)
                matrix(f"{own}.down", size, dim)
                matrix(f"{own}.up", dim, size)
            dense = name.removesuffix(".weight")
            if kind == "lora" and dense != name and dense.split(".")[-1] in outputs:
                matrix(f"{dense}.lora.0.{member}.down", size, dim)
                matrix(f"{dense}.lora.0.{member}.up", outputs[dense.split(".")[-1]], size)
    members = tuple(f"task{member}" for member in range(tasks))
    sets = [AdapterSet("task", kind, members, STACKS, size, match=MATCH)]
    hyperparameters = {**file.hyperparameters, **adapter_hyperparameters(sets, ["task"])}
    return write_model_file(path, hyperparameters, tensors)


def seconds(
    engine: Engine, sources: list[list[int]], routes: list[int] | None, batch: int, beam: int
) -> float:
    """Returns the CPU seconds of a call."""
    options = {**OPTIONS, "beam_size": beam}
    start = time.process_time()
    engine.translate(sources, options, decoders=routes, max_batch_size=batch)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--types", nargs="+", default=["float32", "int8"])
    parser.add_argument("--tasks", type=int, default=8)
    parser.add_argument("--json", help="file to which the figures are written")
    args = parser.parse_args()
    random = np.random.default_rng(2)
    results = []
    with tempfile.TemporaryDirectory() as directory:
        model = RandomTransformer(SIZES, seed=1)
        vocabulary: Any = IdVocabulary()
        tasks = [TranslationTask("random", "en", "fr")]
        print(f"type     beam batch  {'adapters':16} {'tokens/CPU s':>12}  {'CPU time':>8}")
        for weight_type in args.types:
            base = write_engine_file(
                model, vocabulary, tasks, Path(directory) / "base", weight_type=weight_type
            )
            engines = {"none": Engine(base)}
            for kind in ("bottleneck", "lora"):
                path = with_adapters(base, Path(directory) / kind, kind, args.tasks)
                engines[kind] = Engine(path)
            for beam, batch in itertools.product(args.beams, args.batches):
                count = max(2 * batch, 8)
                pieces = random.integers(5, SIZES["vocabulary_size"], [count, LENGTH - 2])
                sources = [[4, *ids, 2] for ids in pieces.tolist()]
                mixed = [1 + i % args.tasks for i in range(count)]
                kinds: dict[str, tuple[Engine, list[int] | None]] = {
                    "none": (engines["none"], None)
                }
                for kind in ("bottleneck", "lora"):
                    kinds[f"{kind} one"] = engines[kind], [1] * count
                    kinds[f"{kind} mixed"] = engines[kind], mixed
                taken: dict[str, list[float]] = {kind: [] for kind in kinds}
                for number in range(args.rounds + 1):
                    for kind, (engine, routes) in kinds.items():
                        found = seconds(engine, sources, routes, batch, beam)
                        if number:  # The first round warms up.
                            taken[kind].append(found)
                for kind, each in taken.items():
                    tokens = count * LENGTH / statistics.median(each)
                    ratio = statistics.median(
                        a / b for a, b in zip(each, taken["none"], strict=True)
                    )
                    print(
                        f"{weight_type:8} {beam:4} {batch:5}  {kind:16} {tokens:12,.0f}  "
                        f"{ratio:8.3f}",
                        flush=True,
                    )
                    results.append([weight_type, beam, batch, kind, tokens, ratio])
    if args.json:
        Path(args.json).write_text(json.dumps(results))


if __name__ == "__main__":
    main()
