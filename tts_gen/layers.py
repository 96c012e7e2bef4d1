"""Flax building blocks shared by the encoder and all decoder families.

Shapes: B batch, L positions (phonemes or frames), D width. A mask is float32 [B, L], 1 at valid positions. Every block
that mixes
positions zeroes the invalid ones first, so what stands in padding never reaches a valid position.

Networks compute in the dtype of their parameters: what comes from outside is cast to it where it enters. Statistics of
norms and scores of attention are float32 at least.
"""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype


def length_mask(length: jax.Array, positions: int) -> jax.Array:
    """[B] lengths -> [B, positions] float32 mask."""
    return (jnp.arange(positions) < length[:, None]).astype(jnp.float32)


def masked(x: jax.Array, mask: jax.Array) -> jax.Array:
    """[B, L, D], 0 where the mask [B, L] is. In x's dtype: the mask's own would raise all that is computed from it."""
    return x * mask[..., None].astype(x.dtype)


def wide(x: jax.Array) -> jax.Array:
    """At least float32: for sums of many terms, and for data, which need more digits than networks do."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


_recomputing = ContextVar("recomputing", default=False)


@contextmanager
def recomputing(on: bool) -> Iterator[None]:
    """What is traced within keeps of every `recomputable` its arguments alone for the backward pass, if `on`."""
    token = _recomputing.set(on)
    try:
        yield
    finally:
        _recomputing.reset(token)


def recomputable(method: Callable) -> Callable:
    """A module's method of arrays (or numbers) that backward passes may compute again: see `recomputing`. Parameters
    have the same names either way, which `nn.remat` of a class would change."""
    again = nn.remat(method)

    @functools.wraps(method)
    def call(self, *args):
        return (again if _recomputing.get() else method)(self, *args)

    return call


class ConvBlock(nn.Module):
    """x + dropped W gelu(conv(layer_norm(x))): [B, L, D] -> [B, L, D]. `dropped`: a factor. Starts as the identity."""

    kernel: int

    @recomputable
    @nn.compact
    def __call__(self, x, mask, dropped):
        h = masked(nn.LayerNorm()(x), mask)
        h = nn.gelu(nn.Conv(x.shape[-1], (self.kernel,))(h))
        h = nn.Dense(x.shape[-1], kernel_init=nn.initializers.zeros)(h)
        return x + h * dropped


class DepthwiseConv(nn.Module):
    """Each channel convolved by itself: [B, L, D] -> [B, L, D]. `kernel` is odd."""

    kernel: int
    dilation: int

    @nn.compact
    def __call__(self, x):
        weight = self.param("kernel", nn.initializers.lecun_normal(), (self.kernel, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
        reach = self.dilation * (self.kernel // 2)
        padded = jnp.pad(x, ((0, 0), (reach, reach), (0, 0)))
        # A few shifted products: grouped convolutions are far slower than these in XLA on CPU.
        taps = [padded[:, i * self.dilation :][:, : x.shape[1]] * weight[i] for i in range(self.kernel)]
        return sum(taps, bias)


def rotary(x: jax.Array) -> jax.Array:
    """Rotary position embedding (RoFormer, arXiv 2104.09864), half-split form: [B, L, H, D/H] -> same."""
    half = x.shape[-1] // 2
    frequency = 10000.0 ** (-jnp.arange(half) / half)
    angle = jnp.arange(x.shape[1])[:, None] * frequency
    sin, cos = jnp.sin(angle)[:, None], jnp.cos(angle)[:, None]
    a, b = x[..., :half], x[..., half:]
    return jnp.concatenate([a * cos - b * sin, a * sin + b * cos], -1).astype(x.dtype)


class TransformerBlock(nn.Module):
    """Pre-norm self-attention with rotary positions, then a gelu feed-forward of width 4D: [B, L, D] -> [B, L, D]."""

    heads: int

    @recomputable
    @nn.compact
    def __call__(self, x, mask, dropped):
        """`dropped`: two factors, of the attention's and the feed-forward's output."""
        width = x.shape[-1]
        h = nn.LayerNorm()(x)
        qkv = nn.Dense(3 * width)(h).reshape(*h.shape[:2], self.heads, 3 * width // self.heads)
        q, k, v = jnp.split(qkv, 3, -1)
        logits = jnp.einsum("blhd,bmhd->bhlm", rotary(q), rotary(k)) * (width // self.heads) ** -0.5
        logits = jnp.where(mask[:, None, None] > 0, wide(logits), -1e9)
        h = jnp.einsum("bhlm,bmhd->blhd", jax.nn.softmax(logits).astype(v.dtype), v).reshape(x.shape)
        x = x + nn.Dense(width)(h) * dropped[0]
        h = nn.Dense(4 * width)(nn.LayerNorm()(x))
        return x + nn.Dense(width)(nn.gelu(h)) * dropped[1]


@jax.custom_jvp
def mish(x: jax.Array) -> jax.Array:
    """x tanh(softplus(x)) (arXiv 1908.08681), with one exponential."""
    return x * _mish_gate(x)[0]


@mish.defjvp
def _mish_slope(primals, tangents):
    """In one pass, of which one array is kept; JAX's own rule keeps each step of the formula."""
    (x,), (dx,) = primals, tangents
    gate, e = _mish_gate(x)
    return mish(x), (gate + x * (1 - gate**2) * e / (1 + e)) * dx


def _mish_gate(x):
    """tanh(softplus(x)) and exp(x), held below exp(20), from where on the gate is 1."""
    e = jnp.exp(jnp.minimum(x, 20.0))
    n = e * (e + 2)
    return n / (n + 2), e


class GroupNorm(nn.Module):
    """Group normalisation (arXiv 1803.08494), [B, ..., D] -> same.

    Each row's groups of channels get mean 0 and variance 1 over the positions where `counted` [B, ..., 1] is 1; any of
    its axes may have size 1.
    """

    groups: int = 8

    @nn.compact
    def __call__(self, x, counted):
        width, axes = x.shape[-1], tuple(range(1, x.ndim - 1))
        size = width // self.groups
        scale = self.param("scale", nn.initializers.ones, (width,))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        x, scale, bias = promote_dtype(x, scale, bias)
        dtype, x = x.dtype, wide(x)
        copies = math.prod(x.shape[1:-1]) // math.prod(counted.shape[1:-1])
        total = jnp.maximum(jnp.sum(counted, (*axes, -1)), 1)[:, None] * copies * size

        def group_mean(x):
            """[B, ..., D] -> [B, D], alike in a group."""
            sums = jnp.sum(x * counted, axes)
            return jnp.repeat(jnp.sum(sums.reshape(-1, self.groups, size), -1) / total, size, 1)

        mean = group_mean(x)
        gain = scale * jax.lax.rsqrt(jnp.maximum(group_mean(x**2) - mean**2, 0) + 1e-5)
        gain, offset = (jnp.expand_dims(v, axes) for v in (gain, bias - mean * gain))
        return (x * gain + offset).astype(dtype)


def time_embedding(t: jax.Array, width: int, scale: float = 1000.0) -> jax.Array:
    """Sinusoids of scale * t, t in [0, 1] (Grad-TTS, arXiv 2105.06337): [B] -> [B, width]."""
    half = width // 2
    angle = scale * t[:, None] * 10000.0 ** (-jnp.arange(half) / (half - 1))
    return jnp.concatenate([jnp.sin(angle), jnp.cos(angle)], -1)
