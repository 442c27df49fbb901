"""A log of the consumed batches, one line per batch, to verify that a run resumes exactly."""

from pathlib import Path

from keras_mtl.data.mixture import Mixture
from keras_mtl.files import naming, replace_file

BATCHES_FILE = "batches.tsv"


class BatchLog:
    """Writes `batches.tsv`: step, task index and hash of each consumed batch.

    Args:
        model_dir: directory of the run.
    """

    def __init__(self, model_dir: Path):
        self.path = Path(model_dir) / BATCHES_FILE

    def resume(self, consumed: int) -> None:
        """Drops the lines of batches after the checkpoint.

        Args:
            consumed: number of batches consumed before the checkpoint.
        """
        if not self.path.exists():
            return
        lines = self.path.read_text().splitlines(keepends=True)
        kept = [
            line for line in lines if line.endswith("\n") and int(line.split("\t")[0]) < consumed
        ]
        replace_file(self.path, "".join(kept))

    def write(self, mixture: Mixture, consumed: int) -> None:
        """Writes the batches before `consumed` that have not been written yet."""
        with naming(self.path), self.path.open("a") as file:
            for step, task, fingerprint in mixture.take_fingerprints(consumed):
                file.write(f"{step}\t{task}\t{fingerprint}\n")
