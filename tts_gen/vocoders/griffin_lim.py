"""Griffin-Lim: phases found by iteration. Needs no weights and takes any mel definition, but sounds metallic.

    S >= 0 of least |S A^T - exp(mel)|, A [M, F] the mel filters, by multiplicative updates (Lee and Seung, NIPS 2000)
    c <- P(S p),   p <- e^(i angle(c - a / (1 + a) c_before)), which is also the direction of c + a (c - c_before)

P makes of spectra those of the wave nearest to them. Source: Perraudin, Balazs, Sondergaard, "A fast Griffin-Lim
algorithm", 2013, in librosa's form.

Shapes: T frames, F = n_fft // 2 + 1 bins, M mel bins.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tts_gen.config import Audio

LOUDEST = 12.0
"""nats, far above any mel of a wave in -1..1; what a model gives beyond it would overflow, and is cut"""
UPDATES = 100
"""of the magnitudes"""
MOMENTUM = 0.99
SHORTEST = 64
"""frames; compiled lengths start here and double"""
SILENCE = 1e-10
"""magnitude below which a bin is not divided by"""


class GriffinLim:
    """The vocoder: mel[T, M] -> wave[T * hop], float32, clipped to -1..1; the same wave every time."""

    name = "griffin_lim"

    def __init__(self, audio: Audio = Audio(), iterations: int = 32):
        import librosa

        self._audio, self._iterations = audio, iterations
        filters = librosa.filters.mel(
            sr=audio.sample_rate, n_fft=audio.n_fft, n_mels=audio.n_mels, fmin=audio.fmin, fmax=audio.fmax
        )
        self._filters = filters.astype(np.float32), np.linalg.pinv(filters).astype(np.float32)

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        if not len(mel):
            return np.zeros(0, np.float32)
        length, audio = SHORTEST, self._audio
        while length < len(mel):
            length *= 2
        padded = np.zeros((length, audio.n_mels), np.float32)
        padded[: len(mel)] = mel
        # Row by row: a frame's phases do not depend on the padding.
        phases = np.random.default_rng(0).random((length, audio.n_fft // 2 + 1), np.float32)
        mask = np.arange(length) < len(mel)
        wave = _waves(*self._filters, padded, mask, phases, audio.n_fft, audio.hop, self._iterations)
        # The frames start (n_fft - hop) / 2 before the utterance does: undo the padding of the mel.
        start = (audio.n_fft - audio.hop) // 2
        return np.clip(np.asarray(wave)[start : start + len(mel) * audio.hop], -1.0, 1.0)


@partial(jax.jit, static_argnames=("n_fft", "hop", "iterations"))
def _waves(filters, inverse, mel, mask, phases, n_fft, hop, iterations):
    """Log-mel [T, M], mask [T], phases [T, F] in turns -> wave; frame t starts at sample t * hop."""
    mask = mask[:, None].astype(mel.dtype)
    magnitude = _magnitudes(filters, inverse, jnp.exp(jnp.minimum(mel, LOUDEST)) * mask)
    window = jnp.asarray(np.hanning(n_fft + 1)[:-1], mel.dtype) * mask
    envelope = _overlap_add(window**2, hop)
    gain = jnp.where(envelope > SILENCE, 1 / jnp.maximum(envelope, SILENCE), 0)

    def wave_of(spectra):
        return _overlap_add(jnp.fft.irfft(spectra, n_fft) * window, hop) * gain

    def step(_, state):
        phase, before = state
        spectra = jnp.fft.rfft(_frames(wave_of(magnitude * phase), len(mel), n_fft, hop) * window)
        phase = spectra - MOMENTUM / (1 + MOMENTUM) * before
        return phase / jnp.maximum(jnp.abs(phase), SILENCE), spectra

    start = jnp.exp(2j * jnp.pi * phases)
    phase, _ = jax.lax.fori_loop(0, iterations, step, (start, jnp.zeros_like(start)))
    return wave_of(magnitude * phase)


def _magnitudes(filters, inverse, mel):
    """Mel magnitudes [T, M] -> [T, F]; no bin is below 0, and those that no filter hears are 0."""
    dot = partial(jnp.dot, precision="highest")
    target = dot(mel, filters)
    # An update cannot leave 0.
    start = jnp.maximum(dot(mel, inverse.T), 1e-6 * jnp.max(mel, 1, keepdims=True))

    def update(_, magnitude):
        return magnitude * target / jnp.maximum(dot(dot(magnitude, filters.T), filters), SILENCE)

    return jax.lax.fori_loop(0, UPDATES, update, start)


def _overlap_add(frames, hop):
    """[T, n_fft] -> [(T - 1 + n_fft / hop, rounded up) * hop]."""
    length, n_fft = frames.shape
    n = -(-n_fft // hop)
    parts = jnp.pad(frames, ((0, 0), (0, n * hop - n_fft))).reshape(length, n, hop)
    return sum(jnp.pad(parts[:, i], ((i, n - 1 - i), (0, 0))) for i in range(n)).reshape(-1)


def _frames(wave, length, n_fft, hop):
    """Of what _overlap_add gives: [T, n_fft]."""
    parts = wave.reshape(-1, hop)
    n = len(parts) - length + 1
    return jnp.concatenate([parts[i : i + length] for i in range(n)], 1)[:, :n_fft]
