"""Measures decoding on a CPU: CTranslate2, our engine in float32 and int8, our TensorFlow graph.

    python benchmarks/decode.py [--rounds 3] [--batches 1 8 32 64] [--json FILE]
    python benchmarks/decode.py --model_dir runs/model --task en-fr --text lines.en

All systems have the same weights, source ids, beam, length penalty, lengths and number of sentences
processed at once (`max_batch_size`). The model is a Transformer base with random weights (6 + 6
layers, d 512, ff 2048, 8 heads, V 32,000, tied; 25 source and exactly 25 target tokens).
`--layers 12 1` gives it other numbers of encoder and decoder layers. With `--model_dir` it is a
trained model that translates the lines of `--text`.

Every setting runs in its own process and is warmed up before the first figure. For each number of
cores, type and batch size, one trial round chooses the fastest setting: for CTranslate2 among its
instruction sets, matrix libraries and `inter_threads x intra_threads`, for the engine among workers
x threads. These settings then alternate in the rounds that count, and medians are printed. Before
any time is taken, translations and scores are compared.

`--no_tf` leaves out the TensorFlow graph. It is for a machine that has only NumPy, CTranslate2 and
a wheel of keras_mtl.

Each line has target tokens per second and per CPU second, each with its ratio to CTranslate2 on the
same number of cores in the same type, and the setting. CPU time is more reliable on a machine that
also runs other programs: it measures the work, not how well two cores are used. Then come the
resident memory after the work (of the whole process, including Python and libraries) and the
loading time. On a CPU with AMX, everything is repeated without AMX.

Measured with CTranslate2 4.8.5 on two cores with AVX-512 VNNI (AMD Zen 4), medians of 3 rounds; one
core: float32 3.32, 1.67, 1.34 and 1.30 times CTranslate2's tokens per second at batch 1, 8, 32 and
64, int8 3.84, 1.81, 1.89 and 1.76 times; two cores, batch 64: 1.23 and 2.23 times. Resident after
batch 64: float32 348 MB against 418, int8 119 against 464. On two cores with only AVX2 (AMD Zen 3,
an earlier version of the engine), medians of 2 rounds; one core: float32 2.40, 1.34, 1.25 and 1.20
times, int8 2.67, 1.30, 1.22 and 1.23 times; two cores, batch 64: 1.32 and 1.34 times.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from random_transformer import RandomTransformer, keras_transformer

SIZES = {
    "vocabulary_size": 32000,
    "hidden_dim": 512,
    "num_heads": 8,
    "intermediate_dim": 2048,
    "encoder_layers": 6,
    "decoder_layers": 6,
}
LENGTH = 25
SENTENCES = {1: 6, 8: 24}  # by batch size; two batches for other sizes
AMX_OFF = {"KERAS_MTL_ISA": "vnni", "MKL_ENABLE_INSTRUCTIONS": "AVX512_E1"}
# CTranslate2's own kernels use at most AVX2 by default. Its matrix products are those of MKL on
# Intel processors and of oneDNN on others; packed products of MKL are an option.
CT2_ISAS = {"avx2": ["AVX2"], "vnni": ["AVX2", "AVX512"], "amx": ["AVX2", "AVX512"]}


class IdVocabulary:
    """A vocabulary for work without text: piece i is "t<i>"."""

    pad_id, bos_id, eos_id, unk_id = 0, 1, 2, 3
    hash, tokenizer_bytes, size = "none", b"-", SIZES["vocabulary_size"]
    languages, is_byte = (), ()
    has_source = False

    @property
    def source(self):
        return self

    def tag_id(self, language):
        return 4

    def piece(self, token):
        return f"t{token}"


def build(args):
    """Returns (model, vocabulary, tasks, task)."""
    from keras_mtl.decoding.tasks import TranslationTask

    if args.model_dir:
        from keras_mtl.decoding.loading import load_model
        from keras_mtl.decoding.tasks import find_task

        loaded = load_model(args.model_dir)
        task = find_task(loaded.tasks.tasks, args.task)
        return loaded.model, loaded.vocabulary, loaded.tasks.tasks, task
    encoder, decoder = args.layers
    sizes = {**SIZES, "encoder_layers": encoder, "decoder_layers": decoder}
    model = RandomTransformer(sizes, seed=1)
    task = TranslationTask("random", "en", "fr", 0)
    return model, IdVocabulary(), [task], task


def prepare(args):
    """Writes the models and the work: options, and sources as ids and as CTranslate2's tokens."""
    import numpy as np

    from keras_mtl.decoding.suppressed import suppressed_ids
    from keras_mtl.export.ctranslate2 import write_directory
    from keras_mtl.export.engine_file import export_engine_file

    model, vocabulary, tasks, task = build(args)
    options = {"beam_size": args.beam_size, "alpha": 1.0, "suppress": suppressed_ids(vocabulary)}
    if args.model_dir:
        lines = Path(args.text).read_text(encoding="utf-8").splitlines()
        encoded = vocabulary.source.encode_batch(lines)
        pieces = [ids for ids in encoded if 0 < len(ids) < 100]
        options |= {"max_length": min(256, model.max_length)}
    else:
        generator = np.random.default_rng(2)
        pieces = generator.integers(5, vocabulary.size, [256, LENGTH - 2]).tolist()
        options |= {"min_length": LENGTH, "max_length": LENGTH}
    directory = Path(args.directory)
    for kind in ("float32", "int8"):
        export_engine_file(model, vocabulary, tasks, directory / f"{kind}.kmtl", weight_type=kind)
    own = vocabulary.source
    tokens, source_tokens = (
        [each.piece(i) for i in range(each.size)] for each in (vocabulary, own)
    )
    ids = {name: getattr(vocabulary, name) for name in ("unk_id", "bos_id", "eos_id")}
    write_directory(
        model, task.decoder, tokens, directory / "ct2", source_tokens=source_tokens, **ids
    )
    tag, eos = own.tag_id(task.target), vocabulary.eos_id
    sources = [[tag, *ids, eos] for ids in pieces]
    work = {
        "sources": sources,
        "decoder": task.decoder,
        "options": options,
        "tokens": [[source_tokens[i] for i in source[:-1]] for source in sources],
        "suppress": [[tokens[i]] for i in options["suppress"]],
        "ids": {token: i for i, token in enumerate(tokens)},
    }
    (directory / "work.json").write_text(json.dumps(work))


class Ctranslate2:
    """A call with (first sentence, sentences, batch size) returns (tokens, score) of each."""

    def __init__(self, args, work):
        import ctranslate2

        self.work = work
        self.translator = ctranslate2.Translator(
            f"{args.directory}/ct2", compute_type=args.kind, inter_threads=args.workers,
            intra_threads=args.threads,
        )  # fmt: skip

    def __call__(self, first, count, batch):
        options = self.work["options"]
        results = self.translator.translate_batch(
            self.work["tokens"][first : first + count],
            max_batch_size=batch,
            beam_size=options["beam_size"],
            length_penalty=options["alpha"],
            min_decoding_length=options.get("min_length", 1),
            max_decoding_length=options["max_length"],
            suppress_sequences=self.work["suppress"],
            return_scores=True,
        )
        ids = self.work["ids"]
        return [([ids[t] for t in r.hypotheses[0]], r.scores[0]) for r in results]


class Ours:
    """Same interface as `Ctranslate2`."""

    def __init__(self, args, work):
        from keras_mtl.engine import Engine

        self.work = work
        path = f"{args.directory}/{args.kind}.kmtl"
        self.engine = Engine(path, workers=args.workers, threads=args.threads)

    def __call__(self, first, count, batch):
        sources = self.work["sources"][first : first + count]
        decoders = [self.work["decoder"]] * len(sources)
        found = self.engine.translate(
            sources, self.work["options"], decoders=decoders, max_batch_size=batch
        )
        return [(h[0].ids, h[0].score) for h in found]


class TensorFlow:
    """Same interface as `Ctranslate2`."""

    def __init__(self, args, work):
        import tensorflow as tf

        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.threading.set_intra_op_parallelism_threads(args.threads)
        from keras_mtl.decoding.model_search import Batch, ModelSearch
        from keras_mtl.decoding.options import BeamOptions

        model, vocabulary, _, _ = build(args)
        if not args.model_dir:
            model = keras_transformer(model)
        self.work, self.batch = work, Batch
        self.search = ModelSearch(model, vocabulary, BeamOptions(**work["options"]))

    def __call__(self, first, count, batch):
        import numpy as np

        sources = self.work["sources"][first : first + count]
        order = sorted(range(len(sources)), key=lambda i: len(sources[i]))
        found = [None] * len(sources)
        for begin in range(0, len(order), batch):
            rows = order[begin : begin + batch]
            array = np.zeros([len(rows), max(len(sources[i]) for i in rows)], np.int32)
            for row, i in zip(array, rows, strict=True):
                row[: len(sources[i])] = sources[i]
            decoder = np.full([len(rows)], self.work["decoder"], np.int32)
            longest = np.full([len(rows)], self.work["options"]["max_length"], np.int32)
            result = self.search(self.batch(array, decoder, longest))
            for n, i in enumerate(rows):
                tokens = result.ids[n, 0, : result.lengths[n, 0]].tolist()
                found[i] = tokens, float(result.scores[n, 0])
        return found


SYSTEMS = {"ct2": Ctranslate2, "ours": Ours, "tf": TensorFlow}


def memory(field):
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) // 1024
    raise ValueError(field)


def serve(args):
    """Loads one setting; answers each line [first, count, batch] with its measurements."""
    work = json.loads((Path(args.directory) / "work.json").read_text())
    begin = time.perf_counter()
    system = SYSTEMS[args.system](args, work)
    print(json.dumps({"load": time.perf_counter() - begin}), flush=True)
    for line in sys.stdin:
        first, count, batch = json.loads(line)
        begin, cpu = time.perf_counter(), time.process_time()
        found = system(first, count, batch)
        answer = {
            "seconds": time.perf_counter() - begin,
            "cpu": time.process_time() - cpu,
            "found": found,
            "resident": memory("VmRSS"),
        }
        print(json.dumps(answer), flush=True)


class Setting:
    """A process with one system, type, number of workers and number of threads."""

    def __init__(self, args, system, kind, workers, threads, environment):
        self.system, self.kind, self.cores = system, kind, workers * threads
        self.name = f"{workers}x{threads}"
        if system == "ct2":
            library = "MKL" if environment["CT2_USE_MKL"] == "1" else "default"
            self.name += f" {environment['CT2_FORCE_CPU_ISA']} {library}"
        command = [sys.executable, __file__, "--serve", "--directory", args.directory]
        command += ["--system", system, "--kind", kind, "--beam_size", str(args.beam_size)]
        command += ["--workers", str(workers), "--threads", str(threads)]
        if args.model_dir:
            command += ["--model_dir", args.model_dir, "--task", args.task]
        self._command = command
        self._environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **environment}

    def start(self):
        self.process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=self._environment,
        )  # fmt: skip
        self.load, self.resident = self._read()["load"], 0
        self(0, 2, 2)

    def _read(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.system} {self.kind} {self.name} failed: see its message above")
        return json.loads(line)

    def __call__(self, first, count, batch):
        self.process.stdin.write(json.dumps([first, count, batch]) + "\n")
        self.process.stdin.flush()
        answer = self._read()
        self.resident = answer["resident"]
        return answer

    def speed(self, batch, trial=False):
        """Target tokens per second and per CPU second."""
        count = SENTENCES.get(batch, 2 * batch)
        if trial or self.system == "tf":  # One batch is enough, because it is slow.
            count = max(self.cores * batch, 2) if self.system != "tf" else max(batch, 2)
        answer = self(0, count, batch)
        tokens = sum(len(tokens) for tokens, _ in answer["found"])
        return tokens / answer["seconds"], tokens / answer["cpu"]

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def make_groups(args, environment):
    """Settings to choose from, by (cores, type, system)."""
    from keras_mtl.engine.library import core

    variants = [
        {"CT2_FORCE_CPU_ISA": isa, "CT2_USE_MKL": mkl, **environment}
        for isa in CT2_ISAS.get(core().isa(), ["GENERIC"])
        for mkl in ("0", "1")
    ]
    groups = {}
    for workers, threads in ((1, 1), (2, 1), (1, 2)):
        for kind in ("float32", "int8"):
            group = groups.setdefault((workers * threads, kind, "ct2"), [])
            for variant in variants:
                group.append(Setting(args, "ct2", kind, workers, threads, variant))
            group = groups.setdefault((workers * threads, kind, "ours"), [])
            group.append(Setting(args, "ours", kind, workers, threads, environment))
        if workers == 1 and not args.no_tf:
            tf = Setting(args, "tf", "float32", 1, threads, environment)
            groups[threads, "float32", "tf"] = [tf]
    return groups


def best_of(group, batches):
    """The fastest setting for each batch size, by one trial; slow settings are stopped early."""
    best = {}
    for setting in group if len(group) > 1 else ():
        setting.start()
        for batch in batches:
            speed, _ = setting.speed(batch, trial=True)
            highest = best.get(batch, (0.0, None))[0]
            if speed > highest:
                best[batch] = speed, setting
            if speed < highest / 2:
                break
        setting.stop()
    return {batch: best.get(batch, (0.0, group[0]))[1] for batch in batches}


def compare(settings):
    """Prints how the answers differ from ours in float32."""
    answers = {}
    for setting in settings:
        found = setting(0, 4 if setting.system == "tf" else 32, 32)["found"]
        answers.setdefault((setting.system, setting.kind), found)
    want = answers["ours", "float32"]
    for (system, kind), found in answers.items():
        pairs = list(zip(found, want, strict=False))
        same = [(a[1], b[1]) for a, b in pairs if a[0] == b[0]]
        gap = max((abs(a - b) / abs(b) for a, b in same), default=0.0)
        mean = statistics.mean(score for _, score in found)
        print(
            f"  {system:4} {kind:7} {len(same):2} of {len(pairs):2} translations equal ours in "
            f"float32; their scores differ by at most {gap:.1e}; mean score {mean:.4f}",
            flush=True,
        )


def measure(args, environment):
    """Measures and prints everything; returns the figures."""
    groups = make_groups(args, environment)
    chosen = {key: best_of(group, args.batches) for key, group in groups.items()}
    running = {id(s): s for best in chosen.values() for s in best.values()}.values()
    for setting in running:
        setting.start()
    compare(running)
    table = []
    for batch in args.batches:
        speeds = {key: [] for key in chosen}
        for _ in range(args.rounds):
            for key, best in chosen.items():
                speeds[key].append(best[batch].speed(batch))
        clock = {key: statistics.median(s for s, _ in values) for key, values in speeds.items()}
        cpu = {key: statistics.median(c for _, c in values) for key, values in speeds.items()}
        for key in sorted(clock):
            cores, kind, system = key
            peer = cores, kind, "ct2"
            name = chosen[key][batch].name
            print(
                f"  batch {batch:2}  cores {cores}  {kind:7}  {system:4} {clock[key]:6.0f} tokens/s"
                f" {clock[key] / clock[peer]:5.2f}   per CPU second {cpu[key]:6.0f}"
                f" {cpu[key] / cpu[peer]:5.2f}   {name}",
                flush=True,
            )
            table.append([batch, *key, clock[key], cpu[key], name])
    print("  resident memory after the work, and time to load; one core")
    for key, best in sorted(chosen.items()):
        if key[0] == 1:
            resident = max(s.resident for s in best.values())
            load = statistics.median(s.load for s in best.values())
            print(f"  {key[1]:7}  {key[2]:4} {resident:5} MB  {load:.2f} s")
            table.append(["memory", *key, resident, load])
    for setting in running:
        setting.stop()
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--beam_size", type=int, default=4)
    parser.add_argument(
        "--layers", type=int, nargs=2, default=[6, 6], help="layers of encoder and decoder"
    )
    parser.add_argument("--model_dir", help="a trained model instead of random weights")
    parser.add_argument("--task", help="task of the trained model")
    parser.add_argument("--text", help="file with source lines for the trained model")
    parser.add_argument("--no_tf", action="store_true", help="omit the TensorFlow graph")
    parser.add_argument("--json", help="write the results to this file")
    for name in ("directory", "system", "kind"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    for name in ("workers", "threads"):
        parser.add_argument(f"--{name}", type=int, help=argparse.SUPPRESS)
    for name in ("serve", "prepare"):
        parser.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve or args.prepare:
        return serve(args) if args.serve else prepare(args)
    if args.model_dir and not (args.task and args.text):
        parser.error("--model_dir requires --task and --text")
    if args.model_dir is None and max(args.batches) > 128:
        parser.error(f"--batches must be at most 128, got {max(args.batches)}")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    from keras_mtl.engine import library

    tables = {}
    with tempfile.TemporaryDirectory() as directory:
        args.directory = directory
        given = ["--model_dir", args.model_dir, "--task", args.task, "--text", args.text]
        subprocess.run(
            [sys.executable, __file__, "--prepare", "--directory", directory]
            + ["--beam_size", str(args.beam_size), "--layers", *map(str, args.layers)]
            + (given if args.model_dir else []),
            check=True,
        )
        print(f"{library.isa()}:", flush=True)
        tables[library.isa()] = measure(args, {})
        if library.isa() == "amx":
            print("without AMX:", flush=True)
            tables["vnni"] = measure(args, AMX_OFF)
    if args.json:
        Path(args.json).write_text(json.dumps(tables))
    return None


if __name__ == "__main__":
    main()
