"""Normalizing flow: exact likelihood through an invertible map y <-> z (Glow, arXiv 1807.03039; Glow-TTS, arXiv
2005.11129).

    log p(y | c) = log N(z; mu(c), sigma(c)) + sum_k log |det J_k|,   z = g^-1(y; c)
    sample: y = g(mu + temperature * sigma * eps; c)

Every layer has a pair `forward_and_log_det` (y towards z) and `inverse`; log-determinants are per position, float32.
"""

from dataclasses import dataclass

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from tts_gen import config
from tts_gen.config import UserError
from tts_gen.decoders.wavenet import WaveNet
from tts_gen.layers import dropout_masks


@dataclass(frozen=True)
class Flow(config.Decoder):
    """Steps of ActNorm, invertible 1x1 convolution and affine coupling on `squeeze` neighbouring positions at a
    time."""

    steps: int = 6
    squeeze: int = 2
    groups_of: int = 4
    """channels that one 1x1 convolution mixes (Glow-TTS: 4)"""
    width: int = 128
    """of the couplings' WaveNet"""
    layers: int = 3
    kernel: int = 3
    dropout: float = 0.05
    conditional_prior: bool = True
    """Gaussian prior predicted from cond, instead of the standard normal"""

    @property
    def label(self) -> str:
        return "flow"

    @property
    def multiple(self) -> int:
        return self.squeeze

    def build(self, channels: int) -> "FlowModule":
        """Raises UserError when the squeezed channels do not divide into even groups."""
        squeezed = channels * self.squeeze
        size = min(self.groups_of, squeezed)
        if size % 2 or squeezed % size:
            raise UserError(
                f"{channels} channels times decoder.squeeze {self.squeeze} do not divide into decoder.groups_of "
                f"{self.groups_of} channels, an even number; change one of them"
            )
        return FlowModule(self, channels)


class ActNorm(nn.Module):
    """z = exp(s) y + b per channel, [B, L, C]. s and b start so that the first batch has mean 0 and variance 1
    (Glow)."""

    @nn.compact
    def parameters(self, y, mask):
        m = mask[..., None]
        total = jnp.maximum(jnp.sum(m), 1)

        def log_scale(_):
            mean = jnp.sum(y * m, (0, 1)) / total
            return -0.5 * jnp.log(jnp.maximum(jnp.sum((y - mean) ** 2 * m, (0, 1)) / total, 1e-6))

        s = self.param("log_scale", log_scale)
        b = self.param("bias", lambda _: -jnp.exp(s) * jnp.sum(y * m, (0, 1)) / total)
        return s, b

    def forward_and_log_det(self, y, mask):
        s, b = self.parameters(y, mask)
        return (jnp.exp(s) * y + b) * mask[..., None], jnp.sum(s) * mask

    def inverse(self, z, mask):
        s, b = self.parameters(z, mask)
        return (z - b) * jnp.exp(-s) * mask[..., None]


class InvertibleConv(nn.Module):
    """1x1 convolution by one matrix W [n, n] on groups of n channels, half of each from either half of the channels
    (Glow-TTS)."""

    size: int

    def setup(self):
        def orthogonal(key):
            w = nn.initializers.orthogonal()(key, (self.size, self.size))
            return w.at[:, 0].multiply(jnp.sign(jnp.linalg.det(w)))

        self.weight = self.param("weight", orthogonal)

    def _mix(self, x, w):
        half = self.size // 2
        grouped = x.reshape(*x.shape[:2], 2, x.shape[-1] // self.size, half)
        grouped = jnp.einsum("blhgk,hkij->bligj", grouped, w.T.reshape(2, half, 2, half))
        return grouped.reshape(x.shape)

    def forward_and_log_det(self, y, mask):
        log_det = jnp.linalg.slogdet(self.weight)[1] * (y.shape[-1] // self.size)
        return self._mix(y, self.weight), log_det * mask

    def inverse(self, z, mask):
        return self._mix(z, jnp.linalg.inv(self.weight))


class AffineCoupling(nn.Module):
    """z_a = y_a;  z_b = m(y_a, c) + exp(s(y_a, c)) y_b."""

    config: Flow
    channels: int

    def setup(self):
        c = self.config
        self.conditioner = WaveNet(c.width, c.layers, c.kernel, self.channels)

    def _shift_and_log_scale(self, a, cond, mask, dropped):
        shift, log_scale = jnp.split(self.conditioner(a, cond, mask, dropped), 2, -1)
        return shift, log_scale.astype(jnp.float32)

    def forward_and_log_det(self, y, cond, mask, dropped):
        a, b = jnp.split(y, 2, -1)
        shift, log_scale = self._shift_and_log_scale(a, cond, mask, dropped)
        z = jnp.concatenate([a, (shift + jnp.exp(log_scale) * b) * mask[..., None]], -1)
        return z, jnp.sum(log_scale, -1) * mask

    def inverse(self, z, cond, mask, dropped):
        a, b = jnp.split(z, 2, -1)
        shift, log_scale = self._shift_and_log_scale(a, cond, mask, dropped)
        return jnp.concatenate([a, (b - shift) * jnp.exp(-log_scale) * mask[..., None]], -1)


class FlowStep(nn.Module):
    """ActNorm, invertible 1x1 convolution, coupling."""

    config: Flow
    channels: int

    def setup(self):
        self.norm = ActNorm()
        self.conv = InvertibleConv(min(self.config.groups_of, self.channels))
        self.coupling = AffineCoupling(self.config, self.channels)

    def forward_and_log_det(self, y, cond, mask, dropped):
        z, log_det_norm = self.norm.forward_and_log_det(y, mask)
        z, log_det_conv = self.conv.forward_and_log_det(z, mask)
        z, log_det_coupling = self.coupling.forward_and_log_det(z, cond, mask, dropped)
        return z, log_det_norm + log_det_conv + log_det_coupling

    def inverse(self, z, cond, mask, dropped):
        z = self.coupling.inverse(z, cond, mask, dropped)
        return self.norm.inverse(self.conv.inverse(z, mask), mask)


class FlowModule(nn.Module):
    config: Flow
    channels: int

    def setup(self):
        c = self.config
        channels = self.channels * c.squeeze
        self.project = nn.Dense(c.width)
        self.prior = nn.Dense(2 * channels, kernel_init=nn.initializers.zeros) if c.conditional_prior else None

    @property
    def _step(self):
        """Not a submodule: a pure function of the parameters it is given."""
        return FlowStep(self.config, self.channels * self.config.squeeze, parent=None)

    def _squeeze(self, x):
        """[B, L, C] -> [B, L/s, s C]; lengths are multiples of s."""
        s = self.config.squeeze
        return x.reshape(x.shape[0], x.shape[1] // s, s * x.shape[2])

    def _condition(self, cond, mask):
        cond, mask = self._squeeze(cond), mask[:, :: self.config.squeeze]
        h = nn.gelu(self.project(cond))
        if self.prior is None:
            return h, mask, 0.0, 0.0
        mean, log_std = jnp.split(self.prior(h), 2, -1)
        return h, mask, mean, log_std

    @nn.compact
    def _steps(self, *example):
        """Parameters of each step. They are stored stacked, [steps, ...]: one leaf to initialise instead of many."""
        forward = "forward_and_log_det"

        def init(rng):
            def one(z, key):
                params = self._step.init(key, z, *example[1:], method=forward)["params"]
                return self._step.apply({"params": params}, z, *example[1:], method=forward)[0], params

            return jax.lax.scan(one, example[0], jax.random.split(rng, self.config.steps))[1]

        stacked = self.param("steps", init)
        pieces = jax.tree.map(lambda x: jax.lax.split(x, [1] * x.shape[0]), stacked)
        is_pieces = lambda x: isinstance(x, (list, tuple))  # noqa: E731
        return [
            {"params": jax.tree.map(lambda p: p[i][0], pieces, is_leaf=is_pieces)}  # noqa: B023
            for i in range(self.config.steps)
        ]

    def _log_density(self, y, cond, mask, rng):
        """Per squeezed position, [B, L/s]."""
        c = self.config
        h, mask, mean, log_std = self._condition(cond, mask)
        z, total = self._squeeze(y) * mask[..., None], 0.0
        dropped = dropout_masks(rng, c.dropout, c.steps * c.layers, h.shape)
        for i, params in enumerate(self._steps(z, h, mask, dropped[: c.layers])):
            layers = dropped[i * c.layers : (i + 1) * c.layers]
            z, log_det = self._step.apply(params, z, h, mask, layers, method="forward_and_log_det")
            total += log_det
        return total + jnp.sum(norm.logpdf(z, mean, jnp.exp(log_std)), -1) * mask

    def loss(self, y, cond, mask, rng, train):
        nll = -self._log_density(y, cond, mask, rng if train else None)
        return jnp.repeat(nll / (self.channels * self.config.squeeze), self.config.squeeze, axis=1)

    def log_prob(self, y, cond, mask, rng):
        value = jnp.sum(self._log_density(y, cond, mask, None), 1)
        return value, jnp.zeros_like(value)

    def sample(self, cond, mask, rng, temperature):
        h, small_mask, mean, log_std = self._condition(cond, mask)
        shape = (*small_mask.shape, self.channels * self.config.squeeze)
        z = (mean + temperature * jnp.exp(log_std) * jax.random.normal(rng, shape)) * small_mask[..., None]
        dropped = [1.0] * self.config.layers
        for params in reversed(self._steps(z, h, small_mask, dropped)):
            z = self._step.apply(params, z, h, small_mask, dropped, method="inverse")
        return z.reshape(*mask.shape, self.channels)
