"""One utterance: from a sound file and its text (or alignment) to a Record, or the reason why not."""

from pathlib import Path

import numpy as np

from tts_gen.align.quality import quality
from tts_gen.config import Audio
from tts_gen.corpora import Utterance
from tts_gen.features import durations, mel, pitch, pooling
from tts_gen.features.record import Record
from tts_gen.features.segments import segments
from tts_gen.features.unusable import Unusable
from tts_gen.text import PAUSE

MIN_SECONDS, MAX_SECONDS = 0.5, 12.0
MIN_PHONEMES, MAX_PHONEMES = 4, 128
"""pauses not counted"""
MIN_VOICED = 2
"""voiced phonemes; with fewer there is no intonation to learn"""
SILENCE = 1e-3
"""largest sample (-60 dB of full scale) of a file that holds nothing audible"""
OVERLOAD = 2.0
"""largest sample of a file scaled otherwise than to -1..1; lossy codecs overshoot 1 a little"""


def load_wave(path: Path) -> tuple[np.ndarray, int]:
    """(wave[n] float32, Hz) of any file libsndfile reads, channels averaged. Raises Unusable."""
    import soundfile

    if not path.is_file():
        raise Unusable("missing audio", f"{path} does not exist")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise Unusable("unreadable audio", f"{path}: {error}") from error
    wave = samples.mean(axis=1)
    if not np.isfinite(wave).all():
        raise Unusable("samples not finite", f"{path}: {(~np.isfinite(wave)).sum()} samples are NaN or infinite")
    return wave, rate


def extract(utterance: Utterance, wave: np.ndarray, rate: int, audio: Audio, f0_method: pitch.Method) -> Record:
    """The features of wave[n] at `rate` Hz. Raises Unusable when the wave, the text or the alignment will not do."""
    import soxr

    _check_wave(wave, rate)
    spoken = segments(utterance, wave, rate)
    n_phones = sum(s.phoneme.symbol != PAUSE for s in spoken)
    _limit("too few phonemes", "phonemes", n_phones, low=MIN_PHONEMES)
    _limit("too many phonemes", "phonemes", n_phones, high=MAX_PHONEMES)
    # Resampling may overshoot full scale a little; what HiFi-GAN's definition is given is left as it is.
    wave = soxr.resample(wave, rate, audio.sample_rate).astype(np.float32)
    log_mel = mel.log_mel(wave, audio)
    try:
        duration = durations.fit(spoken, len(log_mel), audio)
    except ValueError as error:
        raise Unusable("durations do not fill", str(error)) from error
    is_pause = np.array([s.phoneme.symbol == PAUSE for s in spoken])
    log_f0 = pooling.pool_log_f0(pitch.f0(wave, audio, f0_method), duration, is_pause)
    _limit("too few voiced phonemes", "voiced phonemes", int((~np.isnan(log_f0)).sum()), low=MIN_VOICED)
    return Record([s.phoneme for s in spoken], duration, log_f0, log_mel, quality(spoken))


def _check_wave(wave: np.ndarray, rate: int) -> None:
    seconds = len(wave) / rate
    _limit("too short", "seconds", seconds, low=MIN_SECONDS)
    _limit("too long", "seconds", seconds, high=MAX_SECONDS)
    peak = float(np.abs(wave).max())
    _limit("silence", "largest sample", peak, low=SILENCE)
    _limit("samples not in -1..1", "largest sample", peak, high=OVERLOAD)


def _limit(reason: str, what: str, value: float, low: float = -np.inf, high: float = np.inf) -> None:
    if not low <= value <= high:
        bound = f"at least {low:g}" if value < low else f"at most {high:g}"
        raise Unusable(reason, f"{what} {value:.4g}, accepted is {bound}")
