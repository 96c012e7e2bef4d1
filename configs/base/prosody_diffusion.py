"""Prosody by diffusion, size base (20 M parameters). All but the decoder is prosody_l2's.

    python train.py configs/base/prosody_diffusion.py --workdir runs/base/prosody_diffusion --data.features
    data/features

Not trained to the end by us yet; see prosody_l2.
"""

from dataclasses import replace

from configs.base.prosody_l2 import config as l2
from tts_gen.decoders.diffusion import Diffusion

config = replace(l2, decoder=Diffusion(widths=(384, 512), kernel=3, heads=8))
