"""Stretches of recordings with their mels: a batch is a function of its step, as those of the acoustic models are."""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soxr

from tts_gen.batches import process_rows, read_ahead, readable
from tts_gen.config import UserError
from tts_gen.features import mel
from tts_gen.features.index import Entry
from tts_gen.features.sound import Unusable, load
from tts_gen.features.store import FeatureStore
from tts_gen.stream import shuffled

log = logging.getLogger(__name__)

VALIDATED = 64
"""utterances of val, a stretch of each"""
SAME = 0.1
"""nats: mean distance above which a recording's mel is not the stored one (twice the loudness is 0.7)"""
SILENCE = float(np.log(mel.FLOOR))
"""of every bin of a mel"""

Arrays = dict[str, np.ndarray]


class Segments:
    """Element s is this process's part of the global batch of step s: wave [B, frames * hop], mel [B, frames, M] and
    weight [B], ones. `iterate` reads ahead in threads.

    An epoch takes one stretch of each utterance. The mel is the recording's own, or `mels[i]` of the split's i-th
    utterance, [T, M]. One that cannot be read is told once, and the next stands in. Raises UserError where none can."""

    def __init__(
        self, store: FeatureStore, split: str, batch: int, frames: int, seed: int,
        mels: Sequence[np.ndarray] | None = None, process: int = 0, processes: int = 1,
    ):  # fmt: skip
        self.store, self.positions = store, store.split(split)
        self.batch, self.frames, self.seed, self.mels = batch, frames, seed, mels
        self.mine = process_rows(batch, process, processes)
        self.told: set[str] = set()

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, step: int) -> Arrays:
        rows = [self._row(place, (self.seed, 2, step, row)) for row, place in self._places(step)[self.mine]]
        return _stacked(rows, len(rows))

    def iterate(self, start: int) -> Iterator[Arrays]:
        return read_ahead(self, start)

    def examples(self) -> list[Arrays]:
        return [self[0]]

    def ids(self, step: int) -> list[str]:
        """Utterances in the global batch of a step."""
        return [self._entry(place).id for _, place in self._places(step)]

    def whole(self) -> Iterator[tuple[str, np.ndarray]]:
        """Id and mel [T, M] of each utterance that can be read."""
        for place in range(len(self.positions)):
            if found := self._readable(place):
                yield self._entry(place).id, found[1]

    def held_out(self) -> Iterator[Arrays]:
        """This process's rows of batches of the split's first VALIDATED utterances, the same each time; rows of weight
        0 fill the last."""
        places = range(min(VALIDATED, len(self.positions)))
        for first in range(0, len(places), self.batch):
            mine = range(first, first + self.batch)[self.mine]
            rows = [self._row(place, (self.seed, 3, place)) for place in mine if place < len(places)]
            yield _stacked(rows or [self._row(0, (self.seed, 3, 0))], len(mine), len(rows))

    def _places(self, step: int) -> list[tuple[int, int]]:
        """(row, utterance)"""
        n, entries = len(self.positions), range(step * self.batch, (step + 1) * self.batch)
        return [(row, int(shuffled((self.seed, 1, i // n), n)[i % n])) for row, i in enumerate(entries)]

    def _entry(self, place: int) -> Entry:
        return self.store.index[self.positions[place]]

    def _row(self, place: int, seed: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        n = len(self.positions)
        for candidate in range(place, place + n):
            if found := self._readable(candidate % n):
                return self._stretch(*found, np.random.default_rng(seed))
        raise UserError(f"{self.store.root}: none of its recordings can be used; see above")

    def _readable(self, place: int) -> tuple[np.ndarray, np.ndarray] | None:
        try:
            return self.read(place)
        except Unusable as error:
            entry = self._entry(place)
            if entry.id not in self.told:
                self.told.add(entry.id)
                log.warning("%s (%s) is left out: %s: %s", entry.id, entry.audio, error.reason, error.detail)
            return None

    def read(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """A whole utterance: wave [T * hop] and mel [T, M]. Raises Unusable."""
        entry, audio = self._entry(place), self.store.audio
        recording = load(Path(entry.audio))
        wave = soxr.resample(recording.wave, recording.rate, audio.sample_rate).astype(np.float32)
        try:
            own = mel.log_mel(wave, audio)
        except ValueError as error:
            raise Unusable("too short", str(error)) from error
        if self.mels is None:
            return wave[: len(own) * audio.hop], own
        stored = readable(self.store, self.positions[place])
        if stored is None:
            raise Unusable("damaged record", "the store cannot say whether the mel is of this recording")
        if stored.mel.shape != own.shape or np.abs(stored.mel - own).mean() > SAME:
            raise Unusable("other recording", "its mel is not the one in the store, which was prepared from another, "
                           "or with --trim or --loudness; prepare without, or train without --mels")  # fmt: skip
        return wave[: len(own) * audio.hop], self.mels[place]

    def _stretch(self, wave: np.ndarray, frames: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """At a random place; silence follows what is shorter."""
        lacking, hop = max(self.frames - len(frames), 0), self.store.audio.hop
        if lacking:
            wave = np.pad(wave, (0, lacking * hop))
            frames = np.pad(frames, ((0, lacking), (0, 0)), constant_values=SILENCE)
        first = rng.integers(len(frames) - self.frames + 1)
        end = first + self.frames
        return wave[first * hop : end * hop], frames[first:end].astype(np.float32)


def _stacked(rows: Sequence[tuple[np.ndarray, np.ndarray]], count: int, weighed: int | None = None) -> Arrays:
    """`count` rows, the last repeated; the first `weighed` of weight 1, else all."""
    rows = [*rows, *[rows[-1]] * (count - len(rows))]
    weight = np.arange(count) < (count if weighed is None else weighed)
    return {"wave": np.stack([w for w, _ in rows]), "mel": np.stack([m for _, m in rows]),
            "weight": weight.astype(np.float32)}  # fmt: skip
