"""Prosody by L2 regression, size base (20 M parameters), for corpora of hours on GPUs or TPUs.

    python train.py configs/base/prosody_l2.py --workdir runs/base/prosody_l2 --data.features data/features

Not trained to the end by us yet: it builds, trains and resumes, and its size agrees with the other families' within 10
%.
"""

from tts_gen.config import Config, Data, Encoder, Train
from tts_gen.decoders.regression import Regression

config = Config(
    task="prosody",
    data=Data(buckets=(32, 64, 128, 256), batch_size=8192),
    encoder=Encoder(width=256, conv_layers=3, layers=6, heads=4, dropout=0.1),
    decoder=Regression(loss="l2", width=512, layers=9, kernel=5, dropout=0.1),
    train=Train(
        steps=100_000, decay_steps=100_000, learning_rate=4e-4, warmup=2000, ema=0.9995, save_every=2000, log_every=100
    ),
)
