"""Flax building blocks shared by the encoder and all decoder families.

Shapes: B batch, L positions (phonemes or frames), D width. A mask is float32 [B, L], 1 at valid positions. Every block that mixes
positions zeroes the invalid ones first, so what stands in padding never reaches a valid position.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp


def length_mask(length: jax.Array, positions: int) -> jax.Array:
    """[B] lengths -> [B, positions] float32 mask."""
    return (jnp.arange(positions) < length[:, None]).astype(jnp.float32)


def dropout(x: jax.Array, rate: float, rng: jax.Array | None) -> jax.Array:
    """Inverted dropout; `rng` None means evaluation."""
    if rng is None or rate == 0:
        return x
    return jnp.where(jax.random.bernoulli(rng, 1 - rate, x.shape), x / (1 - rate), 0)


def split(rng: jax.Array | None, n: int) -> list[jax.Array | None]:
    """`n` keys, or `n` times None in evaluation."""
    return [None] * n if rng is None else list(jax.random.split(rng, n))


class ConvBlock(nn.Module):
    """x + dropout(W gelu(conv(layer_norm(x)))): [B, L, D] -> [B, L, D]. Starts as the identity."""

    kernel: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, mask, rng):
        h = nn.LayerNorm()(x) * mask[..., None]
        h = nn.gelu(nn.Conv(x.shape[-1], (self.kernel,))(h))
        h = nn.Dense(x.shape[-1], kernel_init=nn.initializers.zeros)(h)
        return x + dropout(h, self.dropout, rng)


def rotary(x: jax.Array) -> jax.Array:
    """Rotary position embedding (RoFormer, arXiv 2104.09864), half-split form: [B, L, H, D/H] -> same."""
    half = x.shape[-1] // 2
    frequency = 10000.0 ** (-jnp.arange(half) / half)
    angle = jnp.arange(x.shape[1])[:, None] * frequency
    sin, cos = jnp.sin(angle)[:, None], jnp.cos(angle)[:, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention with rotary positions, then a gelu feed-forward of width 4D: [B, L, D] -> [B, L, D]."""

    heads: int
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x, mask, rng):
        width = x.shape[-1]
        keys = split(rng, 2)
        h = nn.LayerNorm()(x)
        qkv = nn.Dense(3 * width)(h).reshape(*h.shape[:2], self.heads, 3 * width // self.heads)
        q, k, v = jnp.split(qkv, 3, -1)
        logits = jnp.einsum("blhd,bmhd->bhlm", rotary(q), rotary(k)) * (width // self.heads) ** -0.5
        logits = jnp.where(mask[:, None, None] > 0, logits.astype(jnp.float32), -1e9)
        h = jnp.einsum("bhlm,bmhd->blhd", jax.nn.softmax(logits), v).reshape(x.shape)
        x = x + dropout(nn.Dense(width)(h), self.dropout, keys[0])
        h = nn.Dense(4 * width)(nn.LayerNorm()(x))
        return x + dropout(nn.Dense(width)(nn.gelu(h)), self.dropout, keys[1])


def time_embedding(t: jax.Array, width: int) -> jax.Array:
    """Sinusoids of 1000 t, t in [0, 1] (Grad-TTS, arXiv 2105.06337): [B] -> [B, width]."""
    half = width // 2
    angle = 1000.0 * t[:, None] * 10000.0 ** (-jnp.arange(half) / (half - 1))
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
