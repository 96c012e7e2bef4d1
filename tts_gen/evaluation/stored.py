"""Arrays kept on disk, named by what they were made from. Those of a split stand there part by part: what was
interrupted goes on where it stopped, several processes share the work, and no more than a part need be in memory."""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tts_gen.evaluation.split import Split

PART = 32
"""utterances in a file"""
Arrays = dict[str, np.ndarray]


def cached(path: Path, identity: str, make: Callable[[], Arrays]) -> Arrays:
    """Arrays of `path` when it was made from the same things and settings, `identity`, else made and written there."""
    keep(path, identity, make)
    return read(path)


def keep(path: Path, identity: str, make: Callable[[], Arrays]) -> None:
    """As `cached`, and reads nothing."""
    if path.exists():
        with np.load(path) as file:
            if str(file["identity"]) == identity:
                return
    arrays = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, identity=identity, **arrays)
    partial.replace(path)


def read(path: Path) -> Arrays:
    with np.load(path) as file:
        return {name: file[name] for name in file.files if name != "identity"}


def parts(
    folder: Path, split: Split, identity: str, make: Callable[[Split, int], Arrays], process: int = 0,
    processes: int = 1,
) -> list[Path]:  # fmt: skip
    """The files of a split's parts in their order, of which those are made that are missing and this process's share.

    `make(part, first)` is given a part and the place of its first utterance in the split; `identity` says what beside
    the utterances it depends on."""
    files = []
    for i, first in enumerate(range(0, len(split.positions), PART)):
        files.append(folder / f"{i:05d}.npz")
        if i % processes == process:
            part = split.only(slice(first, first + PART))
            keep(files[-1], f"{identity} utterances {part.content}", functools.partial(make, part, first))
    return files
