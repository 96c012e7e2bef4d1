"""Trains one model: python train.py CONFIG --workdir DIR [--data.features STORE] [--train.steps N] ...  See --help
after CONFIG."""

import sys

from tts_gen.doors import train

if __name__ == "__main__":
    sys.exit(train(sys.argv[1:]))
