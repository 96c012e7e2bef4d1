"""When which phone of an utterance is spoken: as given (file, durations), or found by the built-in aligner."""

from functools import lru_cache

import numpy as np

from tts_gen.align import Aligner, AlignmentError, Segment, files
from tts_gen.align.quality import implausible, quality
from tts_gen.config import UserError
from tts_gen.corpora import Utterance
from tts_gen.features.sound import Recording, Unusable, limit
from tts_gen.features.trimming import shortened
from tts_gen.text import parse, words

MAX_CHARACTERS = 2000
"""of a text; the aligner takes a minute of speech, and that has fewer"""
TOLERANCE = 0.05
"""seconds by which durations may miss the end of the audio: frames of another length than ours"""


def is_timed(utterance: Utterance) -> bool:
    """Whether the times of its phones are given."""
    return utterance.alignment is not None or utterance.durations is not None


def segments(utterance: Utterance, recording: Recording, trim: float | None = None) -> list[Segment]:
    """Times that are given are trusted. `trim`: seconds that a pause at either end may be long; None leaves it. Raises
    Unusable."""
    if not is_timed(utterance):
        return align(utterance, recording, trim)
    found = _from_file(utterance, recording) if utterance.alignment is not None else _given(utterance, recording)
    return found if trim is None else shortened(found, trim)


def align(utterance: Utterance, recording: Recording, trim: float | None = None) -> list[Segment]:
    """By the built-in aligner. Raises Unusable, also for an alignment beyond the limits of what is plausible: the text
    is then another one, or the aligner has slipped."""
    remedy = "give times too: field alignment (a TextGrid, .lab or .ctm file) or durations"
    if utterance.phonemes is not None:
        raise Unusable("phonemes without times", f"{remedy}, or the text alone, if it is English")
    if not utterance.language.startswith("en"):
        detail = f"language {utterance.language!r}, and the built-in aligner knows English alone; {remedy}"
        raise Unusable("language without aligner", detail)
    if not utterance.text.strip():
        raise Unusable("empty text", "field text is empty")
    limit("text too long", "characters", len(utterance.text), high=MAX_CHARACTERS)
    try:
        found = _aligner().align(recording.wave, recording.rate, words(utterance.text))
    except UserError as error:
        raise Unusable("unusable text", str(error)) from error
    except AlignmentError as error:
        raise Unusable(f"alignment: {error}", f"text {utterance.text[:80]!r}") from error
    found = found if trim is None else shortened(found, trim)
    figures = quality(found)
    if fault := implausible(figures):
        raise Unusable(f"alignment: {fault[0]}", " ".join(fault), figures)
    return found


def _from_file(utterance: Utterance, recording: Recording) -> list[Segment]:
    try:
        return files.read(utterance.alignment, recording.seconds, utterance.id, utterance.speaker, utterance.text)
    except (UserError, OSError) as error:
        raise Unusable("unusable alignment file", str(error)) from error


def _given(utterance: Utterance, recording: Recording) -> list[Segment]:
    """Segments from the manifest's phonemes and durations."""
    try:
        phonemes = parse(utterance.phonemes or ())
    except (UserError, ValueError) as error:
        raise Unusable("unusable phonemes", str(error)) from error
    if len(phonemes) != len(utterance.durations):
        raise Unusable("durations do not fill", f"{len(phonemes)} phonemes but {len(utterance.durations)} durations")
    ends = (np.cumsum(utterance.durations) / (utterance.frames_per_second or 1)).tolist()
    if abs(ends[-1] - recording.seconds) > TOLERANCE:
        detail = f"durations sum to {ends[-1]:.3f} s, the audio is {recording.seconds:.3f} s long"
        raise Unusable("durations do not fill", detail)
    return [Segment(p, start, end) for p, start, end in zip(phonemes, [0.0, *ends[:-1]], ends, strict=True)]


@lru_cache(maxsize=1)
def _aligner() -> Aligner:
    """One for each process: it loads a model."""
    return Aligner()
