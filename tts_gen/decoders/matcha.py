"""Matcha-TTS's network: a 1-D U-Net of residual blocks and transformers (arXiv 2309.03199, section 2.3).

After shivammehta25/Matcha-TTS (MIT), matcha/models/components/decoder.py and transformer.py, whose attention is that of
huggingface/diffusers 0.25 (Apache-2.0). Here padding changes nothing at valid positions; `reference_masking` brings the
reference's own handling back.

Resampling needs no strided or transposed convolution, whose gradients are slow on CPU: positions are taken apart or
interleaved instead.
"""

import itertools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from tts_gen import draws
from tts_gen.layers import GroupNorm, masked, mish, recomputable, time_embedding, wide


class TimeMLP(nn.Module):
    """[B, D] -> [B, width]."""

    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.width, name="out")(nn.silu(nn.Dense(self.width, name="hidden")(x)))


class Block(nn.Module):
    """Convolution, group norm and mish: [B, L, D] -> [B, L, width], zero in padding."""

    width: int
    reference_masking: bool

    @nn.compact
    def __call__(self, x, mask):
        h = nn.Conv(self.width, (3,), name="conv")(masked(x, mask))
        counted = jnp.ones_like(mask) if self.reference_masking else mask
        return masked(mish(GroupNorm(name="norm")(h, counted[..., None])), mask)


class ResBlock(nn.Module):
    """Two blocks, the time's embedding added between them, and a projection of the input added to the end."""

    width: int
    reference_masking: bool

    @recomputable
    @nn.compact
    def __call__(self, x, emb, mask):
        h = Block(self.width, self.reference_masking, name="block1")(x, mask)
        h = h + nn.Dense(self.width, name="time")(mish(emb))[:, None]
        h = Block(self.width, self.reference_masking, name="block2")(h, mask)
        return h + nn.Dense(self.width, name="residual")(masked(x, mask))


class Attention(nn.Module):
    """Self-attention without positions: the convolutions around it know them."""

    heads: int
    head_width: int
    reference_masking: bool

    @nn.compact
    def __call__(self, x, mask):
        inner = self.heads * self.head_width
        qkv = nn.Dense(3 * inner, use_bias=False, name="qkv")(x)
        q, k, v = (p.reshape(*x.shape[:2], self.heads, self.head_width) for p in jnp.split(qkv, 3, -1))
        logits = jnp.einsum("blhd,bmhd->bhlm", q, k) * self.head_width**-0.5
        logits, valid = wide(logits), mask[:, None, None]
        # The reference passes its mask of zeros and ones where a bias of the scores is expected.
        logits = logits + valid if self.reference_masking else jnp.where(valid > 0, logits, -1e9)
        h = jnp.einsum("bhlm,bmhd->blhd", jax.nn.softmax(logits).astype(v.dtype), v)
        return nn.Dense(x.shape[-1], name="out")(h.reshape(*x.shape[:2], inner))


class Activation(nn.Module):
    """A linear layer and its nonlinearity: [B, L, D] -> [B, L, width]. The names are diffusers', and so are the
    meanings: geglu is gated, geglu-approximate is not."""

    width: int
    kind: str

    @nn.compact
    def __call__(self, x):
        h = nn.Dense(self.width * (2 if self.kind == "geglu" else 1), name="linear")(x)
        if self.kind == "snakebeta":
            alpha, beta = (self.param(name, nn.initializers.zeros, (self.width,)) for name in ("alpha", "beta"))
            return snakebeta(h, alpha, beta)
        if self.kind == "geglu":
            h, gate = jnp.split(h, 2, -1)
            return h * nn.gelu(gate, approximate=False)
        if self.kind == "geglu-approximate":
            return h * nn.sigmoid(1.702 * h)
        return nn.gelu(h, approximate=self.kind == "gelu-approximate")


def snakebeta(x: jax.Array, alpha: jax.Array, beta: jax.Array) -> jax.Array:
    """x + sin^2(e^alpha x) / e^beta: Snake (arXiv 2006.08195) with a magnitude of its own; alpha, beta per channel."""
    return x + jnp.sin(x * jnp.exp(alpha)) ** 2 / (jnp.exp(beta) + 1e-9)


class Transformer(nn.Module):
    """Pre-norm self-attention, then a feed-forward layer of width 4D: [B, L, D] -> [B, L, D]."""

    heads: int
    head_width: int
    activation: str
    reference_masking: bool

    @recomputable
    @nn.compact
    def __call__(self, x, mask, dropped):
        """`dropped`: two factors, of the attention's output [B, L, D] and of the hidden layer [B, L, 4D]."""
        norm = lambda name: nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, name=name)  # noqa: E731
        attention = Attention(self.heads, self.head_width, self.reference_masking, name="attention")
        x = x + attention(norm("norm1")(x), mask) * dropped[0]
        h = Activation(4 * x.shape[-1], self.activation, name="hidden")(norm("norm2")(x))
        return x + nn.Dense(x.shape[-1], name="out")(h * dropped[1])


class Level(nn.Module):
    """A residual block and transformers after it: [B, L, D] -> [B, L, width]."""

    width: int
    heads: int
    head_width: int
    blocks: int
    activation: str
    reference_masking: bool

    @nn.compact
    def __call__(self, x, emb, mask, dropped):
        """`dropped`: an iterator, from which each transformer takes two factors."""
        x = ResBlock(self.width, self.reference_masking, name="resnet")(x, emb, mask)
        for i in range(self.blocks):
            block = Transformer(
                self.heads, self.head_width, self.activation, self.reference_masking, name=f"transformer{i}"
            )
            x = block(x, mask, (next(dropped), next(dropped)))
        return x


class Downsample(nn.Module):
    """Convolution of width 3 and stride 2, as a matrix product: [B, L, D] -> [B, L/2, D]."""

    @nn.compact
    def __call__(self, x):
        batch, length, width = x.shape
        pairs = x.reshape(batch, length // 2, 2 * width)
        before = jnp.pad(pairs[:, :-1, width:], ((0, 0), (1, 0), (0, 0)))
        return nn.Dense(width, name="conv")(jnp.concatenate([before, pairs], -1))


class Upsample(nn.Module):
    """Transposed convolution of width 4 and stride 2 in sub-pixel form: [B, L, D] -> [B, 2L, D].

    Even positions see an input and the one before it, odd ones an input and the one after it.
    """

    @nn.compact
    def __call__(self, x):
        batch, length, width = x.shape
        even = nn.Conv(width, (2,), padding=[(1, 0)], name="even")(x)
        odd = nn.Conv(width, (2,), padding=[(0, 1)], name="odd")(x)
        return jnp.stack([even, odd], 2).reshape(batch, 2 * length, width)


class MatchaUNet(nn.Module):
    """`widths`, multiples of 8, from full resolution down; each level but the first halves L. Starts at zero.

    The reference's stages are the outputs of the modules: flax's `capture_intermediates=True` shows them.
    """

    channels: int
    widths: tuple[int, ...]
    heads: int
    head_width: int
    blocks: int
    middle_blocks: int
    activation: str
    dropout: float
    reference_masking: bool

    def _dropped(self, rng, batch: int, lengths_and_widths: list[tuple[int, int]], dtype):
        """Two factors for each transformer. Drawn at once and then split: draws are dear to compile."""
        each = [s for length, w in lengths_and_widths for s in [(length, w), (length, 4 * w)] * self.blocks]
        (factors,) = draws.dropout_masks(rng, self.dropout, 1, (batch, sum(map(math.prod, each))), dtype)
        if isinstance(factors, float):
            return itertools.repeat(factors)
        ends = list(itertools.accumulate(map(math.prod, each)))
        pieces = jnp.split(factors, ends[:-1], 1)
        return iter([piece.reshape(batch, *shape) for piece, shape in zip(pieces, each, strict=True)])

    @nn.compact
    def __call__(self, x, cond, t, mask, rng):
        depth = len(self.widths) - 1
        down = list(self.widths)
        middle = [down[-1]] * self.middle_blocks
        up = [*down[-2::-1], down[0]]
        halved = [*range(depth + 1), *[depth] * self.middle_blocks, *range(depth, -1, -1)]
        shapes = [(x.shape[1] // 2**n, w) for n, w in zip(halved, down + middle + up, strict=True)]
        dropped = self._dropped(rng, x.shape[0], shapes, cond.dtype)

        def level(name, h, width, mask):
            shape = (width, self.heads, self.head_width, self.blocks, self.activation, self.reference_masking)
            return Level(*shape, name=name)(h, emb, mask, dropped)

        h = jnp.concatenate([x.astype(cond.dtype), cond], -1)
        emb = TimeMLP(4 * down[0], name="time")(time_embedding(t, h.shape[-1]).astype(h.dtype))
        masks, skips = [mask[:, :: 2**i] for i in range(depth + 1)], []
        for i, width in enumerate(down):
            h = level(f"down{i}", h, width, masks[i])
            skips.append(h)
            resample = Downsample(name=f"down{i}_out") if i < depth else nn.Conv(width, (3,), name=f"down{i}_out")
            h = resample(masked(h, masks[i]))
        for i, width in enumerate(middle):
            h = level(f"middle{i}", h, width, masks[-1])
        for i, width in enumerate(up):
            valid = masks[depth - i]
            h = level(f"up{i}", jnp.concatenate([h, skips.pop()], -1), width, valid)
            resample = Upsample(name=f"up{i}_out") if i < depth else nn.Conv(width, (3,), name=f"up{i}_out")
            h = resample(masked(h, valid))
        h = Block(down[0], self.reference_masking, name="final")(h, mask)
        return masked(wide(nn.Dense(self.channels, kernel_init=nn.initializers.zeros, name="out")(h)), mask)
