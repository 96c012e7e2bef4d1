"""Which utterances look wrong, and why: figures far from the others of the same speaker."""

from dataclasses import dataclass
from math import inf

import numpy as np

from tts_gen.align.quality import deviations
from tts_gen.features.store import FeatureStore
from tts_gen.inspection.measures import Measures

LIMIT = 5.0
"""robust standard deviations: of normal figures one in two million lies beyond"""
REASONS = 2
"""told of an utterance, the gravest first"""


@dataclass(frozen=True)
class Sign:
    """A figure that betrays a fault by being too high or too low."""

    words: str
    unit: str
    least: float
    """spread below which differences do not matter"""
    low: bool = False
    high: bool = True
    logarithmic: bool = False


SIGNS = {
    "seconds_per_phone": Sign("mean length of its phones", "s", 0.08, low=True, logarithmic=True),
    "longest_phone": Sign("longest phone", "s", 0.2, logarithmic=True),
    "longest_pause": Sign("longest pause", "s", 0.15),
    "share_at_floor": Sign("share of phones as short as the aligner can make them", "", 0.04),
    "score": Sign("acoustic score of the alignment", "a frame", 1.0, low=True, high=False),
    "f0": Sign("mean f0", "standard deviations of the speaker", 0.1, low=True),
    "f0_step": Sign("largest step of f0 from one voiced phoneme to the next", "semitones", 1.0),
    "voiced": Sign("share of voiced phones", "", 0.03, low=True, high=False),
    "level": Sign("level", "dB", 1.0, low=True),
    "clipped": Sign("share of clipped samples", "", 0.0001),
}


@dataclass(frozen=True)
class Suspect:
    position: int
    """in the index"""
    weight: float
    """the largest deviation, in robust standard deviations; infinite where damaged"""
    reason: str


def suspects(store: FeatureStore, found: Measures) -> list[Suspect]:
    """The worst first; those with a figure beyond LIMIT, and those that cannot be read."""
    speakers = [entry.speaker for entry in store.index]
    reasons: dict[int, list[tuple[float, str]]] = {i: [(inf, why)] for i, why in found.damaged.items()}
    for name, sign in SIGNS.items():
        values = found.figures.get(name)
        if values is None:
            continue
        known = np.flatnonzero(np.isfinite(values)).tolist()
        scaled = np.log(values) if sign.logarithmic else values
        moved = deviations({i: scaled[i] for i in known}, dict(enumerate(speakers)), sign.least)
        middle = np.nanmedian(values)
        for i, z in moved.items():
            if (sign.high and z > LIMIT) or (sign.low and z < -LIMIT):
                text = f"{sign.words} {values[i]:.3g} {sign.unit}".rstrip() + f" (median {middle:.3g})"
                reasons.setdefault(i, []).append((abs(z), text))
    ranked = [
        Suspect(i, max(why)[0], "; ".join(text for _, text in sorted(why, reverse=True)[:REASONS]))
        for i, why in reasons.items()
    ]
    return sorted(ranked, key=lambda s: (-s.weight, s.position))


def typical(found: Measures, count: int) -> list[int]:
    """Utterances whose figures are nearest to the median, in ranks, so that no figure's unit counts more."""
    distance = np.zeros(len(next(iter(found.figures.values()))))
    for name in SIGNS.keys() & found.figures.keys():
        values = found.figures[name]
        rank = np.argsort(np.argsort(values)) / len(values)
        distance += np.where(np.isfinite(values), np.abs(rank - 0.5), np.inf if name == "seconds_per_phone" else 0.0)
    return np.argsort(distance, kind="stable")[:count].tolist()
