"""Log-f0 of frames by diffusion, size small (0.8 M parameters). All but the decoder is
contour_l2's, and that is prosody_diffusion's.

    python train.py configs/contour_diffusion.py --workdir runs/contour_diffusion --data.features data/features

Expect std ratios near 1 at temperature 1. Loss: as prosody_diffusion's, per frame. About two minutes on 2 CPU cores.
"""

from dataclasses import replace

from configs.contour_l2 import config as l2
from configs.prosody_diffusion import config as prosody

config = replace(l2, decoder=prosody.decoder)
