"""Mels by diffusion, size base (20 M parameters). All but the decoder is acoustic_l1's.

    python train.py configs/base/acoustic_diffusion.py --workdir runs/base/acoustic_diffusion --data.features
    data/features

Not trained to the end by us yet; see acoustic_l1.
"""

from dataclasses import replace

from configs.base.acoustic_l1 import config as l1
from tts_gen.decoders.diffusion import Diffusion

config = replace(l1, decoder=Diffusion(widths=(256, 384, 512), kernel=3, heads=8))
