"""Many texts, long ones in pieces, spoken in parts of a list; what one text draws does not depend on which are done."""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

from rich.console import Console

from tts_gen.config import UserError
from tts_gen.progress import progress
from tts_gen.speech.sources import Source
from tts_gen.synthesis import Spoken, joined

PART = 32
"""pieces of text that are spoken together"""


def speak(
    texts: Sequence[str], source: Source, take: int, done: set[int], failed: dict[int, str], whole: bool = True
) -> Iterator[tuple[int, Spoken]]:
    """The places of texts that are not `done`, and each spoken, whole or else piece by piece as they are ready; adds to
    `failed` those that cannot be read."""
    listed = [(i, piece) for i, text in enumerate(texts) for piece in source.divide(text)]
    lacking, made = Counter(i for i, _ in listed), {i: [] for i, _ in listed}
    shown = progress("spoken", len(listed), "pieces", Console(file=sys.stderr))
    with shown if len(listed) > 1 else nullcontext(lambda n: None) as advance:
        for part, members in enumerate(_parts(listed)):
            if all(i in done for i, _ in members):
                advance(len(members))
                continue
            places, read = [], []
            for i, piece in members:
                try:
                    read.append(source.read(piece))
                    places.append(i)
                except UserError as error:
                    failed.setdefault(i, str(error))
            for i, spoken in zip(places, source.speak(read, take, part) if read else [], strict=True):
                if i not in done:
                    made[i].append(spoken)
                if not whole:
                    yield i, spoken
            for i in dict.fromkeys(i for i, _ in members):
                if whole and len(made[i]) == lacking[i] and i not in done:
                    yield i, joined(made.pop(i))
            advance(len(members))


def _parts(listed: list) -> Iterator[list]:
    """The first piece alone, so that it is ready soon."""
    yield listed[:1]
    for first in range(1, len(listed), PART):
        yield listed[first : first + PART]
