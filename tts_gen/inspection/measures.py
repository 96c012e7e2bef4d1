"""One pass over a feature store: figures of every utterance, and counts over all; no mel is kept."""

from dataclasses import dataclass

import numpy as np
from rich.console import Console

from tts_gen.align import Segment
from tts_gen.align.quality import quality
from tts_gen.config import UserError
from tts_gen.features import journal
from tts_gen.features.durations import LONGEST
from tts_gen.features.pitch import F0_MAX, F0_MIN
from tts_gen.features.store import Features, FeatureStore
from tts_gen.progress import progress

F0_EDGES = np.geomspace(F0_MIN, F0_MAX, 64)
"""Hz, of the histograms"""
SEMITONES = 12 / np.log(2)
"""in a natural logarithm of f0"""


@dataclass(frozen=True, eq=False)
class Measures:
    """U utterances in the order of the index, P phonemes of the inventory, S speakers, F frames (the last: or more)."""

    figures: dict[str, np.ndarray]
    """name -> [U], NaN where an utterance has none: what prepare noted (align.quality, sound), and see `_figures`"""
    durations: np.ndarray
    """[P, F] how often a phoneme lasts so many frames"""
    voiced: np.ndarray
    """[P] how often it is voiced"""
    f0: np.ndarray
    """[S, len(F0_EDGES) - 1] how many voiced phonemes lie between two edges"""
    damaged: dict[int, str]
    """utterance -> why it cannot be read"""


def measure(store: FeatureStore, console: Console) -> Measures:
    """Reads every utterance once. A damaged one is noted, and has no figures."""
    n, inventory = len(store.index), store.inventory
    figures: dict[str, np.ndarray] = {}
    durations = np.zeros((len(inventory.phonemes), LONGEST + 1), np.int64)
    voiced = np.zeros(len(inventory.phonemes), np.int64)
    f0 = np.zeros((len(inventory.speakers), len(F0_EDGES) - 1), np.int64)
    damaged = {}
    recorded = journal.figures(store.home, store.index.shard_lengths)
    with progress("inspect", n, "utterances", console) as advance:
        for i, entry in enumerate(store.index):
            advance(1)
            try:
                (features,) = store.read([i])
            except UserError as error:
                damaged[i] = str(error)
                continue
            found = _figures(features, store) | recorded.get((entry.shard, entry.position), {})
            for name, value in found.items():
                figures.setdefault(name, np.full(n, np.nan))[i] = value
            np.add.at(durations, (features.phoneme, np.minimum(features.duration, LONGEST)), 1)
            np.add.at(voiced, features.phoneme[features.voiced], 1)
            hertz = np.clip(np.exp(features.log_f0[features.voiced]), F0_MIN, F0_MAX)
            f0[features.speaker] += np.histogram(hertz, F0_EDGES)[0]
    return Measures(figures, durations, voiced, f0, damaged)


def _figures(features: Features, store: FeatureStore) -> dict[str, float]:
    """Those of `align.quality`, from whole frames, and: f0, the mean over voiced phonemes in the speaker's standard
    deviations; f0_step, the largest step from one voiced phoneme to the next in semitones; voiced, the share of phones
    that are."""
    phonemes = store.inventory.decode(features.phoneme, features.stress, features.edge, features.punctuation)
    ends = np.cumsum(features.duration) * store.audio.frame_seconds
    segments = [Segment(*s) for s in zip(phonemes, [0.0, *ends[:-1]], ends, strict=True)]
    figures = quality(segments)
    known = features.log_f0[features.voiced]
    if len(known):
        figures["f0"] = float(store.stats.normalise_log_f0(known, features.speaker).mean())
        figures["f0_step"] = float(np.abs(np.diff(known)).max(initial=0.0) * SEMITONES)
    figures["voiced"] = len(known) / (features.phoneme != 0).sum()
    return figures
