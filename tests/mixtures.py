"""Two small stores that share names and differ in phonemes, to be mixed."""

from pathlib import Path

import numpy as np
from models import AUDIO, make_store, simulated

from tts_gen.corpora import Utterance
from tts_gen.features.mix import mix
from tts_gen.features.record import Record
from tts_gen.features.store import FeatureStore
from tts_gen.features.writer import write_store
from tts_gen.text import Phoneme


def make_pair(folder: Path) -> list[FeatureStore]:
    """first: 42 training utterances of ann, bob and none; second: 25, longer, of bob and cleo, other pitches, and S is
    voiced there and often a ZH."""
    rng, items = np.random.default_rng(1), []
    for split, count in (("train", 25), ("val", 6), ("test", 6)):
        for i in range(count):
            speaker = ("bob", "cleo")[i % 2]
            r = simulated(int(rng.integers(9, 17)), {"cleo": "ann"}.get(speaker, speaker), rng)
            s = np.array([p.symbol == "S" for p in r.phonemes])
            phonemes = [Phoneme("ZH", p.stress, p.edge, p.punctuation) if z else p
                        for p, z in zip(r.phonemes, s & (rng.random(len(s)) < 0.5), strict=True)]  # fmt: skip
            log_f0 = np.where(s, np.float32(4.9), r.log_f0 + np.float32(0.3))
            where = folder / "audio" / f"{i}.wav"
            utterance = Utterance(
                f"{split}{i}" if i < 3 else f"b-{split}{i}", where, f"Text {i}.", speaker, "glad", split
            )
            items.append((utterance, Record(phonemes, r.duration, log_f0, r.mel - np.float32(1))))
    write_store(folder / "second", AUDIO, items)
    return [make_store(folder / "first"), FeatureStore(folder / "second")]


def mixed(folder: Path, *weights: float) -> FeatureStore:
    """folder/mixed, of both."""
    mix(folder / "mixed", list(zip((str(folder / "first"), str(folder / "second")), weights, strict=True)))
    return FeatureStore(folder / "mixed")
