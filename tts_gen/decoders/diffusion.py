"""Diffusion: a variance-preserving SDE towards noise around a prior mean, reversed by a learnt network (Score SDE,
arXiv 2011.13456; Grad-TTS, arXiv 2105.06337).

    x_t = alpha_t y + (1 - alpha_t) mu + sigma_t eps,   mu = 0 (the usual process), predicted from cond, or given

The network's output is one of
    v = alpha_t eps - sigma_t (y - mu)  (Salimans and Ho, arXiv 2202.00512): well scaled at every noise level
    the score -eps / sigma_t, in the loss times sigma_t (Grad-TTS, equation 14)
"""

import math
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from tts_gen import config, draws
from tts_gen.config import UserError
from tts_gen.decoders import likelihood, networks, ode, solvers
from tts_gen.decoders.guidance import condition, guided
from tts_gen.layers import wide


@dataclass(frozen=True)
class Diffusion(networks.Network):
    """The network's shape, the process, and the solver, which touches no parameter: a trained model runs with any."""

    predict: Literal["v", "score"] = "v"
    """what the network's output stands for; Grad-TTS: score"""
    prior_mean: Literal["zero", "predicted", "given"] = "zero"
    """predicted: one linear layer of cond, trained along as Grad-TTS's encoder is; given: cond [B, L, D] starts with
    the mean [B, L, C] that a joint model predicts from text"""
    schedule: Literal["linear", "cosine"] = "linear"
    beta0: float = 0.05
    """linear schedule: beta at t = 0"""
    beta1: float = 20.0
    """linear schedule: beta at t = 1"""
    solver: Literal["euler", "midpoint", "heun", "sde", "dpm++2m", "grad_euler", "grad_sde"] = "dpm++2m"
    solver_steps: int = 20

    def __post_init__(self):
        super().__post_init__()
        config.limit("decoder", self, beta0=(0.0, math.inf), beta1=(0.0, math.inf))
        if self.beta0 >= self.beta1:
            raise UserError(f"decoder.beta0 {self.beta0} is not below decoder.beta1 {self.beta1}")

    @property
    def label(self) -> str:
        return "diffusion"

    @property
    def evaluations(self) -> int:
        return solvers.SOLVERS[self.solver] * self.solver_steps

    def build(self, channels: int) -> "DiffusionModule":
        return DiffusionModule(self, channels)


class DiffusionModule(nn.Module):
    config: Diffusion
    channels: int

    def setup(self):
        c = self.config
        self.network = networks.build(c, self.channels)
        self.prior = nn.Dense(self.channels) if c.prior_mean == "predicted" else None
        linear = c.schedule == "linear"
        self.schedule = solvers.LinearSchedule(c.beta0, c.beta1) if linear else solvers.CosineSchedule()

    def prior_mean(self, cond, mask):
        """mu [B, L, C], at least float32, 0 at padding; the number 0 where the process has none."""
        if self.config.prior_mean == "zero":
            return 0.0
        mu = cond[..., : self.channels] if self.config.prior_mean == "given" else self.prior(cond)
        return wide(mu) * mask[..., None]

    def noised(self, y, t, eps, cond, mask):
        """x_t [B, L, C] of y at the times t [B] with the noise eps [B, L, C]; 0 at padding."""
        alpha, sigma = (s[:, None, None] for s in self.schedule.alpha_sigma(t))
        mu = self.prior_mean(cond, mask)
        return (mu + alpha * (y - mu) + sigma * eps) * mask[..., None]

    def loss(self, y, cond, mask, rng, train):
        time_key, noise_key, dropout_key = draws.split(rng, 3)
        eps = draws.normal(noise_key, y.shape, jnp.promote_types(y.dtype, jnp.float32))
        t = ode.training_times(time_key, y.shape[0]).astype(eps.dtype)
        return self.loss_at(y, t, eps, cond, mask, dropout_key if train else None)

    def loss_at(self, y, t, eps, cond, mask, rng):
        """`loss` at the times t [B], with the noise eps [B, L, C]; `rng` None: no dropout."""
        alpha, sigma = (s[:, None, None] for s in self.schedule.alpha_sigma(t))
        rest = y - self.prior_mean(cond, mask)
        out = self.network(self.noised(y, t, eps, cond, mask), cond, t, mask, rng)
        error = out - (alpha * eps - sigma * rest) if self.config.predict == "v" else sigma * out + eps
        loss = jnp.mean(error**2, -1)
        if self.config.prior_mean == "predicted":
            loss += jnp.mean(0.5 * (rest**2 + math.log(2 * math.pi)), -1)
        return loss

    def _denoiser(self, cond, mask, null=None, guidance=0.0):
        """mu, and x0_hat(x, t) of the process with mean 0, that of x - mu, as a pure function, which the solvers' loops
        may trace."""
        network, variables = self.network.unbind()
        mu, m = self.prior_mean(cond, mask), mask[..., None]
        given = condition((cond, mu), None if null is None else (null, self.prior_mean(null, mask)), guidance)

        def denoise(x, t):
            alpha, sigma = self.schedule.alpha_sigma(t)

            def clean(given):
                """y_hat: what conditions with means of their own have in common."""
                cond, mean = given
                out = network.apply(variables, x + mu, cond, jnp.full(x.shape[0], t), mask, None)
                rest = x + (mu - mean)
                v = self.config.predict == "v"
                return mean + (alpha * rest - sigma * out if v else (rest + sigma**2 * out) / alpha)

            return (guided(clean, given) - mu) * m

        return mu, denoise

    def sample(self, cond, mask, rng, temperature, null=None, guidance=0.0):
        start_key, path_key = draws.split(rng, 2)
        shape, dtype = (*mask.shape, self.channels), jnp.promote_types(cond.dtype, jnp.float32)

        def draw(i):
            return draws.normal(draws.fold_in(path_key, i), shape, dtype)

        noise = draws.normal(start_key, shape, dtype)
        return self.sample_from(noise, draw, cond, mask, temperature, null, guidance)

    def sample_from(self, noise, draw, cond, mask, temperature, null=None, guidance=0.0):
        """`sample` from the noise [B, L, C] at t = 1; the SDE solvers take that of step i from draw(i) [B, L, C]."""
        c = self.config
        mu, denoise = self._denoiser(cond, mask, null, guidance)
        noise = noise * mask[..., None]
        return mu + solvers.solve(c.solver, self.schedule, denoise, c.solver_steps, noise, draw, temperature)

    def log_prob(self, y, cond, mask, rng):
        mu, denoise = self._denoiser(cond, mask)
        return likelihood.diffusion_log_prob(self.schedule, denoise, y - mu, mask, rng)
