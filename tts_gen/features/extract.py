"""One utterance: from a sound file and its text (or alignment) to a Record, or the reason why not."""

import numpy as np

from tts_gen.align.quality import quality
from tts_gen.config import Audio
from tts_gen.corpora import Utterance
from tts_gen.features import durations, mel, pitch, pooling
from tts_gen.features.record import Record
from tts_gen.features.segments import segments
from tts_gen.features.sound import Recording, Unusable, limit
from tts_gen.text import PAUSE

MIN_PHONEMES, MAX_PHONEMES = 4, 128
"""pauses not counted"""
MIN_VOICED = 2
"""voiced phonemes; with fewer there is no intonation to learn"""


def extract(utterance: Utterance, recording: Recording, audio: Audio, f0_method: pitch.Method) -> Record:
    """The features of an utterance. Raises Unusable when the recording, the text or the alignment will not do."""
    import soxr

    recording.check()
    spoken = segments(utterance, recording)
    n_phones = sum(s.phoneme.symbol != PAUSE for s in spoken)
    limit("too few phonemes", "phonemes", n_phones, low=MIN_PHONEMES)
    limit("too many phonemes", "phonemes", n_phones, high=MAX_PHONEMES)
    # Resampling may overshoot full scale a little; what HiFi-GAN's definition is given is left as it is.
    wave = soxr.resample(recording.wave, recording.rate, audio.sample_rate).astype(np.float32)
    log_mel = mel.log_mel(wave, audio)
    try:
        duration = durations.fit(spoken, len(log_mel), audio)
    except ValueError as error:
        raise Unusable("durations do not fill", str(error)) from error
    is_pause = np.array([s.phoneme.symbol == PAUSE for s in spoken])
    log_f0 = pooling.pool_log_f0(pitch.f0(wave, audio, f0_method), duration, is_pause)
    limit("too few voiced phonemes", "voiced phonemes", int((~np.isnan(log_f0)).sum()), low=MIN_VOICED)
    return Record([s.phoneme for s in spoken], duration, log_f0, log_mel, quality(spoken))
