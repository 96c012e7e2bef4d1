"""Progress with rate and time left: a bar on a terminal, a plain line every few seconds otherwise."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

EVERY = 5.0
"""seconds between plain lines"""


@contextmanager
def progress(what: str, total: int, unit: str, console: Console) -> Iterator[Callable[[int], None]]:
    """Yields advance(n)."""
    start = time.monotonic()
    done, shown = 0, start

    def rate() -> float:
        return done / max(time.monotonic() - start, 1e-9)

    if console.is_terminal:
        described, rated = TextColumn("{task.description}"), TextColumn("{task.fields[rate]}")
        columns = (described, BarColumn(), MofNCompleteColumn(), rated, TimeRemainingColumn())
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(what, total=total, rate="")

            def advance(n: int) -> None:
                nonlocal done
                done += n
                bar.update(task, advance=n, rate=f"{rate():.1f} {unit}/s")

            yield advance
        return

    def advance(n: int) -> None:
        nonlocal done, shown
        done += n
        if time.monotonic() - shown >= EVERY or done == total:
            shown = time.monotonic()
            left = timedelta(seconds=round((total - done) / rate()))
            line = f"{what}: {done} of {total} {unit}, {rate():.1f} a second, {left} left"
            console.print(line, highlight=False, soft_wrap=True)

    yield advance
