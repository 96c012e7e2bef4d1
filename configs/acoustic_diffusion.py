"""Mels by diffusion, size small. All but the decoder is that of acoustic_l1.

python train.py configs/acoustic_diffusion.py --workdir runs/acoustic_diffusion --data.features data/features
"""

from dataclasses import replace

from configs.acoustic_l1 import config as l1
from tts_gen.decoders.diffusion import Diffusion

config = replace(l1, decoder=Diffusion(widths=(128, 160, 192), kernel=3, heads=2))
