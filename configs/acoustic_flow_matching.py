"""Mels by flow matching, size small (2.3 M parameters). All but the decoder is acoustic_l1's.

    python train.py configs/acoustic_flow_matching.py --workdir runs/acoustic_flow_matching --data.features \
        data/features

The network is acoustic_diffusion's. Expect less grain than there after equally few steps: differences from frame to
frame about 1.1 times as large as the recordings' at temperature 0.6 on asterisk. Loss: squared error of the velocity
per dimension, from 2 at the start to about 0.6. About two minutes on 2 CPU cores.
"""

from dataclasses import replace

from configs.acoustic_l1 import config as l1
from tts_gen.decoders.flow_matching import FlowMatching

config = replace(l1, decoder=FlowMatching(widths=(112, 128, 144), kernel=3, heads=2))
