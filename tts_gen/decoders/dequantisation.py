"""Variational dequantisation of whole numbers (Flow++, arXiv 1902.00275; VITS, arXiv 2106.06103, section 2.2.2).

    log p(d) >= E_q[ log p(d + u) - log q(u | d, c) ],   u in (0, 1)

Uniform noise, q = 1, leaves the model a density with steps; a q that is learnt may choose one that is easy to model.
"""

import flax.linen as nn
import jax.numpy as jnp

from tts_gen import draws
from tts_gen.decoders import splines
from tts_gen.decoders.dds import DDS

BINS, BOUND = 8, 1.0


class Dequantiser(nn.Module):
    """q(u | d, c): a monotone spline of uniform noise, its parameters from log d and c. Starts as U(0, 1)."""

    width: int
    layers: int
    kernel: int

    @nn.compact
    def __call__(self, d, cond, mask, rng):
        """Whole numbers d [B, L], at least 1, cond [B, L, D] -> noise u [B, L] in (0, 1) and log q(u | d, c) [B, L]."""
        net = DDS(self.width, self.layers, self.kernel, splines.parameters(BINS))
        params = net(jnp.log(d)[..., None], nn.Dense(self.width)(cond), mask, [1.0] * self.layers)
        uniform = draws.uniform(rng, d.shape)
        v, log_det = splines.forward_and_log_det(2 * uniform - 1, params, BOUND)
        return (v + 1) / 2, -log_det
