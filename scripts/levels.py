"""What `prepare` measures of recordings, and what becomes of it when they are driven into clipping.

    python scripts/levels.py data/asterisk/manifest.jsonl [--count 500]

Prints, for `count` recordings spread over the manifest, the level and the share of clipped samples
(tts_gen/features/sound.py): as they are, in 8 bits, and scaled to peaks above full scale, then clipped there.
"""

import argparse
from pathlib import Path

import numpy as np

from tts_gen.corpora import read_manifest
from tts_gen.features.sound import Recording, Unusable, load

SHOWN = (0, 5, 50, 95, 100)
"""percentiles"""


def recordings(manifest: Path, count: int) -> list[Recording]:
    utterances = read_manifest(manifest)[0]
    found = []
    for utterance in utterances[:: max(len(utterances) // count, 1)][:count]:
        try:
            found.append(load(utterance.audio))
        except Unusable as error:
            print(f"{utterance.audio}: {error.reason}: {error.detail}")
    return [r for r in found if r.seconds >= 0.5 and r.wave.any()]


def show(name: str, values: list[float], form: str) -> None:
    print(f"{name:28}", *(f"{p:>4g} %: {np.percentile(values, p):{form}}" for p in SHOWN))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--count", type=int, default=500)
    options = parser.parse_args()
    found = recordings(options.manifest, options.count)
    print(f"{len(found)} recordings; percentiles")
    show("level, dB", [r.level for r in found], "7.1f")
    show("clipped, as they are", [r.clipped for r in found], ".5f")
    show(
        "clipped, in 8 bits", [Recording(np.round(r.wave * 127) / 127, r.rate, r.seconds).clipped for r in found], ".5f"
    )
    for decibels in (1, 3, 6, 12):
        driven = [r.wave / np.abs(r.wave).max() * 10 ** (decibels / 20) for r in found]
        clipped = [Recording(w.clip(-1, 1), r.rate, r.seconds).clipped for w, r in zip(driven, found, strict=True)]
        show(f"clipped, {decibels} dB over", clipped, ".5f")


if __name__ == "__main__":
    main()
