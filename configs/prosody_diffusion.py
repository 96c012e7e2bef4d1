"""Prosody by diffusion, size small. All but the decoder is that of prosody_l2.

python train.py configs/prosody_diffusion.py --workdir runs/prosody_diffusion --data.features data/features
"""

from dataclasses import replace

from configs.prosody_l2 import config as l2
from tts_gen.decoders.diffusion import Diffusion

config = replace(l2, decoder=Diffusion(widths=(64, 96), kernel=3, heads=2, dropout=0.3))
