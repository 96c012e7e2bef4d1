"""Log-f0 of frames by a normalizing flow, size small (0.8 M parameters). All but the decoder is
contour_l2's, and that is prosody_flow's.

    python train.py configs/contour_flow.py --workdir runs/contour_flow --data.features data/features

Expect std ratios near 1 at temperature 1. Loss: as prosody_flow's, per frame. About two minutes on 2 CPU cores.
"""

from dataclasses import replace

from configs.contour_l2 import config as l2
from configs.prosody_flow import config as prosody

config = replace(l2, decoder=prosody.decoder)
