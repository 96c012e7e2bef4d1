"""Coupling layers: half of the channels set an invertible map of the other half (RealNVP, arXiv 1605.08803).

y_a passes unchanged; a conditioner network reads y_a and the condition c and gives the map's parameters, so neither
direction inverts the network. The pairs are those of `flow_layers`, with the condition [B, L, D] (in sampling maybe a
`guidance.Guided`) and the conditioner's dropout factors as further arguments. Every coupling starts as the identity,
for its conditioner starts at zero.
"""

import flax.linen as nn
import jax.numpy as jnp

from tts_gen.decoders import splines
from tts_gen.decoders.guidance import guided
from tts_gen.layers import wide


class AffineCoupling(nn.Module):
    """z_a = y_a;  z_b = m(y_a, c) + exp(s(y_a, c)) y_b."""

    conditioner: nn.Module
    """gives C channels: m, then s"""
    sigmoid_scale: bool = False
    """log-scale log(1e-6 + sigmoid(s + 2)), which bounds the scale by 1, in place of s (an option of Glow-TTS)"""

    def _shift_and_log_scale(self, a, cond, mask, dropped):
        out = guided(lambda c: self.conditioner(a, c, mask, dropped), cond)
        shift, s = jnp.split(wide(out), 2, -1)
        return shift, jnp.log(1e-6 + nn.sigmoid(s + 2)) if self.sigmoid_scale else s

    def forward_and_log_det(self, y, cond, mask, dropped):
        a, b = jnp.split(y, 2, -1)
        shift, log_scale = self._shift_and_log_scale(a, cond, mask, dropped)
        z = jnp.concatenate([a, (shift + jnp.exp(log_scale) * b) * mask[..., None]], -1)
        return z, jnp.sum(log_scale, -1) * mask

    def inverse(self, z, cond, mask, dropped):
        a, b = jnp.split(z, 2, -1)
        shift, log_scale = self._shift_and_log_scale(a, cond, mask, dropped)
        return jnp.concatenate([a, (b - shift) * jnp.exp(-log_scale) * mask[..., None]], -1)


class SplineCoupling(nn.Module):
    """z_a = y_a;  z_b = spline(y_b) with parameters from y_a and c, the identity beyond +-bound (Durkan et al., arXiv
    1906.04032; with VITS's conditioner, jaywalnut310/vits `modules.ConvFlow`)."""

    conditioner: nn.Module
    """gives C/2 times `splines.parameters(bins)` channels"""
    bound: float

    def _parameters(self, a, cond, mask, dropped):
        return guided(lambda c: self.conditioner(a, c, mask, dropped), cond).reshape(*a.shape, -1)

    def forward_and_log_det(self, y, cond, mask, dropped):
        a, b = jnp.split(y, 2, -1)
        b, log_det = splines.forward_and_log_det(b, self._parameters(a, cond, mask, dropped), self.bound)
        return jnp.concatenate([a, b * mask[..., None]], -1), jnp.sum(log_det, -1) * mask

    def inverse(self, z, cond, mask, dropped):
        a, b = jnp.split(z, 2, -1)
        b, _ = splines.inverse_and_log_det(b, self._parameters(a, cond, mask, dropped), self.bound)
        return jnp.concatenate([a, b * mask[..., None]], -1)
