"""A thread that notices when training stands still: in this process, or because another is gone.

Every process leaves beats (its step) in a folder that all of them share. The folder's clock is not looked at: a process
lives while the content of its file changes.
"""

import faulthandler
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable

from etils import epath

log = logging.getLogger(__name__)

INTERVAL = 5.0
"""seconds between beats"""
GONE = 60.0
"""seconds without a beat of a process after which the others end; twice that until its first one"""


class Watchdog:
    """Usable as a context manager around the loop, which calls `beat(step)`."""

    def __init__(
        self, folder: epath.Path, process: int, processes: int, limit: float,
        interval: float = INTERVAL, gone: float = GONE, end: Callable[[int], None] = os._exit,
    ):  # fmt: skip
        """`limit`: seconds a step may take before stacks are logged. `end(1)` is called where a process is gone: what
        waits for it cannot be interrupted."""
        self.folder, self.process, self.processes, self.limit = folder, process, processes, limit
        self.interval, self.gone, self.end = interval, gone, end
        self.step, self.since, self.warned = -1, time.monotonic(), False
        self.others = {p: ("", time.monotonic() + gone) for p in range(processes) if p != process}
        """process -> its last beat as written, and when that was first seen"""
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        if self.others:
            self.folder.mkdir(parents=True, exist_ok=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stop.set()
        self.thread.join()

    def beat(self, step: int) -> None:
        self.step, self.since, self.warned = step, time.monotonic(), False

    def _watch(self) -> None:
        count = 0
        while not self.stop.wait(self.interval):
            waiting = time.monotonic() - self.since
            if self.others:
                count += 1
                self._exchange(count)
            if waiting > self.limit and not self.warned:
                self.warned = True
                log.warning(
                    "step %d has taken %.0f s (train.step_limit is %g)%s; stacks of all threads follow",
                    self.step, waiting, self.limit, self._laggards(),
                )  # fmt: skip
                faulthandler.dump_traceback(sys.stderr, all_threads=True)

    def _exchange(self, count: int) -> None:
        """Writes this process's beat, reads the others', and ends this process where one is gone."""
        try:
            self._file(self.process).write_text(json.dumps({"step": self.step, "beat": count}))
            for p, (before, seen) in self.others.items():
                file = self._file(p)
                text = file.read_text() if file.exists() else ""
                if text != before and text.endswith("}"):  # not half written
                    self.others[p] = (text, time.monotonic())
                elif time.monotonic() - seen > self.gone:
                    log.error(
                        "process %d of %d is gone: no sign of it for %.0f s, last at step %s; this one ends. Start all "
                        "of them again: they go on from the newest checkpoint",
                        p, self.processes, self.gone, _step(before),
                    )  # fmt: skip
                    self.end(1)
        except OSError as error:  # of a shared file system, for a while, in which nobody can give a sign
            log.warning("%s: %s", self.folder, error)
            self.others = {p: (before, time.monotonic()) for p, (before, _) in self.others.items()}

    def _laggards(self) -> str:
        if not self.others:
            return ""
        steps = {self.process: self.step} | {p: _step(text) for p, (text, _) in self.others.items()}
        told = ", ".join(f"process {p} at step {step}" for p, step in sorted(steps.items()))
        return f"; {told}"

    def _file(self, process: int) -> epath.Path:
        return self.folder / f"process{process}.json"


def _step(text: str) -> int | str:
    """Of a beat; none was seen where it is empty."""
    return json.loads(text)["step"] if text else "unknown"
