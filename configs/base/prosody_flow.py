"""Prosody by a normalizing flow, size base (20 M parameters). All but the decoder is prosody_l2's.

    python train.py configs/base/prosody_flow.py --workdir runs/base/prosody_flow --data.features data/features

Not trained to the end by us yet; see prosody_l2.
"""

from dataclasses import replace

from configs.base.prosody_l2 import config as l2
from tts_gen.decoders.flow import Flow

config = replace(l2, decoder=Flow(steps=8, squeeze=2, width=208, layers=3, kernel=5))
