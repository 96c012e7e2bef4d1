"""Prosody by a normalizing flow, size small. All but the decoder is that of prosody_l2.

python train.py configs/prosody_flow.py --workdir runs/prosody_flow --data.features data/features
"""

from dataclasses import replace

from configs.prosody_l2 import config as l2
from tts_gen.decoders.flow import Flow

config = replace(l2, decoder=Flow(steps=6, squeeze=2, width=64, layers=2, kernel=3, dropout=0.3))
