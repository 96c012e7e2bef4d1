"""Prosody by diffusion, size small (0.8 M parameters). All but the decoder is prosody_l2's.

    python train.py configs/prosody_diffusion.py --workdir runs/prosody_diffusion --data.features data/features

Expect std ratios near 1 at temperature 1, and smoother melodies at 0.667. Loss: squared
error of v per dimension. About a minute on 2 CPU cores.
"""

from dataclasses import replace

from configs.prosody_l2 import config as l2
from tts_gen.decoders.diffusion import Diffusion

config = replace(l2, decoder=Diffusion(widths=(64, 104), kernel=3, heads=2, dropout=0.3))
