"""A new user's machine: the installed wheel, an empty home, and corpora in four formats."""

import gzip
import json
import os
import site
import subprocess
import sys
from pathlib import Path
from xml.sax.saxutils import escape

from keras_mtl.data import corpora

ROOT = Path(__file__).resolve().parents[2]
PAIRS = 500

CONFIG = """\
task:
  pairs:
  - source: en
    target: fr
    corpora:
    - {reader: tsv, options: {file: corpora/en-fr.tsv}}
    - {reader: tmx, options: {file: corpora/memory.tmx}}
  - source: en
    target: de
    corpora:
    - {reader: gettext, options: {folders: corpora/po}}
    - reader: parallel
      options: {source_file: corpora/moses/x.en.gz, target_file: corpora/moses/x.de.gz}
  data:
    vocabulary: {size: 800}
    max_length: 40
    bucket_lengths: [40]  # One shape to trace in each process.
    tokens_per_batch: 1024
    dev_fraction: 0.06
    test_fraction: 0.06
  model: {size: tiny, hidden_dim: 64, intermediate_dim: 128, encoder_layers: 1, decoder_layers: 1}
  decoding: {beam_size: 2, max_length: 40}
trainer:
  train_steps: 60
  steps_per_loop: 10
  checkpoint_interval: 10
  optimizer: {learning_rate: 4.0, warmup_steps: 30}
  evaluation: {interval: 30, max_pairs: 20}
"""


# Runs the command in forks of a process that has imported TensorFlow. It reads lines of JSON (the
# arguments and the files of the three standard streams) and prints exit codes.
FORKS = """
import json, os, sys
import keras_mtl.training.run.loop
from keras_mtl.cli.main import main
lines = open(0, "rb", buffering=0, closefd=False)
while line := lines.readline():
    arguments, files = json.loads(line)
    if child := os.fork():
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    for descriptor, file in enumerate(files):
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC if descriptor else os.O_RDONLY
        os.dup2(os.open(file, flags, 0o600), descriptor)
    sys.stdin = open(0, closefd=False)
    sys.argv = ["keras-mtl", *arguments]
    sys.exit(main())
"""


class Workplace:
    """Runs the installed command as a new user would.

    Args:
      directory: an empty directory; becomes home, working directory and environment.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = directory / "environment"
        self.home = directory / "home"
        self.home.mkdir()
        self.python = self.environment / "bin" / "python"
        self.program = self.environment / "bin" / "keras-mtl"
        self._forks: subprocess.Popen | None = None
        self._install()

    def _install(self) -> None:
        """Makes an environment with the wheel, and with the locked packages in reach.

        The packages of the environment that runs the tests are added by path, because installing
        4 GB again would take minutes. Files that end in .pth are not followed there, so the
        package that is tested is the wheel's and not the source tree's.
        """
        self.must(sys.executable, "-m", "venv", "--without-pip", self.environment)
        (packages,) = self.environment.glob("lib/python3*/site-packages")
        (packages / "locked.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        wheels = self.directory / "wheels"
        pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
        self.must(*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", wheels, ROOT)
        (wheel,) = wheels.glob("keras_mtl-*.whl")
        self.must(*pip, "--python", self.python, "install", "--no-deps", "--no-index", wheel)

    def variables(self) -> dict[str, str]:
        """The variables of a new login: nothing of the tests' own environment but the path."""
        kept = ("PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE")
        inherited = {name: os.environ[name] for name in kept if name in os.environ}
        return {**inherited, "HOME": str(self.home), "PYTHONNOUSERSITE": "1"}

    def run(self, *words: object, text: str = "") -> subprocess.CompletedProcess:
        """Runs a command in the home directory; returns the finished process."""
        return subprocess.run(
            [str(word) for word in words],
            input=text,
            capture_output=True,
            text=True,
            cwd=self.home,
            env=self.variables(),
            timeout=600,
            check=False,
        )

    def must(self, *words: object, text: str = "") -> str:
        """Runs a command that has to succeed without a traceback; returns what it printed."""
        done = self.run(*words, text=text)
        shown = f"{words}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert done.returncode == 0, shown
        assert "Traceback" not in done.stderr, shown
        return done.stdout

    def keras_mtl(self, *words: object, text: str = "") -> str:
        """Runs a subcommand that has to succeed; returns its standard output."""
        return self.must(self.program, *words, text=text)

    def forked(self, *words: object, text: str = "") -> str:
        """Does what `keras_mtl` does, in a process that begins with TensorFlow imported."""
        if self._forks is None:
            self._forks = subprocess.Popen(
                [self.python, "-c", FORKS],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=self.home,
                env=self.variables(),
            )
        files = [self.directory / name for name in ("stdin", "stdout", "stderr")]
        files[0].write_text(text, encoding="utf-8")
        request = [[str(word) for word in words], [str(file) for file in files]]
        self._forks.stdin.write(json.dumps(request) + "\n")
        self._forks.stdin.flush()
        code = self._forks.stdout.readline()
        assert code, "the process that runs commands in forks has ended"
        output, error = (file.read_text(encoding="utf-8") for file in files[1:])
        shown = f"{words}: {code}\n{output[-3000:]}\n{error[-3000:]}"
        assert code == "0\n", shown
        assert "Traceback" not in error, shown
        return output

    def close(self) -> None:
        """Ends the process that `forked` has started."""
        if self._forks is not None:
            self._forks.communicate()

    def start(self, *words: object) -> subprocess.Popen:
        """Starts a subcommand."""
        return subprocess.Popen(
            [str(self.program), *(str(word) for word in words)],
            cwd=self.home,
            env=self.variables(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def write_corpora(home: Path) -> None:
    """Writes the built-in sentences as a user's files: TSV, TMX, a catalog, two gzip files."""
    french, german = _pairs("fr"), _pairs("de")
    directory = home / "corpora"
    (directory / "po").mkdir(parents=True)
    (directory / "moses").mkdir()
    half = PAIRS // 2
    rows = "".join(f"{source}\t{target}\n" for source, target in french[:half])
    (directory / "en-fr.tsv").write_text(rows, encoding="utf-8")
    (directory / "memory.tmx").write_text(_memory(french[half:]), encoding="utf-8")
    (directory / "po" / "de.po").write_text(_catalog(german[:half]), encoding="utf-8")
    for side, code in enumerate(("en", "de")):
        with gzip.open(directory / "moses" / f"x.{code}.gz", "wt", encoding="utf-8") as file:
            file.writelines(f"{pair[side]}\n" for pair in german[half:])
    (home / "my.yaml").write_text(CONFIG, encoding="utf-8")


def _pairs(target: str) -> list[tuple[str, str]]:
    reader = corpora.create_reader("cldr", "en", target, {"pairs": PAIRS, "seed": 3})
    return [(pair.source, pair.target) for pair in corpora.read_pairs(reader)]


def _memory(pairs: list[tuple[str, str]]) -> str:
    units = "".join(
        f'<tu><tuv xml:lang="en"><seg>{escape(source)}</seg></tuv>'
        f'<tuv xml:lang="fr"><seg>{escape(target)}</seg></tuv></tu>\n'
        for source, target in pairs
    )
    return (
        '<?xml version="1.0" encoding="utf-8"?>\n<tmx version="1.4">'
        '<header srclang="en" datatype="plaintext" segtype="sentence" adminlang="en" '
        f'creationtool="test" creationtoolversion="1" o-tmf="test"/><body>\n{units}</body></tmx>\n'
    )


def _catalog(pairs: list[tuple[str, str]]) -> str:
    def quoted(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    header = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    seen = dict(pairs)  # A catalog holds an English text once.
    return header + "\n".join(
        f"msgid {quoted(source)}\nmsgstr {quoted(target)}\n" for source, target in seen.items()
    )


def installed_file(workplace: Workplace) -> str:
    """Where the command's package lies, as its own Python says."""
    return workplace.must(workplace.python, "-c", "import keras_mtl; print(keras_mtl.__file__)")
