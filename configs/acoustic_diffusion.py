"""Mels by diffusion, size small (2.3 M parameters). All but the decoder is acoustic_l1's.

    python train.py configs/acoustic_diffusion.py --workdir runs/acoustic_diffusion --data.features data/features

Expect grain: diffusion needs many more steps than these to learn the last, low-noise part of denoising. Loss: squared
error of v
per dimension. About two minutes on 2 CPU cores.
"""

from dataclasses import replace

from configs.acoustic_l1 import config as l1
from tts_gen.decoders.diffusion import Diffusion

config = replace(l1, decoder=Diffusion(widths=(112, 128, 144), kernel=3, heads=2))
