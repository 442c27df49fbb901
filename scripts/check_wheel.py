"""Installs the wheel without TensorFlow and Keras, and translates with it.

    python scripts/check_wheel.py dist

Creates a new environment with NumPy, SentencePiece and the wheel. The Python that runs this script
creates a small model; the new environment gets only the engine file of the model.
"""

import pathlib
import subprocess
import sys
import tempfile

MOST_BYTES = 5_000_000

MAKE_MODEL = """
import pathlib, sys
from keras_mtl.export.engine_file import export_engine_file
from tests.decoding import tiny_model
path, text = sys.argv[1:]
model, vocabulary, tasks = tiny_model.make_model_dir(pathlib.Path(path + ".dir"))
export_engine_file(model, vocabulary, tasks, path, weight_type="int8")
from keras_mtl.decoding.engine_translator import EngineTranslator
print("\\n".join(EngineTranslator(path).translate(text.split("|"), "en-fr")))
"""

LINES = ["two trees", "", "good morning, the cat sleeps", "caf\u00e9 \U0001f600"]


def main() -> int:
    """Runs the check and returns the exit code."""
    wheels = pathlib.Path(sys.argv[1]).glob("keras_mtl-*.whl")
    wheel = max(wheels, key=lambda path: path.stat().st_mtime)
    size = wheel.stat().st_size
    print(f"{wheel.name}: {size / 1e6:.2f} MB")
    if "manylinux" not in wheel.name or size >= MOST_BYTES:
        raise SystemExit(
            f"error: {wheel.name}: the wheel must be for manylinux and smaller than "
            f"{MOST_BYTES / 1e6:.0f} MB"
        )
    root = pathlib.Path(__file__).resolve().parents[1]
    with tempfile.TemporaryDirectory() as name:
        directory = pathlib.Path(name)
        python = directory / "venv" / "bin" / "python"
        run(sys.executable, "-m", "venv", directory / "venv")
        pip = (python, "-m", "pip", "--disable-pip-version-check", "--quiet", "install")
        run(*pip, "numpy", "sentencepiece")
        run(*pip, "--no-deps", wheel)
        model = directory / "model.kmtl"
        want = run(sys.executable, "-c", MAKE_MODEL, model, "|".join(LINES), cwd=root)
        command = (python, "-m", "keras_mtl", "translate", "--model", model, "--task", "en-fr")
        have = run(*command, text="".join(f"{line}\n" for line in LINES), cwd=directory)
        if have != want:
            raise SystemExit(f"error: the wheel translates to:\n{have}\ninstead of:\n{want}")
        script = directory / "venv" / "bin" / "keras-mtl"
        words = ("score", "--model", model, "--task", "en-fr", "--tsv", "-")
        scored = run(script, *words, text=f"{LINES[0]}\tdeux arbres\n")
        packages = run(python, "-m", "pip", "--disable-pip-version-check", "list")
    if "tensorflow" in packages.lower():
        raise SystemExit("error: the new environment contains TensorFlow")
    print(f"translates without TensorFlow: {len(LINES)} lines; scores: {scored.strip()}")
    return 0


def run(*command: object, text: str = "", cwd: pathlib.Path | None = None) -> str:
    """Runs a command and returns its output. Exits with the error output if the command fails."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=text, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode:
        raise SystemExit(f"error: {' '.join(words[:4])} failed:\n{done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
