"""Griffin-Lim: phases found by iteration. Needs no weights and takes any mel definition, but sounds metallic.

Source: Perraudin, Balazs, Sondergaard, "A fast Griffin-Lim algorithm", 2013, as librosa implements it.
"""

import numpy as np

from tts_gen.config import Audio

LOUDEST = 12.0
"""nats, far above any mel of a wave in -1..1; what a model gives beyond it would overflow, and is cut"""


class GriffinLim:
    """The vocoder: mel[T, M] -> wave[T * hop], float32, clipped to -1..1; the same wave every time."""

    name = "griffin_lim"

    def __init__(self, audio: Audio = Audio(), iterations: int = 60):
        import librosa

        self._audio, self._iterations = audio, iterations
        filters = librosa.filters.mel(
            sr=audio.sample_rate, n_fft=audio.n_fft, n_mels=audio.n_mels, fmin=audio.fmin, fmax=audio.fmax
        )
        self._unfilter = np.linalg.pinv(filters)  # [n_fft // 2 + 1, M]

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        import librosa

        if not len(mel):
            return np.zeros(0, np.float32)
        audio = self._audio
        loudness = np.minimum(np.asarray(mel, np.float32), LOUDEST)
        magnitude = np.maximum(self._unfilter @ np.exp(loudness).T, 0.0)
        wave = librosa.griffinlim(
            magnitude,
            n_iter=self._iterations,
            hop_length=audio.hop,
            n_fft=audio.n_fft,
            center=False,
            momentum=0.99,
            random_state=0,
        )
        # The frames start (n_fft - hop) / 2 before the utterance does: undo the padding of the mel.
        start = (audio.n_fft - audio.hop) // 2
        return np.clip(wave[start : start + len(mel) * audio.hop], -1.0, 1.0).astype(np.float32)
