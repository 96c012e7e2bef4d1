"""One utterance: from a sound file and its text (or alignment) to a Record, or the reason why not."""

from functools import lru_cache

import numpy as np

from tts_gen.align import Aligner, AlignmentError, Segment, textgrid
from tts_gen.align.quality import implausible, quality
from tts_gen.config import Audio, UserError
from tts_gen.corpora import Utterance
from tts_gen.features import durations, mel, pitch, pooling
from tts_gen.features.record import Record
from tts_gen.features.sound import Recording, Unusable, limit
from tts_gen.text import PAUSE, parse, words

MIN_PHONEMES, MAX_PHONEMES = 4, 128
"""pauses not counted"""
MIN_VOICED = 2
"""voiced phonemes; with fewer there is no intonation to learn"""


def extract(utterance: Utterance, recording: Recording, audio: Audio, f0_method: pitch.Method) -> Record:
    """The features of an utterance. Raises Unusable when the recording, the text or the alignment will not do."""
    import soxr

    recording.check()
    segments = _segments(utterance, recording)
    n_phones = sum(s.phoneme.symbol != PAUSE for s in segments)
    limit("too few phonemes", "phonemes", n_phones, low=MIN_PHONEMES)
    limit("too many phonemes", "phonemes", n_phones, high=MAX_PHONEMES)
    # Resampling may overshoot full scale a little; what HiFi-GAN's definition is given is left as it is.
    wave = soxr.resample(recording.wave, recording.rate, audio.sample_rate).astype(np.float32)
    log_mel = mel.log_mel(wave, audio)
    try:
        duration = durations.fit(segments, len(log_mel), audio)
    except ValueError as error:
        raise Unusable("durations do not fill", str(error)) from error
    is_pause = np.array([s.phoneme.symbol == PAUSE for s in segments])
    log_f0 = pooling.pool_log_f0(pitch.f0(wave, audio, f0_method), duration, is_pause)
    limit("too few voiced phonemes", "voiced phonemes", int((~np.isnan(log_f0)).sum()), low=MIN_VOICED)
    return Record([s.phoneme for s in segments], duration, log_f0, log_mel)


def _segments(utterance: Utterance, recording: Recording) -> list[Segment]:
    if utterance.textgrid is not None:
        try:
            return textgrid.read(utterance.textgrid, recording.seconds)
        except (UserError, OSError) as error:
            raise Unusable("unusable TextGrid", str(error)) from error
    if utterance.durations is not None:
        return _given(utterance)
    if utterance.phonemes is not None:
        raise Unusable("phonemes without durations", "give durations or a TextGrid too, or the text alone")
    if not utterance.language.startswith("en"):
        raise Unusable("language without aligner", f"language {utterance.language!r}: give phonemes and durations")
    if not utterance.text.strip():
        raise Unusable("empty text", "field text is empty")
    try:
        segments = _aligner().align(recording.wave, recording.rate, words(utterance.text))
    except UserError as error:
        raise Unusable("unusable text", str(error)) from error
    except AlignmentError as error:
        raise Unusable(f"alignment: {error}", f"text {utterance.text!r}") from error
    _check_alignment(segments)
    return segments


def _given(utterance: Utterance) -> list[Segment]:
    """Segments from the manifest's phonemes and durations."""
    try:
        phonemes = parse(utterance.phonemes or ())
    except (UserError, ValueError) as error:
        raise Unusable("unusable phonemes", str(error)) from error
    if len(phonemes) != len(utterance.durations):
        raise Unusable("durations do not fill", f"{len(phonemes)} phonemes but {len(utterance.durations)} durations")
    ends = np.cumsum(utterance.durations).tolist()
    return [Segment(p, start, end) for p, start, end in zip(phonemes, [0.0, *ends[:-1]], ends, strict=True)]


def _check_alignment(segments: list[Segment]) -> None:
    """Beyond the limits the text is another one, or the aligner has slipped. Alignments that were given are trusted."""
    if found := implausible(quality(segments)):
        raise Unusable(f"alignment: {found[0]}", " ".join(found))


@lru_cache(maxsize=1)
def _aligner() -> Aligner:
    """One for each process: it loads a model."""
    return Aligner()
