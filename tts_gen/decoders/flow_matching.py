"""Flow matching: an ODE from noise to data whose velocity is regressed on straight paths (OT-CFM, arXiv 2210.02747;
Matcha-TTS, arXiv 2309.03199).

    x_t = (1 - (1 - s) t) z + t y,   dx_t/dt = y - (1 - s) z,   z ~ N(0, 1), s = sigma_min
    sample: dx/dt = v(x, t; cond) from temperature * z at t = 0 to 1
"""

from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp
from jax.scipy.special import ndtri

from tts_gen import config, draws
from tts_gen.decoders import likelihood, networks, ode
from tts_gen.decoders.guidance import condition, guided


@dataclass(frozen=True)
class FlowMatching(networks.Network):
    """The network, the path, and the solver, which touches no parameter: a trained model runs with any."""

    sigma_min: float = 1e-4
    """standard deviation that is left at t = 1"""
    time: Literal["uniform", "logit_normal"] = "uniform"
    """of training; logit_normal: sigmoid of a standard normal, so more of them mid path (Stable Diffusion 3, arXiv
    2403.03206)"""
    solver: Literal["euler", "midpoint", "heun"] = "midpoint"

    def __post_init__(self):
        super().__post_init__()
        config.limit("decoder", self, sigma_min=config.SHARE)

    @property
    def label(self) -> str:
        return "flow_matching"

    @property
    def evaluations(self) -> int:
        return ode.EVALUATIONS[self.solver] * self.solver_steps

    def build(self, channels: int) -> "FlowMatchingModule":
        return FlowMatchingModule(self, channels)


class FlowMatchingModule(nn.Module):
    config: FlowMatching
    channels: int

    def setup(self):
        self.network = networks.build(self.config, self.channels)

    def path(self, y, t, noise):
        """x_t and dx_t/dt, [B, L, C], at times t [B]."""
        t, kept = t[:, None, None], 1 - self.config.sigma_min
        return (1 - kept * t) * noise + t * y, y - kept * noise

    def loss_at(self, y, cond, mask, t, noise, rng):
        """[B, L] squared error of the velocity at times t [B] with z = noise [B, L, C]; rng None: no dropout."""
        x, velocity = self.path(y, t, noise)
        error = self.network(x * mask[..., None], cond, t, mask, rng) * mask[..., None] - velocity
        return jnp.mean(error**2, -1)

    def loss(self, y, cond, mask, rng, train):
        time_key, noise_key, dropout_key = draws.split(rng, 3)
        noise = draws.normal(noise_key, y.shape, _at_least_float32(y))
        t = ode.training_times(time_key, y.shape[0]).astype(noise.dtype)
        if self.config.time == "logit_normal":
            t = nn.sigmoid(ndtri(t))
        return self.loss_at(y, cond, mask, t, noise, dropout_key if train else None)

    def _velocity(self, cond, mask, null=None, guidance=0.0):
        """v(x, t) as a pure function of x [B, L, C] and t [], which the solvers' loops may trace."""
        network, variables = self.network.unbind()
        given = condition(cond, null, guidance)

        def velocity(x, t):
            at = jnp.full(x.shape[0], t)
            return guided(lambda c: network.apply(variables, x, c, at, mask, None), given) * mask[..., None]

        return velocity

    def sample(self, cond, mask, rng, temperature, null=None, guidance=0.0):
        noise = draws.normal(rng, (*mask.shape, self.channels), _at_least_float32(cond))
        return self.sample_from(temperature * noise, cond, mask, null, guidance)

    def sample_from(self, noise, cond, mask, null=None, guidance=0.0):
        """[B, L, C] at t = 1 from `noise`, temperature included, at t = 0."""
        c = self.config
        start = noise if c.reference_masking else noise * mask[..., None]
        times = jnp.linspace(0, 1, c.solver_steps + 1, dtype=start.dtype)
        return ode.integrate(c.solver, self._velocity(cond, mask, null, guidance), start, times)

    def log_prob(self, y, cond, mask, rng):
        return likelihood.ode_log_prob(self._velocity(cond, mask), y, mask, rng, 1.0, 0.0)


def _at_least_float32(x):
    return jnp.promote_types(x.dtype, jnp.float32)
