"""What a run tells: metrics.jsonl, TensorBoard, and a progress line with rate and time left."""

import io
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np


class Writer:
    """Scalars of logged steps, pictures and sound of samples. `active` False (all processes but the first) writes
    nothing."""

    def __init__(self, run: Path, first_step: int, last_step: int, active: bool = True):
        self.run, self.active, self.first, self.last = run, active, first_step, last_step
        self.start = time.monotonic()
        if active:
            from tensorboardX import SummaryWriter

            self.board = SummaryWriter(str(run / "tensorboard"), purge_step=first_step)
            self.file = _truncated(run / "metrics.jsonl", first_step)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One line of metrics.jsonl, with floats at full precision; null for what is not finite, which JSON cannot
        hold."""
        if not self.active:
            return
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        self.file.write(json.dumps({"step": step, **finite}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.board.add_scalar(name, value, step)

    def spike(self, step: int, loss: float, median: float, ids: list[str]) -> None:
        """A line of spikes.jsonl: a loss far above the median of those before it, and the batch's utterances."""
        if not self.active:
            return
        with (self.run / "spikes.jsonl").open("a") as file:
            file.write(json.dumps({"step": step, "loss": loss, "median": median, "ids": ids}) + "\n")

    def image(self, step: int, name: str, png: bytes) -> None:
        """A picture for TensorBoard."""
        if not self.active:
            return
        from PIL import Image

        with Image.open(io.BytesIO(png)) as picture:
            self.board.add_image(name, np.asarray(picture.convert("RGB")), step, dataformats="HWC")

    def audio(self, step: int, name: str, wave: np.ndarray, sample_rate: int) -> None:
        """Sound for TensorBoard: wave [n] in -1..1."""
        if self.active:
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
            self.file.close()


def _truncated(path: Path, step: int):
    """metrics.jsonl opened for appending, without the lines after `step` that an interrupted run left behind."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    if len(kept) < len(lines):
        path.write_text("".join(kept))
    return path.open("a")


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes}:{seconds:02d}"
