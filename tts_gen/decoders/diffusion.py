"""Diffusion: a variance-preserving SDE with a U-Net denoiser (Score SDE, arXiv 2011.13456; Grad-TTS, arXiv 2105.06337).

The network predicts v = alpha_t eps - sigma_t x_0 (Salimans and Ho, arXiv 2202.00512), so x0_hat = alpha_t x - sigma_t
v: well scaled
at every noise level, where predicting eps amplifies errors by 1 / alpha_t at the noisy end.
"""

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from tts_gen import config
from tts_gen.decoders import solvers
from tts_gen.decoders.unet import UNet


@dataclass(frozen=True)
class Diffusion(config.Decoder):
    """The U-Net's shape, and the solver, which touches no parameter: a trained model runs with any."""

    widths: tuple[int, ...] = (128, 192, 256)
    """per level; each level but the first halves the positions"""
    kernel: int = 3
    heads: int = 2
    dropout: float = 0.05
    beta0: float = 0.05
    beta1: float = 20.0
    solver: Literal["euler", "midpoint", "sde", "dpm++2m"] = "dpm++2m"
    solver_steps: int = 20

    @property
    def label(self) -> str:
        return "diffusion"

    @property
    def multiple(self) -> int:
        return 2 ** (len(self.widths) - 1)

    def build(self, channels: int) -> "DiffusionModule":
        return DiffusionModule(self, channels)


class DiffusionModule(nn.Module):
    config: Diffusion
    channels: int

    def setup(self):
        c = self.config
        self.network = UNet(self.channels, c.widths, c.kernel, c.heads, c.dropout)
        self.schedule = solvers.Schedule(c.beta0, c.beta1)

    def loss(self, y, cond, mask, rng, train):
        time_key, noise_key, dropout_key = jax.random.split(rng, 3)
        batch = y.shape[0]
        # Stratified times: one draw, spread evenly over the batch, is uniform for each utterance and steadier for their
        # mean.
        t = (jax.random.uniform(time_key) + jnp.arange(batch) / batch) % 1.0 * (1 - 2e-5) + 1e-5
        alpha, sigma = (s[:, None, None] for s in self.schedule.alpha_sigma(t))
        eps = jax.random.normal(noise_key, y.shape)
        x = (alpha * y + sigma * eps) * mask[..., None]
        v = self.network(x, cond, t, mask, dropout_key if train else None)
        return jnp.mean((v - (alpha * eps - sigma * y)) ** 2, -1)

    def _denoise(self, cond, mask):
        """x0_hat(x, t) as a pure function, which the solvers' loops may trace."""
        network, variables = self.network.unbind()

        def denoise(x, t):
            alpha, sigma = self.schedule.alpha_sigma(t)
            v = network.apply(variables, x, cond, jnp.full(x.shape[0], t), mask, None)
            return (alpha * x - sigma * v) * mask[..., None]

        return denoise

    def sample(self, cond, mask, rng, temperature):
        start_key, path_key = jax.random.split(rng)
        noise = jax.random.normal(start_key, (*mask.shape, self.channels)) * mask[..., None]
        c = self.config
        denoise = self._denoise(cond, mask)
        return solvers.solve(c.solver, self.schedule, denoise, c.solver_steps, noise, path_key, temperature)

    def log_prob(self, y, cond, mask, rng):
        return solvers.log_likelihood(self.schedule, self._denoise(cond, mask), y, mask, rng)
