"""Log-f0 of frames by L2 regression, size small (0.8 M parameters), to compare with prosody_l2's log-f0 of phonemes.

    python train.py configs/contour_l2.py --workdir runs/contour_l2 --data.features data/features
    python eval.py joint runs/prosody_flow runs/contour_flow ... --out runs/levels

Encoder, decoder and number of steps are those of prosody_l2. Loss: half the squared error per frame; unvoiced frames,
which have no f0, add a constant. About two minutes on 2 CPU cores.
"""

from dataclasses import replace

from configs.prosody_l2 import config as prosody
from tts_gen.config import Data

config = replace(prosody, task="contour", data=Data(buckets=(256,), batch_size=4096))
