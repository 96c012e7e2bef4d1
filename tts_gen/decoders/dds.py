"""Dilated depth-separable convolutions of VITS (arXiv 2106.06103; jaywalnut310/vits `modules.DDSConv`, MIT)."""

import flax.linen as nn

from tts_gen.layers import DepthwiseConv, masked


class DilatedSeparable(nn.Module):
    """x + gelu(norm(W gelu(norm(depthwise(x))))) in each layer, with dilation `kernel ** i` in layer i:
    [B, L, D] -> [B, L, D], 0 where masked."""

    kernel: int
    layers: int

    @nn.compact
    def __call__(self, x, mask, dropped):
        """`dropped`: a factor [B, L, D] for each layer."""
        for i in range(self.layers):
            h = DepthwiseConv(self.kernel, self.kernel**i)(masked(x, mask))
            h = nn.gelu(nn.LayerNorm(epsilon=1e-5)(h), approximate=False)
            h = nn.LayerNorm(epsilon=1e-5)(nn.Dense(x.shape[-1])(h))
            x = x + nn.gelu(h, approximate=False) * dropped[i]
        return masked(x, mask)


class DDS(nn.Module):
    """Conditioner of a coupling (`modules.ConvFlow`): x [B, L, Cin], cond [B, L, width] -> [B, L, out], in cond's
    dtype. Starts at zero."""

    width: int
    layers: int
    kernel: int
    out: int

    @nn.compact
    def __call__(self, x, cond, mask, dropped):
        """`dropped`: a factor [B, L, width] for each layer."""
        h = nn.Dense(self.width)(x.astype(cond.dtype)) + cond
        h = DilatedSeparable(self.kernel, self.layers)(h, mask, dropped)
        return nn.Dense(self.out, kernel_init=nn.initializers.zeros)(h)
