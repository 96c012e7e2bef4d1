"""WaveNet conditioner of the flow's couplings (Glow-TTS, arXiv 2005.11129, `WN`), conditioned at every position."""

import flax.linen as nn
import jax.numpy as jnp

from tts_gen.layers import masked


class WaveNet(nn.Module):
    """Gated convolutions with residual and skip paths: x [B, L, Cin], cond [B, L, D] -> [B, L, out], in cond's dtype.
    Starts at zero.

    Layer i has dilation `dilation ** i`. Where D = 0 there is no condition and no Dense for it: the parameters' names
    are then Dense_0 (input), Dense_1 ... (residual and skip), and not Dense_0, Dense_1 (condition), Dense_2 ...
    """

    width: int
    layers: int
    kernel: int
    dilation: int
    out: int

    @nn.compact
    def __call__(self, x, cond, mask, dropped):
        """`dropped`: a factor [B, L, width] for each layer."""
        h = masked(nn.Dense(self.width)(x.astype(cond.dtype)), mask)
        skips = 0.0
        gates = [0.0] * self.layers
        if cond.shape[-1]:
            gates = jnp.split(nn.Dense(2 * self.width * self.layers)(cond), self.layers, -1)
        for i in range(self.layers):
            # An image of height 1: where there is much to do, XLA's CPU backend is faster than with a sequence (a step
            # in Glow-TTS's shape, `scripts/bench_decoders.py`: 0.68 to 0.64 s).
            dilation = (1, self.dilation**i)
            convolved = nn.Conv(2 * self.width, (1, self.kernel), kernel_dilation=dilation)(h[:, None])[:, 0]
            a, b = jnp.split(convolved + gates[i], 2, -1)
            z = jnp.tanh(a) * nn.sigmoid(b) * dropped[i]
            last = i == self.layers - 1
            z = nn.Dense(self.width if last else 2 * self.width)(z)
            skips = skips + z[..., -self.width :]
            if not last:
                h = masked(h + z[..., : self.width], mask)
        # Zero at the start, so that every coupling, and with ActNorm the whole flow, starts as a linear map.
        return nn.Dense(self.out, kernel_init=nn.initializers.zeros)(masked(skips, mask))
