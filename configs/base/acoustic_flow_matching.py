"""Mels by flow matching, size base (20 M parameters). All but the decoder is acoustic_l1's.

    python train.py configs/base/acoustic_flow_matching.py --workdir runs/base/acoustic_flow_matching --data.features \
        data/features

Not trained to the end by us yet; see acoustic_l1.
"""

from dataclasses import replace

from configs.base.acoustic_l1 import config as l1
from tts_gen.decoders.flow_matching import FlowMatching

config = replace(l1, decoder=FlowMatching(widths=(256, 384, 512), kernel=3, heads=8))
