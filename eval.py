"""Evaluates runs: python eval.py RUN [RUN ...] --out DIR [--temperatures 0,0.667,1] [--samples K] [--split test]"""

import sys

from tts_gen.doors import evaluate

if __name__ == "__main__":
    sys.exit(evaluate(sys.argv[1:]))
