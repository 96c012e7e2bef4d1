"""Mels by flow matching, size small (2.3 M parameters). All but the decoder is acoustic_l1's.

    python train.py configs/acoustic_flow_matching.py --workdir runs/acoustic_flow_matching --data.features \
        data/features

The network is acoustic_diffusion's. Expect grain as there, less of it after equally few steps. Loss: squared error of
the velocity per dimension, which starts near 2. About two minutes on 2 CPU cores.
"""

from dataclasses import replace

from configs.acoustic_l1 import config as l1
from tts_gen.decoders.flow_matching import FlowMatching

config = replace(l1, decoder=FlowMatching(widths=(112, 128, 144), kernel=3, heads=2))
