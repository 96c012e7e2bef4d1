"""Prosody by L2 regression, size small (0.8 M parameters): the baseline.

    python train.py configs/prosody_l2.py --workdir runs/prosody_l2 --data.features data/features

Expect log-f0 less varied than the recordings' (std ratio about 0.7 on asterisk): L2 predicts means. Loss: half the
squared error
per phoneme, mean over log-f0 and log-duration; unvoiced phonemes, which have no f0, add a constant. About a minute on 2
CPU cores.
"""

from tts_gen.config import Config, Data, Encoder, Train
from tts_gen.decoders.regression import Regression

config = Config(
    task="prosody",
    data=Data(buckets=(32, 128), batch_size=1024),
    # Much dropout: 20 minutes of speech hold only some 7,000 training phonemes, and every family overfits them.
    encoder=Encoder(width=96, conv_layers=2, layers=2, heads=2, dropout=0.3),
    decoder=Regression(loss="l2", width=136, layers=4, kernel=5, dropout=0.3),
    train=Train(steps=300, decay_steps=300, save_every=50),
)
