"""What is counted between two logged steps, and what is unusual in a loss."""

import statistics
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager


class Window:
    """Speed and padding since the last `close`. `peak`: operations a second of all devices, or None."""

    def __init__(self, peak: float | None):
        self.peak = peak
        self._open()

    def _open(self) -> None:
        self.start, self.wait, self.steps = time.monotonic(), 0.0, 0
        self.valid, self.positions, self.operations = 0, 0, 0.0

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Around what waits for data."""
        start = time.monotonic()
        yield
        self.wait += time.monotonic() - start

    @contextmanager
    def pausing(self) -> Iterator[None]:
        """Around what is no training: its time does not count."""
        start = time.monotonic()
        yield
        self.start += time.monotonic() - start

    def add(self, valid: int, positions: int, operations: float | None) -> None:
        """A step: this process's valid positions, all with padding, and the operations of all devices."""
        self.steps += 1
        self.valid += valid
        self.positions += positions
        self.operations += operations or 0.0

    def close(self, processes: int, memory: int) -> dict[str, float]:
        """positions_per_second (of all processes, without padding), step_seconds, data_wait (seconds in all), padding
        (share), gflops (a second, as XLA counts them, with what remat repeats), peak_share, memory_gb."""
        seconds = max(time.monotonic() - self.start, 1e-9)
        values = {
            "positions_per_second": self.valid * processes / seconds,
            "step_seconds": seconds / max(self.steps, 1),
            "data_wait": self.wait,
            "padding": 1 - self.valid / max(self.positions, 1),
            "memory_gb": memory / 1e9,
        }
        if self.operations:
            values["gflops"] = self.operations / seconds / 1e9
            values |= {"peak_share": self.operations / seconds / self.peak} if self.peak else {}
        self._open()
        return values


class Spikes:
    """Finds losses far above those before them."""

    REMEMBERED, FIRST, FAR = 100, 20, 10.0
    """losses; judged from so many on; a spike is so many median absolute deviations above the median (7 standard
    deviations of a normal distribution)"""

    def __init__(self):
        self.losses = deque(maxlen=self.REMEMBERED)

    def above(self, loss: float) -> float | None:
        """The median that `loss` is far above, or None."""
        if not abs(loss) < float("inf"):
            return None
        before = list(self.losses)
        self.losses.append(loss)
        if len(before) < self.FIRST:
            return None
        median = statistics.median(before)
        deviation = statistics.median(abs(x - median) for x in before)
        return median if loss > median + self.FAR * deviation else None
