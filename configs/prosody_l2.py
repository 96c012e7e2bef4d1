"""Prosody by L2 regression, size small.

    python train.py configs/prosody_l2.py --workdir runs/prosody_l2 --data.features data/features

Expect log-f0 much less varied than the recordings' (std ratio around 0.4): L2 predicts means.
"""

from tts_gen.config import Config, Data, Encoder, Train
from tts_gen.decoders.regression import Regression

config = Config(
    task="prosody",
    data=Data(buckets=(32, 128), batch_size=1024),
    encoder=Encoder(width=96, conv_layers=2, layers=2, heads=2, dropout=0.3),
    decoder=Regression(loss="l2", width=128, layers=4, kernel=5, dropout=0.3),
    train=Train(steps=300, decay_steps=300, save_every=50),
)
