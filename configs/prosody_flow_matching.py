"""Prosody by flow matching, size small (0.8 M parameters). All but the decoder is prosody_l2's.

    python train.py configs/prosody_flow_matching.py --workdir runs/prosody_flow_matching --data.features data/features

The network is prosody_diffusion's: what differs is the path from noise to data, here straight. Expect std ratios of
0.9 to 1.05 at temperatures of 0.8 to 1 on asterisk. Loss: squared error of the velocity per dimension, from 2 at the
start to about 1. About a minute on 2 CPU cores.
"""

from dataclasses import replace

from configs.prosody_l2 import config as l2
from tts_gen.decoders.flow_matching import FlowMatching

config = replace(l2, decoder=FlowMatching(widths=(64, 104), kernel=3, heads=2, dropout=0.3))
