"""Tasks over worker processes, where a process that dies (a fault in a native library) costs only its own task."""

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tts_gen.config import UserError

Task, Result = TypeVar("Task"), TypeVar("Result")


def run(
    function: Callable[[Task], Result], tasks: Iterable[Task], workers: int
) -> Iterator[tuple[Task, Result | None]]:
    """Yields (task, result) as they are done; result None: a worker died while this task, or one beside it, ran.

    `function` must be importable by name; its exceptions are raised here. Raises UserError when no worker can start.
    """
    queue = deque(tasks)
    while queue:
        running: dict[Future, Task] = {}
        try:
            with _pool(workers) as pool:
                while queue or running:
                    # No more than the workers can hold, so that those running when one dies are the suspects.
                    while queue and len(running) < workers:
                        future = pool.submit(function, queue[0])
                        running[future] = queue.popleft()
                    for future in wait(running, return_when=FIRST_COMPLETED).done:
                        result = future.result()
                        yield running.pop(future), result
        except BrokenProcessPool:
            yield from ((task, None) for task in running.values())


def _pool(workers: int) -> ProcessPoolExecutor:
    # A worker for each core: threads of their matrix products would but wait for one another, busily.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Spawned, not forked: a fork of a process with threads (numpy's, jax's) may hang.
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _die_with_parent)
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise UserError(
            "worker processes cannot start; in a script, call under `if __name__ == '__main__':`, or with workers=1"
        ) from error
    return pool


def _die_with_parent() -> None:
    """Workers of a killed process would wait for work for ever."""

    def watch() -> None:
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
