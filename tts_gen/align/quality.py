"""How plausible an alignment is: a forced aligner "succeeds" on a wrong transcript too."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import median

from tts_gen.align import PHONE_FLOOR, Segment
from tts_gen.text import PAUSE

# Outside these limits the transcript or the alignment is probably wrong (found on about 6,000 clips of acted speech).
LIMITS = {
    "seconds_per_phone": (0.045, 0.2),
    "share_at_floor": (0.0, 0.4),
    "longest_phone": (0.0, 0.8),
    "longest_pause": (0.0, 1.5),
}

MIN_UTTERANCES = 20
"""that a speaker needs for a median of their own"""
MIN_SPREAD = 1.0
"""of scores, in the aligner's units: keeps a handful of equal ones from a division by nearly 0"""


def quality(segments: Sequence[Segment]) -> dict[str, float]:
    """Figures of one utterance.

    seconds_per_phone: mean length of the phones. share_at_floor: share of phones as short as the aligner can make them.
    longest_phone, longest_pause: seconds. score: acoustic log-likelihood per frame of speech, where the segments have
    scores; the best single sign of a wrong transcript, but only beside other utterances of the same recording
    conditions.
    """
    phones = [s for s in segments if s.phoneme.symbol != PAUSE]
    lengths = [s.end - s.start for s in phones]
    figures = {
        "seconds_per_phone": sum(lengths) / len(lengths),
        "share_at_floor": sum(length < PHONE_FLOOR + 1e-6 for length in lengths) / len(lengths),
        "longest_phone": max(lengths),
        "longest_pause": max((s.end - s.start for s in segments if s.phoneme.symbol == PAUSE), default=0.0),
    }
    if all(s.score is not None for s in phones):
        figures["score"] = sum(s.score * (s.end - s.start) for s in phones) / sum(lengths)
    return figures


def implausible(figures: dict[str, float]) -> tuple[str, str] | None:
    """The first figure outside LIMITS, by its name in words, and what is wrong with it; None when all are inside."""
    for name, (low, high) in LIMITS.items():
        if not low <= figures[name] <= high:
            return name.replace("_", " "), f"{figures[name]:.4g}, accepted is {low:g} to {high:g}"
    return None


def deviations(
    scores: Mapping[str, float], speakers: Mapping[str, str | None], least: float = MIN_SPREAD
) -> dict[str, float]:
    """Scores of utterances, by id, beside the others': less the median of the speaker's (of all, where a speaker has
    fewer than MIN_UTTERANCES), in robust standard deviations (1.4826 times the median of what is left, without sign;
    Rousseeuw & Croux 1993) of at least `least`."""
    voices = defaultdict(list)
    for name, score in scores.items():
        voices[speakers[name]].append(score)
    overall = median(scores.values()) if scores else 0.0
    centre = {who: median(own) if len(own) >= MIN_UTTERANCES else overall for who, own in voices.items()}
    left = {name: score - centre[speakers[name]] for name, score in scores.items()}
    spread = max(1.4826 * median(map(abs, left.values())), least) if left else least
    return {name: value / spread for name, value in left.items()}
