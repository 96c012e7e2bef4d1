"""What is trained: generator against discriminators, as one loss whose gradients do not mix.

    generator:       sum_k E[(D_k(G(s)) - 1)^2] + 2 sum_kl E|D_kl(x) - D_kl(G(s))| + 45 E|mel(x) - mel(G(s))|
    discriminators:  sum_k E[(D_k(x) - 1)^2 + D_k(G(s))^2]

x a stretch of a recording, s its mel, D_kl the features of layer l of discriminator k. Both move at once, each seeing
the other as it was before the step; the reference moves the discriminators first. The mel of the loss goes up to half
the sampling rate, whatever the generator reads.

Source: arXiv 2010.05646, equations 1 to 6; train.py of jik876/hifi-gan.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np

from tts_gen.config import Audio
from tts_gen.features import mel
from tts_gen.training import Model
from tts_gen.vocoder_training import norms
from tts_gen.vocoder_training.discriminators import SPECTRAL, Discriminators
from tts_gen.vocoders.hifigan import Generator

FEATURES, MEL = 2.0, 45.0
"""weights of the generator's loss"""

Batch = dict[str, jax.Array]
"""wave [B, S], mel [B, T, M] with S = T * hop, weight [B]: 0 for rows that fill a batch up"""


@dataclass(frozen=True)
class Gan:
    """Pure functions of `params`: {"generator": ..., "discriminators": ...}, all kernels but those of one discriminator
    split by norms.split."""

    generator: Generator
    discriminators: Discriminators
    audio: Audio
    """definition of the mels that the generator reads"""

    def init(self, rng: jax.Array, batch: Batch) -> dict:
        rngs = jax.random.split(rng)
        of_mel = self.generator.init(rngs[0], batch["mel"][:1], _all(batch["mel"][:1]))["params"]
        of_wave = self.discriminators.init(rngs[1], batch["wave"][:1])["params"]
        judged = {name: of if name == SPECTRAL else norms.split(of) for name, of in of_wave.items()}
        return {"generator": norms.split(of_mel), "discriminators": judged}

    def loss(self, params: dict, batch: Batch, rng: jax.Array, train: bool) -> tuple[jax.Array, jax.Array]:
        """[B] both losses of each row together, and the rows' weights."""
        of = self._losses(params, batch)
        total = of["adversarial"] + FEATURES * of["features"] + MEL * of["loss"] + of["discriminators"]
        return batch["weight"] * total, batch["weight"]

    def validate(self, params: dict, batch: Batch, rng: jax.Array) -> dict:
        """val_loss is the distance of mels, nats."""
        weight = batch["weight"]
        return {f"val_{name}": (weight * of, weight) for name, of in self._losses(params, batch).items()}

    def _losses(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        fixed, real = jax.lax.stop_gradient, batch["wave"]
        fake = self.wave(params["generator"], batch["mel"])
        of_both = self._judge(params["discriminators"], jnp.concatenate([real, fixed(fake)]))
        of_fake = self._judge(fixed(params["discriminators"]), fake)
        n, row = len(real), _row_means
        parts = {
            "discriminators": [row((s[:n] - 1) ** 2) + row(s[n:] ** 2) for s, _ in of_both],
            "adversarial": [row((s - 1) ** 2) for s, _ in of_fake],
            "features": [row(jnp.abs(fixed(x[:n]) - y)) for (_, xs), (_, ys) in zip(of_both, of_fake)
                         for x, y in zip(xs, ys)],
        }  # fmt: skip
        heard = replace(self.audio, fmax=self.audio.sample_rate / 2)
        distance = row(jnp.abs(log_mels(real, heard) - log_mels(fake, heard)))
        return {name: sum(of) for name, of in parts.items()} | {"loss": distance}

    def wave(self, generator: dict, mel: jax.Array) -> jax.Array:
        """[B, T, M] -> [B, T * hop] by `params["generator"]`."""
        return self.generator.apply({"params": norms.joined(generator)}, mel, _all(mel))

    def _judge(self, params: dict, wave: jax.Array) -> list:
        norm = {name: norms.spectral(of) if name == SPECTRAL else norms.joined(of) for name, of in params.items()}
        return self.discriminators.apply({"params": norm}, wave)


def log_mels(wave: jax.Array, audio: Audio) -> jax.Array:
    """wave[B, S] -> [B, S // hop, M]: features.mel.log_mel, with a gradient."""
    window, filters = mel.constants(audio)
    pad = (audio.n_fft - audio.hop) // 2
    padded = jnp.pad(wave, ((0, 0), (pad, pad)), mode="reflect")
    places = np.arange(wave.shape[1] // audio.hop)[:, None] * audio.hop + np.arange(audio.n_fft)
    spectrum = jnp.fft.rfft(padded[:, places] * window)
    magnitude = jnp.sqrt(spectrum.real**2 + spectrum.imag**2 + mel.LEAST)
    return jnp.log(jnp.maximum(magnitude @ filters.T, mel.FLOOR))


def model(gan: Gan, start: dict | None, inspect: Callable | None = None) -> Model:
    """For the training loop. `start`: parameters that the generator starts from, as the vocoder has them."""

    def adapt(fresh: dict) -> dict:
        return fresh | {"generator": jax.tree.map(np.asarray, norms.split(start))}

    def positions(batch: dict[str, np.ndarray]) -> tuple[int, int]:
        """Samples."""
        return int(batch["weight"].sum()) * batch["wave"].shape[1], batch["wave"].size

    return Model(gan.init, gan.loss, gan.validate, positions, adapt if start is not None else None, inspect)


def _all(mel: jax.Array) -> jax.Array:
    return jnp.ones(mel.shape[:2], bool)


def _row_means(x: jax.Array) -> jax.Array:
    """[B, ...] -> [B]"""
    return jnp.mean(x, range(1, x.ndim))
