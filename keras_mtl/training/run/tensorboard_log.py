"""Writes scalars in TensorBoard's file format: records of `Event` protocol buffers.

TensorFlow's summary writer cannot write a session start. Readers need it to drop the points that a
run writes again after it was killed.
"""

import itertools
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Readers recognize session starts only in files of this version.
_VERSION = "brain.Event:2"


class TensorBoardLog:
    """Writes one event file, which is created with the first event.

    Args:
        directory: directory of the run's event files.
    """

    def __init__(self, directory: str | os.PathLike[str]):
        self._directory = Path(directory)
        self._writer: Any = None

    def start_at(self, step: int) -> None:
        """Makes readers drop all points of earlier files from `step` on."""
        import tensorflow as tf

        started = tf.compat.v1.SessionLog(status=tf.compat.v1.SessionLog.START)
        self._write(tf.compat.v1.Event(step=step, wall_time=time.time(), session_log=started))

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Writes one point for each scalar.

        Args:
            step: number of training steps so far.
            values: value by tag.
        """
        import tensorflow as tf

        summary = tf.compat.v1.Summary()
        for tag, value in values.items():
            # Not a tensor, because TensorBoard's `EventAccumulator` does not drop tensors at
            # session starts.
            summary.value.add(tag=tag, simple_value=value)
        self._write(tf.compat.v1.Event(step=step, wall_time=time.time(), summary=summary))

    def close(self) -> None:
        """Closes the file; a later event creates another one."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, event: Any) -> None:
        import tensorflow as tf

        if self._writer is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._writer = tf.io.TFRecordWriter(str(self._new_path()))
            version = tf.compat.v1.Event(wall_time=time.time(), file_version=_VERSION)
            self._writer.write(version.SerializeToString())
        self._writer.write(event.SerializeToString())
        self._writer.flush()

    def _new_path(self) -> Path:
        # Readers read the files in the order of their names, which start with the time.
        start = f"events.out.tfevents.{int(time.time()):010}.{socket.gethostname()}.{os.getpid()}"
        names = (self._directory / f"{start}.{number}" for number in itertools.count())
        return next(path for path in names if not path.exists())
