"""Prosody by a normalizing flow, size small (0.8 M parameters). All but the decoder is prosody_l2's.

    python train.py configs/prosody_flow.py --workdir runs/prosody_flow --data.features data/features

Expect std ratios near 1 at temperature 1. Loss: negative log-likelihood in nats per dimension. About a minute on 2 CPU
cores.
"""

from dataclasses import replace

from configs.prosody_l2 import config as l2
from tts_gen.decoders.flow import Flow

config = replace(l2, decoder=Flow(steps=6, squeeze=2, width=64, layers=2, kernel=3, dropout=0.3))
