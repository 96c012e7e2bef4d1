"""The networks that diffusion and flow matching share, chosen by the settings.

All have the signature network(x[B,L,C], cond[B,L,D], t[B], mask[B,L], rng or None) -> [B,L,C]; rng None is evaluation.
They compute in cond's dtype; x, t and what they give are float32 at least.
"""

import math
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jaxlib

from tts_gen import config
from tts_gen.config import UserError
from tts_gen.decoders.matcha import MatchaUNet
from tts_gen.decoders.unet import UNet
from tts_gen.decoders.unet2d import UNet2D


@dataclass(frozen=True)
class Network(config.Decoder):
    """The network's shape; what only one kind of network has is named so."""

    network: Literal["unet", "unet2d", "matcha"] = "unet"
    """over positions; over positions and channels as an image (Grad-TTS); over positions with transformers (Matcha)"""
    widths: tuple[int, ...] = (128, 192, 256)
    """per level; each level but the first halves the positions"""
    kernel: int = 3
    """unet: width of the convolutions, which are 3 wide in the others"""
    heads: int = 2
    head_width: int = 64
    """unet2d, matcha: channels of each attention head; unet's heads divide the width among them"""
    blocks: int = 1
    """matcha: transformer blocks on each level"""
    middle_blocks: int = 2
    """matcha: residual blocks in the middle, each with its transformer blocks"""
    activation: Literal["snakebeta", "gelu", "gelu-approximate", "geglu", "geglu-approximate"] = "snakebeta"
    """matcha: of the transformers' feed-forward layers"""
    dropout: float = 0.05
    """unet, matcha"""
    prior_mean: Literal["zero", "given"] = "zero"
    """given: cond [B, L, D] starts with the prior's mean [B, L, C] that a joint model predicts from text"""
    time_scale: float = 1000.0
    """unet2d: factor of the time before its sinusoids (1 in the oldest checkpoints of Grad-TTS)"""
    solver_steps: int = 10
    """of sampling; touches no parameter"""
    reference_masking: bool = False
    """True lets padding reach valid positions as the published code of Grad-TTS and Matcha-TTS does, whose weights
    were trained so: group norms count padded positions, attention sees them, and flow matching does not mask the
    state of its ODE"""

    def __post_init__(self):
        names = ("kernel", "heads", "head_width", "blocks", "solver_steps")
        config.limit("decoder", self, **dict.fromkeys(names, config.COUNT), dropout=config.SHARE)
        config.limit("decoder", self, middle_blocks=(0, math.inf))
        widths = ",".join(map(str, self.widths))
        if not self.widths or min(self.widths) < 4:
            raise UserError(f"decoder.widths is {widths or 'empty'}; give a width of at least 4 for each level")
        if self.network == "unet" and (self.widths[0] % 2 or self.widths[-1] % (2 * self.heads)):
            raise UserError(
                f"decoder.widths {widths}: the first must be even, the last a multiple of twice "
                f"decoder.heads {self.heads}"
            )
        if self.network != "unet" and any(width % 8 for width in self.widths):
            raise UserError(
                f"decoder.widths {widths}: {self.network} normalises in 8 groups of channels; give multiples of 8"
            )

    @property
    def multiple(self) -> int:
        return 2 ** (len(self.widths) - 1)

    @property
    def compiler_options(self) -> dict[str, str]:
        """For unet2d on CPU: XLA 0.10 gives convolutions of images to YNNPACK, which takes two to three times as long
        as Eigen for a kernel's gradient. A step in Grad-TTS's shape (`scripts/bench_decoders.py`): 2.9 to 1.8 s."""
        known = jaxlib.__version__.startswith("0.10.")  # XLA refuses options that it does not know
        if self.network != "unet2d" or jax.default_backend() != "cpu" or not known:
            return {}
        return {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


def build(settings: Network, channels: int) -> nn.Module:
    """The network that `settings` name, for x of `channels` channels C."""
    s = settings
    if s.network == "unet":
        return UNet(channels, s.widths, s.kernel, s.heads, s.dropout)
    if s.network == "unet2d":
        given = s.prior_mean == "given"
        return UNet2D(channels, s.widths, s.heads, s.head_width, given, s.reference_masking, s.time_scale)
    shape = (s.widths, s.heads, s.head_width, s.blocks, s.middle_blocks, s.activation, s.dropout)
    return MatchaUNet(channels, *shape, s.reference_masking)
