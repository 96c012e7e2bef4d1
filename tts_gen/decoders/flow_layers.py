"""Layers of a flow that need no condition (Glow, arXiv 1807.03039; Glow-TTS, arXiv 2005.11129).

Every layer has a pair `forward_and_log_det(y, mask)` (y towards z) and `inverse(z, mask)`; y, z are [B, L, C], masks
[B, L], log-determinants [B, L] per position, 0 where masked, at least float32.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tts_gen.layers import wide


class ActNorm(nn.Module):
    """z = exp(s) y + b per channel. s and b start so that the first batch has mean 0 and variance 1 (Glow)."""

    @nn.compact
    def parameters(self, y, mask):
        m = mask[..., None]
        total = jnp.maximum(jnp.sum(m), 1)

        def log_scale(_):
            mean = jnp.sum(y * m, (0, 1)) / total
            start = -0.5 * jnp.log(jnp.maximum(jnp.sum((y - mean) ** 2 * m, (0, 1)) / total, 1e-6))
            return jnp.where(jnp.any(m > 0), start, 0.0)

        s = self.param("log_scale", log_scale)
        b = self.param("bias", lambda _: -jnp.exp(s) * jnp.sum(y * m, (0, 1)) / total)
        return wide(s), wide(b)

    def forward_and_log_det(self, y, mask):
        s, b = self.parameters(y, mask)
        return (jnp.exp(s) * y + b) * mask[..., None], jnp.sum(s) * mask

    def inverse(self, z, mask):
        s, b = self.parameters(z, mask)
        return (z - b) * jnp.exp(-s) * mask[..., None]


class InvertibleConv(nn.Module):
    """1x1 convolution by one matrix W [n, n] on groups of n channels, half of each from either half of the channels
    (Glow-TTS)."""

    size: int
    rotated: bool = True
    """W starts as a random rotation (Glow), or else exchanges the halves"""

    def setup(self):
        def start(key):
            if not self.rotated:
                return jnp.eye(self.size)[::-1]
            w = nn.initializers.orthogonal()(key, (self.size, self.size))
            return w.at[:, 0].multiply(jnp.sign(jnp.linalg.det(w)))

        self.weight = wide(self.param("weight", start))

    def _mix(self, x, w):
        half = self.size // 2
        grouped = x.reshape(*x.shape[:2], 2, x.shape[-1] // self.size, half)
        # Where matrix products of float32 are rounded by default, z would not be that of the log-determinant.
        grouped = jnp.einsum("blhgk,hkij->bligj", grouped, w.T.reshape(2, half, 2, half), precision="highest")
        return grouped.reshape(x.shape)

    def forward_and_log_det(self, y, mask):
        log_det = jnp.linalg.slogdet(self.weight)[1] * (y.shape[-1] // self.size)
        return self._mix(y, self.weight), log_det * mask

    def inverse(self, z, mask):
        return self._mix(z, inverse(self.weight))


def inverse(w: jax.Array) -> jax.Array:
    """Of a matrix [n, n], by Gauss-Jordan elimination with partial pivoting: plain operations, where jnp.linalg.inv
    calls a library of each platform's own, which an exported model cannot bring along."""
    rows, row = jnp.concatenate([w, jnp.eye(len(w), dtype=w.dtype)], 1), jnp.arange(len(w))

    def eliminate(i, rows):
        pivot = jnp.argmax(jnp.where(row < i, -1, jnp.abs(rows[:, i])))
        rows = rows[jnp.where(row == i, pivot, jnp.where(row == pivot, i, row))]
        chosen = rows[i] / rows[i, i]
        return jnp.where((row == i)[:, None], chosen, rows - rows[:, i, None] * chosen)

    return jax.lax.fori_loop(0, len(w), eliminate, rows)[:, len(w) :]


class Flip(nn.Module):
    """The channels in reverse order: what passed one coupling unchanged is what the next one changes (VITS)."""

    def forward_and_log_det(self, y, mask):
        return y[..., ::-1], jnp.zeros_like(mask)

    def inverse(self, z, mask):
        return z[..., ::-1]
