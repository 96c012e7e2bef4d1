"""Prosody by flow matching, size base (20 M parameters). All but the decoder is prosody_l2's.

    python train.py configs/base/prosody_flow_matching.py --workdir runs/base/prosody_flow_matching --data.features \
        data/features

Not trained to the end by us yet; see prosody_l2.
"""

from dataclasses import replace

from configs.base.prosody_l2 import config as l2
from tts_gen.decoders.flow_matching import FlowMatching

config = replace(l2, decoder=FlowMatching(widths=(384, 512), kernel=3, heads=8))
