"""Normalizing flow: exact likelihood through an invertible map y <-> z (Glow, arXiv 1807.03039; Glow-TTS, arXiv
2005.11129).

    log p(y | c) = log N(z; mu(c), sigma(c)) + sum_k log |det J_k|,   z = g^-1(y; c)
    sample: y = g(mu + temperature * sigma * eps; c)

Every layer has a pair `forward_and_log_det` (y towards z) and `inverse`; log-determinants are per position. They and
all that stands between y and z are float32 at least, whatever the couplings' networks compute in.
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
from tts_gen.decoders import splines
from tts_gen.decoders.couplings import AffineCoupling, SplineCoupling
from tts_gen.decoders.dds import DDS
from tts_gen.decoders.dequantisation import Dequantiser
from tts_gen.decoders.flow_layers import ActNorm, Flip, InvertibleConv
from tts_gen.decoders.guidance import Guided, guided
from tts_gen.decoders.wavenet import WaveNet
from tts_gen.layers import masked, recomputable, wide


@dataclass(frozen=True)
class Flow(config.Decoder):
    """Steps of ActNorm, mixing and coupling on `squeeze` neighbouring positions at a time.

    Glow-TTS's decoder is coupling "affine", mixing "conv", conditioner "wavenet", prior "given". The stochastic
    duration predictor of VITS, here of pitch and duration at once, is coupling "spline", mixing "flip", conditioner
    "dds", squeeze 1, steps 4, layers 3, prior "standard", dequantisation "variational".
    """

    steps: int = 6
    squeeze: int = 2
    mixing: Literal["conv", "flip"] = "conv"
    """before each coupling: an invertible 1x1 convolution, or the channels in reverse order"""
    groups_of: int = 4
    """channels that one 1x1 convolution mixes (Glow-TTS: 4); where they do not divide into such even groups, the next
    larger number into which they do"""
    coupling: Literal["affine", "spline"] = "affine"
    bins: int = 10
    """of a spline"""
    bound: float = 5.0
    """a spline is the identity beyond it; ActNorm has made the standard deviation about 1"""
    conditioner: Literal["wavenet", "dds"] = "wavenet"
    """network of the couplings; dds: dilated depth-separable convolutions (VITS)"""
    width: int = 128
    """of the couplings' network"""
    layers: int = 3
    kernel: int = 3
    dilation: int = 1
    """layer i of the WaveNet has dilation ** i; dds always has kernel ** i"""
    sigmoid_scale: bool = False
    """affine couplings never stretch towards z: log-scale log(1e-6 + sigmoid(s + 2)), as an option of Glow-TTS"""
    dropout: float = 0.05
    prior: Literal["conditional", "standard", "given"] = "conditional"
    """Gaussian that z has: predicted from cond, the standard normal, or (joint models) what cond [B, L, 2C + D'] holds:
    mean [C], log standard deviation [C] and what conditions the couplings [D'], not projected, maybe nothing"""
    dequantisation: Literal["uniform", "variational"] = "uniform"
    """of durations in the prosody task: U(0, 1), or noise u ~ q(u | d, cond) that is learnt, by which loss and log_prob
    become bounds (`dequantisation.py`) in place of the exact values for uniform noise"""

    def __post_init__(self):
        names = ("steps", "squeeze", "width", "layers", "kernel", "dilation")
        config.limit("decoder", self, **dict.fromkeys(names, config.COUNT), groups_of=(2, math.inf))
        config.limit("decoder", self, dropout=config.SHARE, bins=(2, 100), bound=(0.1, math.inf))

    @property
    def label(self) -> str:
        return "flow"

    @property
    def exact(self) -> bool:
        return True

    @property
    def multiple(self) -> int:
        return self.squeeze

    def build(self, channels: int) -> "FlowModule":
        """Raises UserError for squeezed channels that have no halves, and settings that exclude each other."""
        squeezed = channels * self.squeeze
        if self.prior == "given" and self.conditioner == "dds":
            raise UserError(
                'decoder.prior "given" is for decoder.conditioner "wavenet": dds has no layer for its input'
            )
        if squeezed % 2:
            raise UserError(
                f"{channels} channels times decoder.squeeze {self.squeeze} are odd; couplings need two halves"
            )
        return FlowModule(self, channels)

    def group(self, squeezed: int) -> int:
        """Channels that one 1x1 convolution mixes, of so many."""
        possible = range(self.groups_of, squeezed)
        return next((n for n in possible if n % 2 == 0 and squeezed % n == 0), squeezed)


class FlowStep(nn.Module):
    """ActNorm, mixing (`conv`), coupling."""

    config: Flow
    channels: int

    def setup(self):
        c = self.config
        self.norm = ActNorm()
        # Splines shape one channel at a time: where the data's channels are modes apart, sums of them are harder.
        size, rotated = c.group(self.channels), c.coupling == "affine"
        self.conv = InvertibleConv(size, rotated) if c.mixing == "conv" else Flip()
        per_channel = splines.parameters(c.bins) if c.coupling == "spline" else 2
        out = self.channels // 2 * per_channel
        # parent=None: the coupling adopts its conditioner.
        if c.conditioner == "wavenet":
            conditioner = WaveNet(c.width, c.layers, c.kernel, c.dilation, out, parent=None)
        else:
            conditioner = DDS(c.width, c.layers, c.kernel, out, parent=None)
        if c.coupling == "spline":
            self.coupling = SplineCoupling(conditioner, c.bound)
        else:
            self.coupling = AffineCoupling(conditioner, c.sigmoid_scale)

    @recomputable
    def forward_and_log_det(self, y, cond, mask, dropped):
        z, log_det_norm = self.norm.forward_and_log_det(y, mask)
        z, log_det_conv = self.conv.forward_and_log_det(z, mask)
        z, log_det_coupling = self.coupling.forward_and_log_det(z, cond, mask, dropped)
        return z, log_det_norm + log_det_conv + log_det_coupling

    def inverse(self, z, cond, mask, dropped):
        z = self.coupling.inverse(z, cond, mask, dropped)
        return self.norm.inverse(self.conv.inverse(z, mask), mask)


class FlowModule(nn.Module):
    """Besides the protocol's methods, the map itself: `forward_and_log_det`, `inverse` and `sample_from`. A group of
    `squeeze` positions counts where all of it is valid, so a last odd position is left out.

    `dequantise(d, cond, mask, rng) -> u, log q`, [B, L] each, or None for uniform noise.
    """

    config: Flow
    channels: int

    def setup(self):
        c = self.config
        zeros = nn.initializers.zeros
        self.project = nn.Dense(c.width)
        self.prior = nn.Dense(2 * self.channels * c.squeeze, kernel_init=zeros) if c.prior == "conditional" else None
        variational = c.dequantisation == "variational"
        self.dequantise = Dequantiser(c.width, c.layers, c.kernel) if variational else None

    @property
    def _step(self):
        """Not a submodule: a pure function of the parameters it is given."""
        return FlowStep(self.config, self.channels * self.config.squeeze, parent=None)

    def _squeeze(self, x):
        """[B, L, C] -> [B, L/s, s C]; L is a multiple of s."""
        s = self.config.squeeze
        return x.reshape(x.shape[0], x.shape[1] // s, s * x.shape[2])

    def _condition(self, cond, mask):
        """What conditions the couplings [B, L/s, D'], mask [B, L/s], the prior's mean and log-std (0, or [B, L/s,
        s C])."""
        s, cond = self.config.squeeze, masked(cond, mask)  # what lies in padding could be too large for an exponential
        mask = mask[:, s - 1 :: s]
        if self.config.prior == "given":
            mean, log_std, given = jnp.split(cond, [self.channels, 2 * self.channels], -1)
            return given[:, ::s], mask, self._squeeze(wide(mean)), self._squeeze(wide(log_std))
        h = nn.gelu(self.project(self._squeeze(cond)))
        if self.prior is None:
            return h, mask, 0.0, 0.0
        mean, log_std = jnp.split(wide(self.prior(h)), 2, -1)
        return h, mask, mean, log_std

    @nn.compact
    def _steps(self, *example):
        """Parameters of each step, by its number. A scan draws them, so that a start compiles one step, not all."""
        forward = "forward_and_log_det"

        def init(rng):
            def one(z, key):
                params = self._step.init(key, z, *example[1:], method=forward)["params"]
                mapped, _ = self._step.apply({"params": params}, z, *example[1:], method=forward)
                return mapped.astype(z.dtype), params

            stacked = jax.lax.scan(one, example[0], jax.random.split(rng, self.config.steps))[1]
            return {str(i): jax.tree.map(lambda x: x[i], stacked) for i in range(self.config.steps)}  # noqa: B023

        steps = self.param("steps", init)
        return [{"params": steps[str(i)]} for i in range(self.config.steps)]

    def _forward(self, y, h, mask, rng):
        """Squeezed y -> z and its log-determinant [B, L/s]."""
        c = self.config
        z, total = wide(y) * mask[..., None], 0.0
        dropped = draws.dropout_masks(rng, c.dropout, c.steps * c.layers, (*mask.shape, c.width), h.dtype)
        for i, params in enumerate(self._steps(z, h, mask, dropped[: c.layers])):
            layers = dropped[i * c.layers : (i + 1) * c.layers]
            z, log_det = self._step.apply(params, z, h, mask, layers, method="forward_and_log_det")
            total += log_det
        return z, total

    def _inverse(self, z, h, mask):
        z, dropped = wide(z) * mask[..., None], [1.0] * self.config.layers
        for params in reversed(self._steps(z, h, mask, dropped)):
            z = self._step.apply(params, z, h, mask, dropped, method="inverse")
        return z

    def _log_density(self, y, cond, mask, rng):
        """Per squeezed position, [B, L/s]."""
        h, mask, mean, log_std = self._condition(cond, mask)
        z, log_det = self._forward(self._squeeze(y), h, mask, rng)
        return log_det + jnp.sum(norm.logpdf(z, mean, jnp.exp(log_std)), -1) * mask

    def forward_and_log_det(self, y, cond, mask):
        """y [B, L, C] -> z [B, L, C] and log |det dz/dy| [B, L / squeeze]."""
        h, mask, _, _ = self._condition(cond, mask)
        z, log_det = self._forward(self._squeeze(y), h, mask, None)
        return z.reshape(y.shape), log_det

    def inverse(self, z, cond, mask):
        """z [B, L, C] -> y [B, L, C]."""
        h, mask, _, _ = self._condition(cond, mask)
        return self._inverse(self._squeeze(z), h, mask).reshape(z.shape)

    def sample_from(self, eps, cond, mask, temperature, null=None, guidance=0.0):
        """Standard normal eps [B, L, C] -> y [B, L, C]."""
        h, small_mask, *prior = self._condition(cond, mask)
        if null is not None:
            h_null, _, *prior_null = self._condition(null, mask)
            h, prior = Guided(h, h_null, guidance), guided(list, Guided(prior, prior_null, guidance))
        mean, log_std = prior
        z = mean + temperature * jnp.exp(log_std) * self._squeeze(eps)
        return self._inverse(z, h, small_mask).reshape(eps.shape)

    def loss(self, y, cond, mask, rng, train):
        nll = -self._log_density(y, cond, mask, rng if train else None)
        return jnp.repeat(nll / (self.channels * self.config.squeeze), self.config.squeeze, axis=1)

    def log_prob(self, y, cond, mask, rng):
        value = jnp.sum(self._log_density(y, cond, mask, None), 1)
        return value, jnp.zeros_like(value)

    def sample(self, cond, mask, rng, temperature, null=None, guidance=0.0):
        eps = draws.normal(rng, (*mask.shape, self.channels), jnp.promote_types(cond.dtype, jnp.float32))
        return self.sample_from(eps, cond, mask, temperature, null, guidance)
