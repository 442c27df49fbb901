"""Writes scalars, texts, images and histograms in TensorBoard's file format.

The file consists of records of `Event` protocol buffers.

TensorFlow's summary writer cannot write a session start. Readers need it to drop the points that a
run writes again after it was killed.
"""

import itertools
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Readers recognize session starts only in files of this version.
_VERSION = "brain.Event:2"
_BUCKETS = 50


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

    def samples(self, step: int, samples: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Writes the sample translations of each task as a text, and their attention as images.

        Args:
            step: number of training steps of the weights.
            samples: samples by task, as in `samples.jsonl`.
        """
        import tensorflow as tf

        summary = tf.compat.v1.Summary()
        metadata = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name="text")
        )
        for task, found in samples.items():
            summary.value.add(
                tag=f"samples/{task}",
                metadata=metadata,
                tensor=tf.make_tensor_proto(_as_markdown(found).encode()),
            )
            for number, sample in enumerate(found):
                if "alignment" in sample:
                    from keras_mtl.figures import attention

                    image, height, width = attention.to_png(sample)
                    shown = tf.compat.v1.Summary.Image(
                        height=height, width=width, colorspace=4, encoded_image_string=image
                    )
                    summary.value.add(tag=f"attention/{task}/{number}", image=shown)
        self._write(tf.compat.v1.Event(step=step, wall_time=time.time(), summary=summary))

    def histograms(self, step: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Writes a histogram of each array; values that are not finite are left out.

        Args:
            step: number of training steps so far.
            arrays: array by tag.
        """
        import tensorflow as tf

        summary = tf.compat.v1.Summary()
        for tag, array in arrays.items():
            values = np.asarray(array, np.float64).ravel()
            values = values[np.isfinite(values)]
            if not values.size:
                continue
            counts, edges = np.histogram(values, _BUCKETS)
            # The first bucket, which is empty, ends where the second one begins.
            histogram = tf.compat.v1.HistogramProto(
                min=values.min(),
                max=values.max(),
                num=values.size,
                sum=values.sum(),
                sum_squares=np.square(values).sum(),
                bucket_limit=edges.tolist(),
                bucket=[0.0, *counts.tolist()],
            )
            summary.value.add(tag=tag, histo=histogram)
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


def _as_markdown(samples: Sequence[Mapping[str, Any]]) -> str:
    """Returns samples as a table in Markdown, which TensorBoard shows."""
    rows = ["| source | reference | translation |", "|---|---|---|"]
    for sample in samples:
        cells = [_escaped(sample[key]) for key in ("source", "reference", "translation")]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _escaped(text: str) -> str:
    """Returns a text whose characters have no meaning in Markdown or HTML."""
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("\n", " ")
    return re.sub(r"([\\`*_{}\[\]|#~])", r"\\\1", text)
