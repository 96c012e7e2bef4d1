"""Stochastic duration predictor of VITS (arXiv 2106.06103, section 2.2.2; jaywalnut310/vits `models.py`, MIT).

    log p(d | h) >= E_q[ log p(d - u, nu | h) - log q(u, nu | d, h) ],   u in (0, 1)

Both densities are spline flows: p of the dequantised duration d - u and a second channel nu, which lets couplings act
on one number; q of the noise (u, nu) given the duration and the text h.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax.scipy.stats import norm

from tts_gen import draws
from tts_gen.decoders import splines
from tts_gen.decoders.couplings import SplineCoupling
from tts_gen.decoders.dds import DDS, DilatedSeparable
from tts_gen.decoders.flow_layers import ActNorm
from tts_gen.layers import wide


class SplineFlow(nn.Module):
    """ActNorm, then spline couplings on two channels, each followed by a swap of the two: [B, L, 2] -> [B, L, 2]."""

    width: int
    kernel: int
    layers: int
    couplings: int
    bins: int
    bound: float

    def setup(self):
        out = splines.parameters(self.bins)
        self.norm = ActNorm()
        self.coupling = [
            SplineCoupling(DDS(self.width, self.layers, self.kernel, out, parent=None), self.bound)
            for _ in range(self.couplings)
        ]

    def forward_and_log_det(self, y, cond, mask):
        z, log_det = self.norm.forward_and_log_det(y, mask)
        for coupling in self.coupling:
            z, change = coupling.forward_and_log_det(z, cond, mask, [1.0] * self.layers)
            z, log_det = z[..., ::-1], log_det + change
        return z, log_det

    def inverse(self, z, cond, mask):
        for coupling in reversed(self.coupling):
            z = coupling.inverse(z[..., ::-1], cond, mask, [1.0] * self.layers)
        return self.norm.inverse(z, mask)


class StochasticDurationPredictor(nn.Module):
    """Durations d [B, N] in frames (at least 1 where valid) from text h [B, N, D], mask [B, N] and speaker features g
    [B, 1, D'] or None. VITS lets no gradient reach h and g; that is the caller's choice here."""

    width: int
    kernel: int = 3
    layers: int = 3
    couplings: int = 4
    bins: int = 10
    bound: float = 5.0
    dropout: float = 0.5

    def setup(self):
        self.pre, self.proj = nn.Dense(self.width), nn.Dense(self.width)
        self.speaker = nn.Dense(self.width)
        self.convs = DilatedSeparable(self.kernel, self.layers)
        self.post_pre, self.post_proj = nn.Dense(self.width), nn.Dense(self.width)
        self.post_convs = DilatedSeparable(self.kernel, self.layers)
        shape = (self.width, self.kernel, self.layers, self.couplings, self.bins, self.bound)
        self.flow, self.post_flow = SplineFlow(*shape), SplineFlow(*shape)

    def _dropped(self, rng, mask):
        dropped = draws.dropout_masks(rng, self.dropout, 2 * self.layers, (*mask.shape, self.width))
        return dropped[: self.layers], dropped[self.layers :]

    def condition(self, h, g, mask, dropped):
        """What conditions both flows, [B, N, width]."""
        x = self.pre(h) if g is None else self.pre(h) + self.speaker(g)
        return self.proj(self.convs(x, mask, dropped)) * mask[..., None]

    def posterior_condition(self, d, mask, dropped):
        """What the posterior flow has besides, [B, N, width]."""
        return self.post_proj(self.post_convs(self.post_pre(d[..., None]), mask, dropped)) * mask[..., None]

    def posterior(self, eps, cond, mask):
        """Standard normal eps [B, N, 2] -> u in (0, 1), nu and log q(u, nu), [B, N] each."""
        eps = eps * mask[..., None]
        z, log_det = self.post_flow.forward_and_log_det(eps, cond, mask)
        log_det += (nn.log_sigmoid(wide(z[..., 0])) + nn.log_sigmoid(-wide(z[..., 0]))) * mask
        return nn.sigmoid(z[..., 0]), z[..., 1], _log_normal(eps) * mask - log_det

    def nll_at(self, d, h, mask, eps, g=None, rng=None):
        """The bound's negative [B, N], in nats, at the posterior's noise eps [B, N, 2]; `rng` drops out."""
        text, post = self._dropped(rng, mask)
        cond = self.condition(h, g, mask, text)
        u, nu, log_q = self.posterior(eps, cond + self.posterior_condition(d, mask, post), mask)
        log_d = jnp.log(jnp.maximum(d - u, 1e-5)) * mask
        z, log_det = self.flow.forward_and_log_det(jnp.stack([log_d, nu], -1), cond, mask)
        return log_q - (_log_normal(z) * mask + log_det - log_d)

    def sample_from(self, eps, h, mask, temperature, g=None):
        """Standard normal eps [B, N, 2] -> log of the duration [B, N]; its ceiling is the frames (VITS).

        The first coupling, inverted last, changes nu alone: the reference leaves it out, and so does the compiler.
        """
        cond = self.condition(h, g, mask, self._dropped(None, mask)[0])
        z = temperature * eps * mask[..., None]
        return self.flow.inverse(z, cond, mask)[..., 0]

    def nll(self, d, h, mask, rng, train, g=None):
        noise_key, dropout_key = draws.split(rng, 2)
        eps = draws.normal(noise_key, (*mask.shape, 2))
        return self.nll_at(d, h, mask, eps, g, dropout_key if train else None)

    def sample(self, h, mask, rng, temperature, g=None):
        return self.sample_from(draws.normal(rng, (*mask.shape, 2)), h, mask, temperature, g)


def _log_normal(x):
    return jnp.sum(norm.logpdf(wide(x)), -1)
