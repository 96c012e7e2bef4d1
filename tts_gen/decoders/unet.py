"""1-D U-Net over positions, the network of diffusion: [B, L, C] and cond [B, L, D] and time [B] -> [B, L, C].

Down- and upsampling are reshapes with a Dense layer (pixel shuffle): transposed convolutions train ten times slower on CPU.
Normalisation is over channels only, so padding cannot change a statistic.
"""

import flax.linen as nn
import jax.numpy as jnp

from tts_gen.layers import TransformerBlock, dropout, time_embedding


class ResBlock(nn.Module):
    """Two convolutions, the second modulated by the time embedding; starts as the identity (or its projection)."""

    width: int
    kernel: int
    dropout: float

    @nn.compact
    def __call__(self, x, emb, mask, rng):
        m = mask[..., None]
        h = nn.Conv(self.width, (self.kernel,))(nn.silu(nn.LayerNorm()(x)) * m)
        scale, shift = jnp.split(nn.Dense(2 * self.width)(emb)[:, None], 2, -1)
        h = nn.silu(nn.LayerNorm()(h) * (1 + scale) + shift) * m
        h = nn.Conv(self.width, (self.kernel,), kernel_init=nn.initializers.zeros)(h)
        if x.shape[-1] != self.width:
            x = nn.Dense(self.width)(x)
        return x + dropout(h, self.dropout, rng)


class UNet(nn.Module):
    """`widths` from full resolution down; each level halves L. Self-attention stands in the middle."""

    channels: int
    widths: tuple[int, ...]
    kernel: int
    heads: int
    dropout: float

    @nn.compact
    def __call__(self, x, cond, t, mask, rng):
        block = lambda width: ResBlock(width, self.kernel, self.dropout)  # noqa: E731
        emb = nn.silu(nn.Dense(2 * self.widths[0])(time_embedding(t, self.widths[0])))
        h = nn.Dense(self.widths[0])(jnp.concatenate([x, cond], -1))
        masks, skips = [mask], []
        for width in self.widths[:-1]:
            h = block(width)(h, emb, masks[-1], rng)
            skips.append(h)
            h = nn.Dense(2 * width)(h.reshape(h.shape[0], h.shape[1] // 2, 2 * h.shape[2]))
            masks.append(masks[-1][:, ::2])
        h = block(self.widths[-1])(h, emb, masks[-1], rng)
        h = TransformerBlock(self.heads, self.dropout)(h, masks[-1], rng)
        h = block(self.widths[-1])(h, emb, masks[-1], rng)
        for width, skip, level_mask in reversed(list(zip(self.widths[:-1], skips, masks[:-1], strict=True))):
            h = nn.Dense(2 * width)(h).reshape(h.shape[0], 2 * h.shape[1], width)
            h = block(width)(jnp.concatenate([h, skip], -1), emb, level_mask, rng)
        return nn.Dense(self.channels, kernel_init=nn.initializers.zeros)(nn.LayerNorm()(h))
