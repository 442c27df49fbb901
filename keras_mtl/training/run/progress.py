"""Progress of training on stderr: a bar on a terminal, plain lines elsewhere."""

import contextlib
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

_BAR_WIDTH = 24
# Updates over which speed is measured: long enough to smooth, short enough to follow a change.
_WINDOW = 20


class Progress:
    """Shows step, loss, tokens per second and time left.

    Args:
        total_steps: step at which training ends; > 0.
        start_step: step at which this process began; 0 for a new run.
        stream: where to write; None means stderr.
        interval: seconds between lines when the stream is not a terminal; the bar of a terminal is
            redrawn at most ten times a second.
        clock: returns seconds; a test passes its own.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        stream: TextIO | None = None,
        interval: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total = total_steps
        self._stream = sys.stderr if stream is None else stream
        self._terminal = self._stream.isatty()
        self._interval = 0.1 if self._terminal else interval
        self._clock = clock
        self._history: deque[tuple[float, int, int]] = deque(maxlen=_WINDOW)
        self._history.append((clock(), start_step, 0))
        self._tokens = 0
        self._last_shown = -float("inf")
        self._paused_at: float | None = None
        self._drawn = False
        self._latest = ""

    def update(self, step: int, loss: float, tokens: int = 0) -> None:
        """Shows a new step.

        Args:
            step: training steps done.
            loss: mean loss per token since the last update, in nats.
            tokens: real target tokens since the last update.
        """
        self.resume()
        now = self._clock()
        self._tokens += tokens
        self._history.append((now, step, self._tokens))
        self._latest = self._line(step, loss)
        if step < self._total and now - self._last_shown < self._interval:
            return
        self._last_shown = now
        if self._terminal:
            columns = shutil.get_terminal_size().columns
            # One column stays free: a full line would wrap and could not be redrawn.
            self._write(f"\r{self._latest[: columns - 1]}\x1b[K")
            self._drawn = True
        else:
            self._write(self._latest + "\n")

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second over the last updates, pauses left out."""
        (start, _, before), (now, _, after) = self._history[0], self._history[-1]
        return (after - before) / (now - start) if now > start else 0.0

    def restart(self, step: int, tokens: int) -> None:
        """Measures speed and time left from here on; the first step, which compiles, would mislead.

        Args:
            step: training steps done.
            tokens: real target tokens of the steps before; the next update does not count them.
        """
        self._tokens += tokens
        self._history.clear()
        self._history.append((self._clock(), step, self._tokens))

    def pause(self) -> None:
        """Stops the clock of speed and time left, for validation and checkpoints."""
        if self._paused_at is None:
            self._paused_at = self._clock()

    def resume(self) -> None:
        """Starts the clock again; call it before training continues."""
        if self._paused_at is None:
            return
        paused = self._clock() - self._paused_at
        self._history = deque(
            ((at + paused, step, tokens) for at, step, tokens in self._history), maxlen=_WINDOW
        )
        self._paused_at = None

    def message(self, text: str) -> None:
        """Writes a line above the bar."""
        bar = self._latest[: shutil.get_terminal_size().columns - 1] if self._drawn else ""
        erase = "\r\x1b[K" if self._drawn else ""
        self._write(f"{erase}{text}\n{bar}")

    def close(self) -> None:
        """Ends the line of the bar."""
        if self._drawn:
            self._write("\n")
            self._drawn = False

    def _write(self, text: str) -> None:
        # The terminal may be closed or the reader of a pipe be gone: training does not depend on
        # them.
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
            self._stream.flush()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()

    def _line(self, step: int, loss: float) -> str:
        parts = [f"step {step:,}/{self._total:,}", f"loss {loss:.3f}"]
        if self.tokens_per_second:
            parts.append(f"{self.tokens_per_second:,.0f} tokens/s")
        (start, first, _), (now, _, _) = self._history[0], self._history[-1]
        if step > first and now > start:
            left = (now - start) / (step - first) * max(0, self._total - step)
            parts.append(f"{_duration(left)} left")
        text = "  ".join(parts)
        if not self._terminal:
            return f"{text}  ({100 * step // self._total}%)"
        # The numbers come first; a column stays free, as in `update`.
        room = shutil.get_terminal_size().columns - len(text) - len("[] ") - 1
        width = min(_BAR_WIDTH, room)
        if width < 1:
            return text
        filled = min(width, width * step // self._total)
        return f"[{'=' * filled}{' ' * (width - filled)}] {text}"


def _duration(seconds: float) -> str:
    total = round(seconds)
    hours, minutes, seconds = total // 3600, total // 60 % 60, total % 60
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
