"""How plausible an alignment is: a forced aligner "succeeds" on a wrong transcript too."""

from collections.abc import Sequence

from tts_gen.align import PHONE_FLOOR, Segment
from tts_gen.text import PAUSE

# Outside these limits the transcript or the alignment is probably wrong (found on about 6,000 clips of acted speech).
LIMITS = {
    "seconds_per_phone": (0.045, 0.2),
    "share_at_floor": (0.0, 0.4),
    "longest_phone": (0.0, 0.8),
    "longest_pause": (0.0, 1.5),
}


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
