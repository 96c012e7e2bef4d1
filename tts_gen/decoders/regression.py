"""Regression: one prediction, trained with an L1 or L2 loss. The baseline of the comparison.

L2's optimum is E[y | cond], so Var(prediction) = Var(y) - E[Var(y | cond)]: it must be under-dispersed. L1 gives the
median.
"""

import math
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax.numpy as jnp

from tts_gen import config
from tts_gen.layers import ConvBlock, dropout_masks


@dataclass(frozen=True)
class Regression(config.Decoder):
    """A stack of convolutions and one output."""

    loss: Literal["l1", "l2"] = "l2"
    width: int = 128
    layers: int = 4
    kernel: int = 5
    dropout: float = 0.1

    @property
    def label(self) -> str:
        return self.loss

    def build(self, channels: int) -> "RegressionModule":
        return RegressionModule(self, channels)


class RegressionModule(nn.Module):
    config: Regression
    channels: int

    @nn.compact
    def predict(self, cond, mask, rng):
        """[B, L, D] -> [B, L, C]."""
        c = self.config
        x = nn.Dense(c.width)(cond)
        for dropped in dropout_masks(rng, c.dropout, c.layers, x.shape):
            x = ConvBlock(c.kernel)(x, mask, dropped)
        return nn.Dense(self.channels, kernel_init=nn.initializers.zeros)(nn.LayerNorm()(x))

    def loss(self, y, cond, mask, rng, train):
        error = self.predict(cond, mask, rng if train else None) - y
        return jnp.mean(jnp.abs(error) if self.config.loss == "l1" else error**2 / 2, -1)

    def sample(self, cond, mask, rng, temperature):
        """The prediction; there is no noise that a temperature could scale."""
        return self.predict(cond, mask, None)

    def log_prob(self, y, cond, mask, rng):
        """Laplace (L1) or Gaussian (L2) density around the prediction, one scale per channel: `calibration/scale`, 1
        until fitted."""
        scale = self.get_variable("calibration", "scale", jnp.ones(self.channels))
        z = jnp.abs(self.predict(cond, mask, None) - y) / scale
        if self.config.loss == "l1":
            log_density = -z - jnp.log(2 * scale)
        else:
            log_density = -(z**2) / 2 - jnp.log(scale) - 0.5 * math.log(2 * math.pi)
        value = jnp.sum(log_density * mask[..., None], (1, 2))
        return value, jnp.zeros_like(value)
