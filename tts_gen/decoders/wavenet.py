"""WaveNet conditioner of the flow's couplings (Glow-TTS, arXiv 2005.11129, `WN`), conditioned at every position."""

import flax.linen as nn
import jax.numpy as jnp


class WaveNet(nn.Module):
    """Gated convolutions with residual and skip paths: x [B, L, Cin], cond [B, L, D] -> [B, L, out]. Starts at zero."""

    width: int
    layers: int
    kernel: int
    out: int

    @nn.compact
    def __call__(self, x, cond, mask, dropped):
        """`dropped`: a factor [B, L, width] for each layer."""
        m = mask[..., None]
        h = nn.Dense(self.width)(x) * m
        skips = 0.0
        gates = jnp.split(nn.Dense(2 * self.width * self.layers)(cond), self.layers, -1)
        for i in range(self.layers):
            a, b = jnp.split(nn.Conv(2 * self.width, (self.kernel,))(h) + gates[i], 2, -1)
            z = jnp.tanh(a) * nn.sigmoid(b) * dropped[i]
            last = i == self.layers - 1
            z = nn.Dense(self.width if last else 2 * self.width)(z)
            skips = skips + z[..., -self.width :]
            if not last:
                h = (h + z[..., : self.width]) * m
        # Zero at the start, so that every coupling, and with ActNorm the whole flow, starts as a linear map.
        return nn.Dense(self.out, kernel_init=nn.initializers.zeros)(skips * m)
