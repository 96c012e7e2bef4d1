"""What a run tells: metrics.jsonl, TensorBoard, and a progress line with rate and time left."""

import io
import json
import logging
import math
import shutil
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)

LEAST_FREE = 2 * 10**6
"""bytes of a disk"""


class Writer:
    """Scalars of logged steps, pictures and sound of samples. `active` False (all processes but the first) writes
    nothing."""

    def __init__(self, run: Path, first_step: int, last_step: int, active: bool = True):
        self.run, self.active, self.first, self.last = run, active, first_step, last_step
        self.start, self.full = time.monotonic(), False
        if active:
            from tensorboardX import SummaryWriter

            self.board = SummaryWriter(str(run / "tensorboard"), purge_step=first_step)
            for name in ("metrics.jsonl", "spikes.jsonl"):
                _truncate(run / name, first_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, with floats at full precision; null for what is not finite, which JSON cannot
        hold."""
        if not self._writable():
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self._append("metrics.jsonl", {"step": step, **finite})
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def spike(self, step: int, loss: float, median: float, ids: list[str]) -> None:
        """A line of spikes.jsonl: a loss far above the median of those before it, and the batch's utterances."""
        if self._writable():
            self._append("spikes.jsonl", {"step": step, "loss": loss, "median": median, "ids": ids})

    def _append(self, name: str, row: dict) -> None:
        try:
            with (self.run / name).open("a") as file:
                file.write(json.dumps(row) + "\n")
        except OSError as error:  # a quota, a file system that is away: no reason to lose the training
            log.warning("%s: a line of step %d is lost: %s", self.run / name, row["step"], error)

    def _writable(self) -> bool:
        """Whether to write. Not on a full disk, which would end the training, and TensorBoard's thread without a word;
        that is said once."""
        full = self.active and shutil.disk_usage(self.run).free < LEAST_FREE
        if full and not self.full:
            log.warning("%s: less than %d MB left on its disk; nothing is logged there", self.run, LEAST_FREE // 10**6)
        self.full = full
        return self.active and not full

    def image(self, step: int, name: str, png: bytes) -> None:
        """A picture for TensorBoard."""
        if not self._writable():
            return
        from PIL import Image

        with Image.open(io.BytesIO(png)) as picture:
            self.board.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def audio(self, step: int, name: str, wave: np.ndarray, sample_rate: int) -> None:
        """Sound for TensorBoard: wave [n] in -1..1."""
        if self._writable():
            self.board.add_audio(name, wave, step, sample_rate)

    def progress(self, step: int, text: str) -> None:
        """A line in place on a terminal, a plain one otherwise."""
        if not self.active:
            return
        elapsed = time.monotonic() - self.start
        done = max(step - self.first, 1)
        left = elapsed / done * (self.last - step)
        line = f"step {step}/{self.last}  {text}  {done / elapsed:.2f} steps/s  {_clock(left)} left"
        terminal = sys.stderr.isatty()
        print(f"\r\x1b[2K{line}" if terminal else line, end="" if terminal and step < self.last else "\n",
              file=sys.stderr, flush=True)  # fmt: skip

    def close(self) -> None:
        if self.active:
            self.board.close()


def read_lines(path: Path) -> list[dict]:
    """Rows of a metrics.jsonl; none where it is not there. A line that is cut short or garbled is left out."""
    rows = []
    for line in path.read_text(errors="replace").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        rows += [row] if isinstance(row, dict) and isinstance(row.get("step"), int) else []
    return rows


def _truncate(path: Path, step: int) -> None:
    """Takes out the lines after `step` that an interrupted run left behind."""
    kept = "".join(json.dumps(row) + "\n" for row in read_lines(path) if row["step"] <= step)
    if path.is_file() and path.read_text(errors="replace") != kept:
        whole = path.with_name(f"{path.name}.tmp")
        whole.write_text(kept)
        whole.replace(path)  # a kill loses nothing


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02d}"
