"""Regression, the baseline of the comparison: a stack of convolutions and one output at every position.

l1, l2: one prediction. L2's optimum is E[y | cond], so Var(prediction) = Var(y) - E[Var(y | cond)]: it must be
under-dispersed. L1 gives the median.

gaussian, mdn: a density at every position, the honest probabilistic baselines; mixture density network (Bishop 1994,
NCRG/94/004):

    p(y_l | cond) = sum_k w_k N(y_l; mu_k, diag(s_k^2))         gaussian: one component
    sample: k = argmax_k(log w_k + temperature g_k), g Gumbel;  y = mu_k + temperature s_k eps

so at temperature 1 a sample is exact and at 0 it is the mean of the likeliest component. Positions are independent
given cond; within a component, so are channels.
"""

import math
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from tts_gen import config, draws
from tts_gen.config import UserError
from tts_gen.layers import ConvBlock, wide

LEAST_LOG_STD = math.log(1e-3)
"""of a predicted Gaussian, normalised units: where data repeat a value exactly, the likelihood has no maximum"""


_NO_GUIDANCE = "regression with decoder.loss {} takes no guidance; with gaussian it does"


@dataclass(frozen=True)
class Regression(config.Decoder):
    """A stack of convolutions and one output."""

    loss: Literal["l1", "l2", "gaussian", "mdn"] = "l2"
    width: int = 128
    layers: int = 4
    kernel: int = 5
    dropout: float = 0.1
    mixtures: int = 4
    """Gaussians at a position, mdn alone"""

    def __post_init__(self):
        names = ("width", "layers", "kernel", "mixtures")
        config.limit("decoder", self, **dict.fromkeys(names, config.COUNT), dropout=config.SHARE)

    @property
    def label(self) -> str:
        return self.loss

    @property
    def generative(self) -> bool:
        return self.loss in ("gaussian", "mdn")

    @property
    def exact(self) -> bool:
        return self.generative

    @property
    def guided(self) -> bool:
        """Components of two mixtures have nothing to do with each other."""
        return self.loss == "gaussian"

    def build(self, channels: int) -> nn.Module:
        return (DensityModule if self.generative else PredictionModule)(self, channels)


class Trunk(nn.Module):
    """Convolutions: [B, L, D] -> [B, L, width]."""

    config: Regression

    @nn.compact
    def __call__(self, cond, mask, rng):
        c = self.config
        x = nn.Dense(c.width)(cond)
        for dropped in draws.dropout_masks(rng, c.dropout, c.layers, x.shape, x.dtype):
            x = ConvBlock(c.kernel)(x, mask, dropped)
        return nn.LayerNorm()(x)


class PredictionModule(nn.Module):
    """L1 or L2."""

    config: Regression
    channels: int

    def setup(self):
        self.trunk = Trunk(self.config)
        self.output = nn.Dense(self.channels, kernel_init=nn.initializers.zeros)

    def predict(self, cond, mask, rng):
        """[B, L, D] -> [B, L, C], at least float32."""
        return wide(self.output(self.trunk(cond, mask, rng)))

    def loss(self, y, cond, mask, rng, train):
        error = self.predict(cond, mask, rng if train else None) - y
        return jnp.mean(jnp.abs(error) if self.config.loss == "l1" else error**2 / 2, -1)

    def sample(self, cond, mask, rng, temperature, null=None, guidance=0.0):
        """The prediction; there is no noise that a temperature could scale. Raises UserError for guidance."""
        if null is not None:
            raise UserError(_NO_GUIDANCE.format(self.config.loss))
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


class DensityModule(nn.Module):
    """A Gaussian, or a mixture of K."""

    config: Regression
    channels: int

    def setup(self):
        c = self.config
        self.components = 1 if c.loss == "gaussian" else c.mixtures
        size, zeros = self.components * self.channels, nn.initializers.zeros
        self.trunk = Trunk(c)
        # Components that start alike get the same gradients and stay alike.
        apart = zeros if self.components == 1 else nn.initializers.normal(1.0)
        self.mean = nn.Dense(size, kernel_init=zeros, bias_init=apart)
        self.log_std = nn.Dense(size, kernel_init=zeros)
        self.weight = nn.Dense(self.components, kernel_init=zeros) if self.components > 1 else None

    def predict(self, cond, mask, rng):
        """[B, L, D] -> log-weights [B, L, K], means and log-stds [B, L, K, C], at least float32.

        log-std = m + softplus(x - m) of the network's output x, m = LEAST_LOG_STD: x itself, but where it nears m.
        """
        x = wide(self.trunk(cond, mask, rng))
        shape = (*x.shape[:2], self.components, self.channels)
        log_weight = jnp.zeros(shape[:3], x.dtype) if self.weight is None else nn.log_softmax(self.weight(x))
        mean, log_std = self.mean(x).reshape(shape), self.log_std(x).reshape(shape)
        return log_weight, mean, LEAST_LOG_STD + nn.softplus(log_std - LEAST_LOG_STD)

    def _log_density(self, y, cond, mask, rng):
        """[B, L], nats."""
        log_weight, mean, log_std = self.predict(cond, mask, rng)
        of_component = jnp.sum(norm.logpdf(y[:, :, None], mean, jnp.exp(log_std)), -1)
        return jax.nn.logsumexp(log_weight + of_component, -1)

    def loss(self, y, cond, mask, rng, train):
        return -self._log_density(y, cond, mask, rng if train else None) / self.channels

    def log_prob(self, y, cond, mask, rng):
        value = jnp.sum(self._log_density(y, cond, mask, None) * mask, 1)
        return value, jnp.zeros_like(value)

    def sample(self, cond, mask, rng, temperature, null=None, guidance=0.0):
        """Raises UserError for guidance of a mixture."""
        if null is not None and self.components > 1:
            raise UserError(_NO_GUIDANCE.format(self.config.loss))
        log_weight, mean, log_std = self.predict(cond, mask, None)
        if null is not None:
            mean += guidance * (mean - self.predict(null, mask, None)[1])
        choice_key, noise_key = draws.split(rng, 2)
        gumbel = draws.gumbel(choice_key, log_weight.shape, log_weight.dtype)
        k = jnp.argmax(log_weight + temperature * gumbel, -1)[..., None, None]
        mean, log_std = (jnp.take_along_axis(x, k, 2)[:, :, 0] for x in (mean, log_std))
        return mean + temperature * jnp.exp(log_std) * draws.normal(noise_key, mean.shape, mean.dtype)
