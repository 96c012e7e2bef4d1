"""Prosody by Gaussian regression, size small (0.8 M parameters): the probabilistic baseline. All but the loss is
prosody_l2's.

    python train.py configs/prosody_gaussian.py --workdir runs/prosody_gaussian --data.features data/features

Predicts a mean and a standard deviation for each phoneme, and draws every phoneme independently of its neighbours:
expect std ratios near 1 at temperature 1, and differences from phoneme to phoneme that vary too much. Loss: negative
log-likelihood in nats per dimension. About a minute on 2 CPU cores.
"""

from dataclasses import replace

from configs.prosody_l2 import config as l2

config = replace(l2, decoder=replace(l2.decoder, loss="gaussian"))
