"""What training consumed, one line a batch: the witness of an exact resume."""

from pathlib import Path

from keras_mtl.data.mixture import Mixture
from keras_mtl.files import naming, replace_file

BATCHES_FILE = "batches.tsv"


class BatchLog:
    """Writes `batches.tsv`: step, task index and hash of each batch that was consumed.

    Args:
        model_dir: directory of the run.
    """

    def __init__(self, model_dir: Path):
        self.path = Path(model_dir) / BATCHES_FILE

    def resume(self, consumed: int) -> None:
        """Drops the lines of batches that the checkpoint has not consumed.

        Args:
            consumed: number of batches before the checkpoint.
        """
        if not self.path.exists():
            return
        lines = self.path.read_text().splitlines(keepends=True)
        kept = [
            line for line in lines if line.endswith("\n") and int(line.split("\t")[0]) < consumed
        ]
        replace_file(self.path, "".join(kept))

    def write(self, mixture: Mixture, consumed: int) -> None:
        """Writes the batches up to `consumed` that the mixture has handed out since the last."""
        with naming(self.path), self.path.open("a") as file:
            for step, task, fingerprint in mixture.take_fingerprints(consumed):
                file.write(f"{step}\t{task}\t{fingerprint}\n")
