"""2-D U-Net over positions and channels as an image, Grad-TTS's network (Popov et al., arXiv 2105.06337;
model/diffusion.py of Grad-TTS in huawei-noah/Speech-Backbones, MIT licence).

Images are [B, L, F, width], F = C channels of the target (mel bins). Each level but the first halves L and F.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import promote_dtype

from tts_gen.config import UserError
from tts_gen.layers import GroupNorm, mish, recomputable, time_embedding, wide


class UNet2D(nn.Module):
    """x [B, L, C], cond [B, L, D], t [B], mask [B, L] -> [B, L, C]; L and C are multiples of 2 ** (levels - 1).

    `widths` from full resolution down (Grad-TTS: 64, 128, 256, with 4 heads of 32). Modules are named for what they
    do, so that a port can capture their outputs: down0_resnet1 is the first block of the first level.
    """

    channels: int
    widths: tuple[int, ...]
    heads: int
    head_width: int
    given: bool
    """cond holds images as they are, the prior's mean and then maybe a speaker's features, of C channels each; else one
    image is projected from it"""
    reference_masking: bool
    """True: statistics of the group norms and the attention's softmax count padded positions, as in the published code,
    so that results depend on how far a batch is padded"""
    time_scale: float = 1000.0
    """factor of t before its sinusoids (Grad-TTS's `pe_scale`)"""

    @nn.compact
    def __call__(self, x, cond, t, mask, rng):
        """`rng` is for dropout, which there is none of. Raises UserError for channels that do not halve, and for a
        given cond that is not whole images."""
        levels = len(self.widths)
        self._check(cond)
        emb = time_embedding(t, self.widths[0], self.time_scale).astype(cond.dtype)
        emb = nn.Dense(4 * self.widths[0], name="time_in")(emb)
        emb = mish(nn.Dense(self.widths[0], name="time_out")(mish(emb)))
        counted = [mask[:, :: 2**i, None, None] for i in range(levels)]
        masks = [m.astype(cond.dtype) for m in counted]
        if self.reference_masking:
            counted = [jnp.ones_like(m) for m in counted]

        def level(h, name, width, i):
            for block in ("resnet1", "resnet2"):
                h = ResnetBlock(width, name=f"{name}_{block}")(h, emb, masks[i], counted[i])
            return LinearAttention(self.heads, self.head_width, name=f"{name}_attention")(h, counted[i])

        h, skips = self._images(x, cond), []
        for i, width in enumerate(self.widths):
            h = level(h, f"down{i}", width, i)
            skips.append(h)
            if i < levels - 1:
                h = nn.Conv(width, (3, 3), (2, 2), ((1, 1), (1, 1)), name=f"down{i}_out")(h * masks[i])
        bottom = self.widths[-1]
        h = ResnetBlock(bottom, name="mid_resnet1")(h, emb, masks[-1], counted[-1])
        h = LinearAttention(self.heads, self.head_width, name="mid_attention")(h, counted[-1])
        h = ResnetBlock(bottom, name="mid_resnet2")(h, emb, masks[-1], counted[-1])
        for n, i in enumerate(reversed(range(1, levels))):
            h = level(jnp.concatenate([h, skips[i]], -1), f"up{n}", self.widths[i - 1], i)
            h = Upsample(name=f"up{n}_out")(h * masks[i])
        h = Block(self.widths[0], name="final_block")(h * masks[0], masks[0], counted[0])
        return wide(nn.Dense(1, kernel_init=nn.initializers.zeros, name="final")(h)[..., 0]) * mask[..., None]

    def _check(self, cond):
        halvings = 2 ** (len(self.widths) - 1)
        if self.channels % halvings:
            raise UserError(
                f"decoder.network unet2d with {len(self.widths)} widths halves the channels, {self.channels}, to "
                f"{halvings} parts; give fewer decoder.widths or another decoder.network"
            )
        if self.given and cond.shape[-1] not in (self.channels, 2 * self.channels):
            raise UserError(
                f"decoder.network unet2d: a given condition holds one or two images of {self.channels} channels, the "
                f"mean and a speaker's features; this one has {cond.shape[-1]} channels"
            )

    def _images(self, x, cond):
        """[B, L, F, 2 or 3]: condition, x, speaker, the order of the reference."""
        if not self.given:
            cond = nn.Dense(self.channels, name="project")(cond)
        first, *rest = jnp.split(cond, cond.shape[-1] // self.channels, -1)
        return jnp.stack([first, x.astype(first.dtype), *rest], -1)


class Upsample(nn.Module):
    """Transposed 4x4 convolution of stride 2 and padding 1, [B, L, F, width] -> [B, 2L, 2F, width], as four 2x2
    convolutions whose results are interleaved: no zeros are put between pixels, with which XLA's gradients are slow.

    Along one axis, out[2j] = x[j-1] w[3] + x[j] w[1] and out[2j+1] = x[j] w[2] + x[j+1] w[0]. So phase a is a
    convolution with K_a[i] = w[3 - a - 2i] which reaches one back (a = 0) or one on (a = 1).
    """

    @nn.compact
    def __call__(self, x):
        batch, length, bins, width = x.shape
        pad = ((1, 0), (0, 1))
        rows = []
        for a in (0, 1):
            row = [
                nn.Conv(width, (2, 2), padding=(pad[a], pad[b]), use_bias=False, name=f"phase{a}{b}")(x) for b in (0, 1)
            ]
            rows.append(jnp.stack(row, 3))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        return jnp.stack(rows, 2).reshape(batch, 2 * length, 2 * bins, width) + bias


class Block(nn.Module):
    """Convolution, group norm, Mish; `x` is zero at padding, and so is the result."""

    width: int

    @nn.compact
    def __call__(self, x, mask, counted):
        h = nn.Conv(self.width, (3, 3), name="conv")(x)
        return mish(GroupNorm(name="norm")(h, counted)) * mask


class ResnetBlock(nn.Module):
    """Two blocks with the time between them, beside a projection where the width changes; `emb` [B, E]."""

    width: int

    @recomputable
    @nn.compact
    def __call__(self, x, emb, mask, counted):
        x = x * mask
        h = Block(self.width, name="block1")(x, mask, counted)
        h = (h + nn.Dense(self.width, name="time")(emb)[:, None, None]) * mask
        h = Block(self.width, name="block2")(h, mask, counted)
        return h + (x if x.shape[-1] == self.width else nn.Dense(self.width, name="skip")(x))


class LinearAttention(nn.Module):
    """x + gate out(context^T q), context = softmax(k)^T v, the softmax over the counted positions (Shen et al., arXiv
    1812.01243; gate: ReZero, arXiv 2003.04887). Starts as the identity.

    All but the softmax is linear in x, so that queries and values are never made: with k' = softmax(k), the output is
    x (Wq [(k'^T x) Wv] Wo), a matrix [width, width] of each sample.
    """

    heads: int
    head_width: int

    @recomputable
    @nn.compact
    def __call__(self, x, counted):
        width, shape = x.shape[-1], (self.heads, self.head_width)
        into = nn.initializers.lecun_normal(in_axis=0, out_axis=(1, 2))
        query, key, value = (self.param(name, into, (width, *shape)) for name in ("query", "key", "value"))
        out = self.param("out", nn.initializers.lecun_normal(in_axis=(0, 1), out_axis=2), (*shape, width))
        bias = self.param("bias", nn.initializers.zeros, (width,))
        gate = self.param("gate", nn.initializers.zeros, (1,))
        x, query, key, value, out, bias, gate = promote_dtype(x, query, key, value, out, bias, gate)

        pixels = x.reshape(x.shape[0], -1, width)
        valid = jnp.broadcast_to(counted, (*x.shape[:3], 1)).reshape(*pixels.shape[:2], 1) > 0
        k = jnp.where(valid, wide(pixels @ key.reshape(width, -1)), -jnp.inf)
        top = jnp.max(jax.lax.stop_gradient(k), 1, keepdims=True)
        weights = jnp.exp(k - jnp.where(top > -jnp.inf, top, 0))
        total = jnp.sum(weights, 1)[..., None]
        mean = jnp.einsum("bnk,bnc->bkc", weights.astype(x.dtype), pixels) / jnp.where(total > 0, total, 1)
        context = jnp.einsum("bhdc,che->bhde", mean.astype(x.dtype).reshape(-1, *shape, width), value)
        # The sum with x is in the matrix too, which spares passes over the image.
        matrix = jnp.eye(width, dtype=x.dtype) + gate * jnp.einsum("chd,bhde,hef->bcf", query, context, out)
        return (jnp.einsum("bnc,bcf->bnf", pixels, matrix) + gate * bias).reshape(x.shape)
