"""One utterance: from a sound file and its text (or alignment) to a Record, or the reason why not."""

from dataclasses import dataclass

import numpy as np

from tts_gen.align.quality import quality
from tts_gen.config import Audio
from tts_gen.corpora import Utterance
from tts_gen.features import durations, mel, pitch, pooling
from tts_gen.features.loudness import levelled
from tts_gen.features.record import Record
from tts_gen.features.segments import segments
from tts_gen.features.sound import Recording, Unusable, limit
from tts_gen.features.trimming import cut
from tts_gen.text import PAUSE

MIN_PHONEMES, MAX_PHONEMES = 4, 128
"""pauses not counted"""
MIN_VOICED = 2
"""voiced phonemes; with fewer there is no intonation to learn"""


@dataclass(frozen=True)
class Settings:
    """One for a store."""

    audio: Audio = Audio()
    f0_method: pitch.Method = "dio"
    loudness: float | None = None
    """LKFS that recordings are brought to; as they are if not given"""
    trim: float | None = None
    """seconds that a pause at either end is shortened to; not at all if not given"""


def extract(utterance: Utterance, recording: Recording, settings: Settings) -> Record:
    """The features of an utterance. Raises Unusable when the recording, the text or the alignment will not do."""
    import soxr

    recording.check()
    spoken, wave, audio = segments(utterance, recording, settings.trim), recording.wave, settings.audio
    n_phones = sum(s.phoneme.symbol != PAUSE for s in spoken)
    limit("too few phonemes", "phonemes", n_phones, low=MIN_PHONEMES)
    limit("too many phonemes", "phonemes", n_phones, high=MAX_PHONEMES)
    if settings.trim is not None:
        spoken, wave = cut(spoken, recording)
    if settings.loudness is not None:
        wave = levelled(wave, recording.rate, settings.loudness)
    # Resampling may overshoot full scale a little; what HiFi-GAN's definition is given is left as it is.
    wave = soxr.resample(wave, recording.rate, audio.sample_rate).astype(np.float32)
    log_mel = mel.log_mel(wave, audio)
    try:
        duration = durations.fit(spoken, len(log_mel), audio)
    except ValueError as error:
        raise Unusable("durations do not fill", str(error)) from error
    is_pause = np.array([s.phoneme.symbol == PAUSE for s in spoken])
    f0 = pitch.f0(wave, audio, settings.f0_method)
    log_f0 = pooling.pool_log_f0(f0, duration, is_pause)
    limit("too few voiced phonemes", "voiced phonemes", int((~np.isnan(log_f0)).sum()), low=MIN_VOICED)
    return Record([s.phoneme for s in spoken], duration, log_f0, log_mel, pooling.log_contour(f0), quality(spoken))
