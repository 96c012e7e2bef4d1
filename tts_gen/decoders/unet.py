"""1-D U-Net over positions, the network of diffusion: [B, L, C] and cond [B, L, D] and time [B] -> [B, L, C].

Down- and upsampling are reshapes with a Dense layer (pixel shuffle): transposed convolutions train ten times slower on
CPU.
Normalisation is over channels only, so padding cannot change a statistic.
"""

import itertools

import flax.linen as nn
import jax.numpy as jnp

from tts_gen import draws
from tts_gen.layers import TransformerBlock, masked, recomputable, time_embedding, wide


class ResBlock(nn.Module):
    """Two convolutions, the second scaled and shifted by the time's embedding; starts as the identity or a
    projection."""

    width: int
    kernel: int

    @recomputable
    @nn.compact
    def __call__(self, x, modulation, mask, dropped):
        h = nn.Conv(self.width, (self.kernel,))(masked(nn.silu(nn.LayerNorm()(x)), mask))
        scale, shift = jnp.split(modulation[:, None], 2, -1)
        h = masked(nn.silu(nn.LayerNorm()(h) * (1 + scale) + shift), mask)
        h = nn.Conv(self.width, (self.kernel,), kernel_init=nn.initializers.zeros)(h * dropped)
        if x.shape[-1] != self.width:
            x = nn.Dense(self.width)(x)
        return x + h


class UNet(nn.Module):
    """`widths` from full resolution down; each level halves L. Self-attention stands in the middle."""

    channels: int
    widths: tuple[int, ...]
    kernel: int
    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x, cond, t, mask, rng):
        bottom, upper = self.widths[-1], self.widths[:-1]
        blocks = (*upper, bottom, bottom, *reversed(upper))
        emb = nn.silu(nn.Dense(2 * self.widths[0])(time_embedding(t, self.widths[0]).astype(cond.dtype)))
        ends = list(itertools.accumulate(2 * w for w in blocks))
        modulations = iter(jnp.split(nn.Dense(ends[-1])(emb), ends[:-1], -1))
        middle = (x.shape[0], x.shape[1] // 2 ** len(upper), bottom)
        dropped = draws.dropout_masks(rng, self.dropout, 4, middle, cond.dtype)

        def block(h, width, mask, dropped=1.0):
            return ResBlock(width, self.kernel)(h, next(modulations), mask, dropped)

        h = nn.Dense(self.widths[0])(jnp.concatenate([x.astype(cond.dtype), cond], -1))
        masks, skips = [mask], []
        for width in upper:
            h = block(h, width, masks[-1])
            skips.append(h)
            h = nn.Dense(2 * width)(h.reshape(h.shape[0], h.shape[1] // 2, 2 * h.shape[2]))
            masks.append(masks[-1][:, ::2])
        h = block(h, bottom, masks[-1], dropped[0])
        h = TransformerBlock(self.heads)(h, masks[-1], dropped[1:3])
        h = block(h, bottom, masks[-1], dropped[3])
        for width, skip, level_mask in reversed(list(zip(upper, skips, masks[:-1], strict=True))):
            h = nn.Dense(2 * width)(h).reshape(h.shape[0], 2 * h.shape[1], width)
            h = block(jnp.concatenate([h, skip], -1), width, level_mask)
        # Layer norms hide how large x is, and on that depends how much of it is noise: it has a path of its own.
        gain = nn.Dense(self.channels, kernel_init=nn.initializers.zeros)(emb)
        out = nn.Dense(self.channels, kernel_init=nn.initializers.zeros)(nn.LayerNorm()(h))
        return wide(out) + wide(gain)[:, None] * x
