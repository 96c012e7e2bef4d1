"""Mels by L1 regression, size base (20 M parameters), for corpora of hours on GPUs or TPUs.

    python train.py configs/base/acoustic_l1.py --workdir runs/base/acoustic_l1 --data.features data/features

Not trained to the end by us yet: it builds, trains and resumes, and its size agrees with the other families' within 10
%.
"""

from tts_gen.config import Config, Data, Encoder, Train
from tts_gen.decoders.regression import Regression

config = Config(
    task="acoustic",
    data=Data(buckets=(256,), batch_size=16384, max_phonemes=128),
    encoder=Encoder(width=256, conv_layers=3, layers=6, heads=4, dropout=0.1),
    decoder=Regression(loss="l1", width=512, layers=9, kernel=5, dropout=0.1),
    train=Train(
        steps=300_000, decay_steps=300_000, learning_rate=4e-4, warmup=4000, ema=0.9995, save_every=5000, log_every=100
    ),
)
