"""Mels by a normalizing flow (a small Glow-TTS decoder), size small (2.3 M parameters). All but the decoder is
acoustic_l1's.

    python train.py configs/acoustic_flow.py --workdir runs/acoustic_flow --data.features data/features

Expect harmonics and transitions that L1 smears. Loss: negative log-likelihood in nats per dimension. About two minutes
on 2 CPU
cores.
"""

from dataclasses import replace

from configs.acoustic_l1 import config as l1
from tts_gen.decoders.flow import Flow

config = replace(l1, decoder=Flow(steps=6, squeeze=2, width=104, layers=2, kernel=5))
