"""Mels by L1 regression, size small (2.4 M parameters): the baseline.

    python train.py configs/acoustic_l1.py --workdir runs/acoustic_l1 --data.features data/features

Expect smeared mels (std ratio of differences from bin to bin far below 1): L1 predicts medians. Loss: mean absolute
error in
standard deviations of each mel bin. About two and a half minutes on 2 CPU cores.
"""

from tts_gen.config import Config, Data, Encoder, Train
from tts_gen.decoders.regression import Regression

config = Config(
    task="acoustic",
    data=Data(buckets=(128,), batch_size=2048),
    encoder=Encoder(width=128, conv_layers=2, layers=2, heads=2, dropout=0.1),
    decoder=Regression(loss="l1", width=240, layers=5, kernel=5, dropout=0.05),
    train=Train(steps=500, decay_steps=500, save_every=100),
)
