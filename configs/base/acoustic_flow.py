"""Mels by a normalizing flow, size base (20 M parameters). All but the decoder is acoustic_l1's.

    python train.py configs/base/acoustic_flow.py --workdir runs/base/acoustic_flow --data.features data/features

Not trained to the end by us yet; see acoustic_l1.
"""

from dataclasses import replace

from configs.base.acoustic_l1 import config as l1
from tts_gen.decoders.flow import Flow

config = replace(l1, decoder=Flow(steps=12, squeeze=2, width=168, layers=3, kernel=5))
