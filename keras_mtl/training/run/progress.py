"""Shows the progress of training on stderr: a bar on a terminal, else plain lines."""

import contextlib
import shutil
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import TextIO

_BAR_WIDTH = 24
# Number of updates over which the speed is averaged, to be smooth but follow changes.
_WINDOW = 20


class Progress:
    """Shows step, loss, tokens per second and the remaining time.

    Args:
        total_steps: step at which training ends; > 0.
        start_step: step at which this process started; 0 for a new run.
        stream: output stream; None means stderr.
        interval: seconds between lines if the stream is not a terminal. On a terminal, the bar is
            redrawn at most ten times per second.
        clock: function that returns the time in seconds; tests pass their own.
        shown: whether to show anything; False for a process that is not the chief.
    """

    def __init__(
        self,
        total_steps: int,
        start_step: int = 0,
        stream: TextIO | None = None,
        interval: float = 15.0,
        clock: Callable[[], float] = time.monotonic,
        shown: bool = True,
    ):
        self._shown = shown
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
            step: number of training steps so far.
            loss: mean loss per token since the last update, in nats.
            tokens: target tokens since the last update, without padding.
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
            # Leave one column free, because a full line would wrap and could not be redrawn.
            self._write(f"\r{self._latest[: columns - 1]}\x1b[K")
            self._drawn = True
        else:
            self._write(self._latest + "\n")

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second over the last updates, without pauses."""
        (start, _, before), (now, _, after) = self._history[0], self._history[-1]
        return (after - before) / (now - start) if now > start else 0.0

    def restart(self, step: int, tokens: int) -> None:
        """Restarts the measurement of speed, to exclude the first step with its compilation.

        Args:
            step: number of training steps so far.
            tokens: target tokens since the last update; the next update does not count them.
        """
        self._tokens += tokens
        self._history.clear()
        self._history.append((self._clock(), step, self._tokens))

    def pause(self) -> None:
        """Stops the clock for speed and remaining time, during validation and checkpoints."""
        if self._paused_at is None:
            self._paused_at = self._clock()

    def resume(self) -> None:
        """Restarts the clock; call it before training continues."""
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
        if not self._shown:
            return
        # Training must continue if the terminal is closed or the reader of a pipe has exited.
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
        # The numbers take precedence over the bar. One column stays free, as in `update`.
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
