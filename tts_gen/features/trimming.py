"""Silence at the ends of a recording, by its alignment: what the aligner calls a pause there, and no threshold."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tts_gen.align import Segment
from tts_gen.features.sound import Recording
from tts_gen.text import PAUSE


def shortened(spoken: Sequence[Segment], keep: float) -> list[Segment]:
    """The segments, with no pause at either end longer than `keep` seconds; times stay those of the recording."""
    first, *_, last = spoken = list(spoken)
    if first.phoneme.symbol == PAUSE:
        spoken[0] = replace(first, start=max(first.start, first.end - keep))
    if last.phoneme.symbol == PAUSE:
        spoken[-1] = replace(last, end=min(last.end, last.start + keep))
    return spoken


def cut(spoken: Sequence[Segment], recording: Recording) -> tuple[list[Segment], np.ndarray]:
    """Only what the segments span: them from 0 on, and that part of the wave."""
    start, end = spoken[0].start, spoken[-1].end
    moved = [replace(s, start=s.start - start, end=s.end - start) for s in spoken]
    return moved, recording.wave[round(start * recording.rate) : round(end * recording.rate)]
