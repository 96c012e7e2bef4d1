"""Prosody by Gaussian regression, size base (20 M parameters). All but the loss is prosody_l2's.

    python train.py configs/base/prosody_gaussian.py --workdir runs/base/prosody_gaussian --data.features data/features

Not trained to the end by us yet; see prosody_l2.
"""

from dataclasses import replace

from configs.base.prosody_l2 import config as l2

config = replace(l2, decoder=replace(l2.decoder, loss="gaussian"))
