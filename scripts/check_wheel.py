"""Installs the wheel where there is neither TensorFlow nor Keras, and translates with it.

    python scripts/check_wheel.py dist

The environment is new and holds NumPy, SentencePiece and the wheel. A small model is made with the
packages of the Python that runs this script; the other one gets only its engine file.
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
    """Runs the check; returns the exit code."""
    wheels = pathlib.Path(sys.argv[1]).glob("keras_mtl-*.whl")
    wheel = max(wheels, key=lambda path: path.stat().st_mtime)
    size = wheel.stat().st_size
    print(f"{wheel.name}: {size / 1e6:.2f} MB")
    if "manylinux" not in wheel.name or size >= MOST_BYTES:
        raise SystemExit(f"the wheel must be a manylinux one below {MOST_BYTES / 1e6:.0f} MB")
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
            raise SystemExit(f"the wheel translates otherwise:\n{have}\ninstead of\n{want}")
        script = directory / "venv" / "bin" / "keras-mtl"
        words = ("score", "--model", model, "--task", "en-fr", "--tsv", "-")
        scored = run(script, *words, text=f"{LINES[0]}\tdeux arbres\n")
        packages = run(python, "-m", "pip", "--disable-pip-version-check", "list")
    if "tensorflow" in packages.lower():
        raise SystemExit("the new environment has TensorFlow")
    print(f"translates without TensorFlow: {len(LINES)} lines; scores: {scored.strip()}")
    return 0


def run(*command: object, text: str = "", cwd: pathlib.Path | None = None) -> str:
    """Runs a command; returns what it prints, or ends the script with what went wrong."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=text, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode:
        raise SystemExit(f"{words[0]} failed:\n{done.stderr[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
