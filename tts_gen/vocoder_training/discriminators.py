"""HiFi-GAN's discriminators: of the wave folded by prime periods, and of the wave at three rates.

Source: Kong, Kim, Bae, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis",
arXiv 2010.05646, 2020, section 2.3; models.py of jik876/hifi-gan (MIT licence).
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

from tts_gen.vocoders.hifigan import START

Conv = partial(nn.Conv, kernel_init=START)
PERIODS = (2, 3, 5, 7, 11)
SCALES = 3
SPECTRAL = "scale_0"
"""the discriminator of the wave as it is, the only one whose kernels are normalised by their largest singular value"""
PERIOD_LAYERS = ((32, 3), (128, 3), (512, 3), (1024, 3), (1024, 1))
"""channels, stride"""
SCALE_LAYERS = ((128, 15, 1, 1), (128, 41, 2, 4), (256, 41, 2, 16), (512, 41, 4, 16), (1024, 41, 4, 16),
                (1024, 41, 1, 16), (1024, 5, 1, 1))  # fmt: skip
"""channels, kernel, stride, groups"""

Judgement = tuple[jax.Array, list[jax.Array]]
"""scores [B, ...], which are 1 for recordings, and the features of all layers [B, ..., D], the scores among them"""


class Period(nn.Module):
    """Sees samples that are `period` apart."""

    period: int
    narrow: int = 1

    @nn.compact
    def __call__(self, wave: jax.Array) -> Judgement:  # [B, S]
        x = jnp.pad(wave, ((0, 0), (0, -wave.shape[1] % self.period)), mode="reflect")
        x = x.reshape(len(x), -1, self.period, 1)
        features = []
        for i, (channels, stride) in enumerate(PERIOD_LAYERS):
            conv = Conv(channels // self.narrow, (5, 1), (stride, 1), [(2, 2), (0, 0)], name=f"convs_{i}")
            x = nn.leaky_relu(conv(x), 0.1)
            features.append(x)
        x = Conv(1, (3, 1), padding=[(1, 1), (0, 0)], name="conv_post")(x)
        return x, [*features, x]


class Scale(nn.Module):
    """Sees the wave after `halved` poolings by 2."""

    halved: int
    narrow: int = 1

    @nn.compact
    def __call__(self, wave: jax.Array) -> Judgement:  # [B, S]
        x, features = wave[..., None], []
        for _ in range(self.halved):
            x = nn.avg_pool(x, (4,), (2,), [(2, 2)])
        for i, (channels, kernel, stride, groups) in enumerate(SCALE_LAYERS):
            padding = [(kernel // 2, kernel // 2)]
            conv = Conv(
                channels // self.narrow, (kernel,), (stride,), padding, feature_group_count=groups, name=f"convs_{i}"
            )
            x = nn.leaky_relu(conv(x), 0.1)
            features.append(x)
        x = Conv(1, (3,), padding=[(1, 1)], name="conv_post")(x)
        return x, [*features, x]


class Discriminators(nn.Module):
    """All eight. `narrow` divides their channels; with 1 they are the paper's."""

    narrow: int = 1

    @nn.compact
    def __call__(self, wave: jax.Array) -> list[Judgement]:  # [B, S]
        by_period = [Period(p, self.narrow, name=f"period_{p}")(wave) for p in PERIODS]
        return by_period + [Scale(i, self.narrow, name=f"scale_{i}")(wave) for i in range(SCALES)]
