"""From the feature store to batches of arrays: of training, by their step; of a whole split, in order.

There is no iterator state to lose: resuming at step s reads batch s. Every host computes the same plan and loads its
own rows, so another number of hosts sees the same global batch, and all hosts have the same shape at each step.
"""

import functools
import itertools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import grain
import numpy as np

from tts_gen.config import Config, Data, UserError
from tts_gen.features.places import places
from tts_gen.features.pooling import interpolate_unvoiced
from tts_gen.features.stats import Stats
from tts_gen.features.store import Features, FeatureStore
from tts_gen.plan import Plan

log = logging.getLogger(__name__)


class TrainingBatches(grain.sources.RandomAccessDataSource):
    """Element s is this process's part of the global batch of step s: a dict of arrays [rows / processes, ...]."""

    def __init__(self, store: FeatureStore, config: Config, process: int = 0, processes: int = 1):
        self.store, self.config, self.plan = store, config, Plan.build(store, config, "train")
        self.process, self.processes = process, processes

    def __len__(self) -> int:
        return 2**31

    def __getitem__(self, step: int) -> dict[str, np.ndarray]:
        bucket, positions = self.plan(step)
        crop = np.random.default_rng((self.plan.seed, 2, step)).random(len(positions))
        mine = process_rows(len(positions), self.process, self.processes)
        return collate(self.store, self.config, positions[mine], bucket, crop[mine])

    @property
    def rows(self) -> dict[int, int]:
        """Bucket length -> sequences in its global batch."""
        return self.plan.rows

    def iterate(self, start: int) -> Iterator[dict[str, np.ndarray]]:
        """Batches from step `start` on, read ahead in threads."""
        return read_ahead(self, start)

    def examples(self) -> list[dict[str, np.ndarray]]:
        """A batch of each bucket, in the order in which training meets them; the longest is first."""
        first = np.unique(self.plan.round(0), return_index=True)[1]
        return [self[step] for step in np.sort(first).tolist()]

    def ids(self, step: int) -> list[str]:
        """Utterances in the global batch of a step."""
        return [self.store.index[p].id for p in self.plan(step)[1]]


def read_ahead(source: grain.sources.RandomAccessDataSource, start: int) -> Iterator[dict[str, np.ndarray]]:
    """Its elements from `start` on, read ahead in threads."""
    dataset = grain.MapDataset.source(source)[start:]
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=4)))


def process_rows(rows: int, process: int, processes: int) -> slice:
    """Those of a global batch that a process reads, in the order of the processes."""
    each = rows // processes
    return slice(process * each, (process + 1) * each)


def validation_batches(
    store: FeatureStore, config: Config, split: str = "val", process: int = 0, processes: int = 1
) -> Iterator[dict[str, np.ndarray]]:
    """Every utterance of a split once, in the shapes of training: this process's part of each global batch. Rows
    without an utterance have length 0. Crops are central."""
    plan = Plan.build(store, config, split)
    for bucket, members in plan.members.items():
        members = np.unique(members)
        for first in range(0, len(members), plan.rows[bucket]):
            rows = members[first : first + plan.rows[bucket]]
            batch = collate(store, config, rows, bucket, np.full(len(rows), 0.5))
            mine = process_rows(plan.rows[bucket], process, processes)
            yield {k: _pad_rows(v, plan.rows[bucket])[mine] for k, v in batch.items()}


SHORTEST = {"prosody": 32, "acoustic": 256, "contour": 256}
"""length of the shortest batch of whole utterances; each longer one is four times the last, so few shapes are
compiled"""


def whole_batches(
    utterances: Sequence[Features], stats: Stats, task: str, longest: int = 0, multiple: int = 1
) -> Iterator[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Uncropped utterances for evaluation and synthesis: (their places in the list, batch padded in length, and in rows
    to a `multiple`). Where they are part of more, `longest` is the most phonemes of any, so that shapes are the same
    for all parts."""
    lengths = np.array([len(u.phoneme) if task == "prosody" else len(u.mel) for u in utterances])
    padded = np.array([_padded(n, SHORTEST[task]) for n in lengths])
    positions = _padded(longest or max(len(u.phoneme) for u in utterances), SHORTEST["prosody"])
    for length in np.unique(padded):
        members = np.flatnonzero(padded == length)
        rows = -(-max(1, 8 * SHORTEST[task] // length) // multiple) * multiple
        for first in range(0, len(members), rows):
            places = members[first : first + rows]
            chosen = [utterances[i] for i in places]
            if task == "prosody":
                batch = prosody_batch(chosen, stats, length)
            else:
                crops = [whole(u, stats) for u in chosen]
                batch = acoustic_batch(crops, stats, positions, length, contour=task == "contour")
            yield places, {name: _pad_rows(value, rows) for name, value in batch.items()}


def _padded(length: int, shortest: int) -> int:
    while shortest < length:
        shortest *= 4
    return shortest


def collate(
    store: FeatureStore, config: Config, positions: np.ndarray, bucket: int, crop: np.ndarray
) -> dict[str, np.ndarray]:
    """Padded batch. `crop` [B] in 0..1 is where an acoustic crop of `bucket` frames lies in an utterance that is
    longer.

    A row whose record is damaged, or holds values that are not finite, is all zeros, length included, and its utterance
    is named in the log. Raises UserError where that is so of the whole store.
    """
    found = [readable(store, p) for p in positions]
    others = (readable(store, p) for p in range(len(store.index)))
    stand_in = next((u for u in itertools.chain(found, others) if u is not None), None)
    if stand_in is None:
        raise UserError(f"{store.root}: none of its utterances can be used; see above")
    utterances = [stand_in if u is None else u for u in found]
    for u in utterances if config.task == "contour" else ():
        store.check_contour(u)
    if config.task == "prosody":
        batch = prosody_batch(utterances, store.stats, bucket)
    else:
        crops = [
            crop_frames(whole(u, store.stats), bucket, config.data, at) for u, at in zip(utterances, crop, strict=True)
        ]
        batch = acoustic_batch(crops, store.stats, config.data.max_phonemes, bucket, config.task == "contour")
    for row, u in enumerate(found):
        if u is None:
            for values in batch.values():
                values[row] = 0
    return batch


def readable(store: FeatureStore, position: int) -> Features | None:
    """An utterance, or None where its record is damaged or not finite, which is logged once."""
    try:
        (u,) = store.read([position])
    except UserError as error:
        _left_out(str(error))
        return None
    if np.isfinite(u.mel).all() and np.isfinite(u.log_f0[u.voiced]).all():
        return u
    _left_out(f"utterance {store.index[position].id} in {store.root}: its mel or f0 is not finite")
    return None


@functools.cache
def _left_out(why: str) -> None:
    log.warning("%s; left out, training goes on without it", why)


def prosody_batch(utterances: Sequence[Features], stats: Stats, positions: int) -> dict[str, np.ndarray]:
    """Batch of the prosody task, padded to `positions` phonemes; log_f0 is normalised by speaker, 0 where unvoiced;
    energy is there where utterances and statistics have it."""
    batch = _phoneme_arrays(utterances, stats, positions) | {"places": _stack([*map(_places, utterances)], positions)}
    log_f0 = stats.normalise_log_f0(_stack([u.log_f0 for u in utterances], positions), batch["speaker"])
    log_f0 = np.where(batch["voiced"], log_f0, 0).astype(np.float32)
    return batch | {"log_f0": log_f0, "log_f0_std": stats.log_f0_std[batch["speaker"]]}


@dataclass(frozen=True)
class Crop:
    """Part of an utterance: `features` holds some of its phonemes, and mel frames that start `offset` frames into the
    first; `log_f0` [N] is normalised by speaker and interpolated through unvoiced phonemes; `places` [N, 3] are those
    in the whole."""

    features: Features
    log_f0: np.ndarray
    places: np.ndarray
    offset: int = 0


def whole(u: Features, stats: Stats) -> Crop:
    """All of an utterance."""
    log_f0 = stats.normalise_log_f0(u.log_f0, np.asarray(u.speaker))
    # A recording may lack the f0 of a phoneme that counts as voiced by its class.
    return Crop(u, interpolate_unvoiced(log_f0, u.voiced & ~np.isnan(log_f0)), _places(u))


def crop_frames(uncropped: Crop, frames: int, data: Data, at: float) -> Crop:
    """`frames` frames of an utterance from the share `at` of what can be chosen, with the phonemes around them."""
    u = uncropped.features
    if len(u.mel) <= frames and len(u.phoneme) <= data.max_phonemes:
        return uncropped
    start = int(at * (max(len(u.mel) - frames, 0) + 1))
    stop = min(start + frames, len(u.mel))
    ends = np.cumsum(u.duration)
    first, last = np.searchsorted(ends, [start, stop - 1], side="right")
    last = min(last + 1, first + data.max_phonemes)
    context = min(data.context, (data.max_phonemes - (last - first)) // 2)
    window = slice(max(first - context, 0), last + context)
    names = ("phoneme", "stress", "edge", "punctuation", "duration", "log_f0", "voiced")
    of_frames = slice(start, min(stop, ends[last - 1]))
    energy, contour = (x if x is None else x[part] for x, part in ((u.energy, window), (u.contour, of_frames)))
    given = {n: getattr(u, n)[window] for n in names}
    features = replace(u, mel=u.mel[of_frames], energy=energy, contour=contour, **given)
    places = uncropped.places[window]
    return Crop(features, uncropped.log_f0[window], places, start - int(ends[window.start] - u.duration[window.start]))


def acoustic_batch(
    crops: Sequence[Crop], stats: Stats, positions: int, frames: int, contour: bool = False
) -> dict[str, np.ndarray]:
    """Batch of the acoustic task, padded; of the contour task with `contour`, 0 where unvoiced."""
    utterances = [c.features for c in crops]
    batch = _phoneme_arrays(utterances, stats, positions)
    offset = np.array([c.offset for c in crops])
    if contour:
        contours = [stats.normalise_log_f0(u.contour, np.asarray(u.speaker)) for u in utterances]
        batch |= {"contour": _stack([np.nan_to_num(x) for x in contours], frames)}
        batch |= {"contour_voiced": _stack([np.isfinite(x) for x in contours], frames)}
    return (
        batch
        | frame_arrays(batch["duration"], offset, frames)
        | {
            "log_f0": _stack([c.log_f0 for c in crops], positions),
            "places": _stack([c.places for c in crops], positions),
            "mel": _stack([stats.normalise_mel(u.mel) for u in utterances], frames),
            "frames": np.array([len(u.mel) for u in utterances], np.int32),
        }
    )


def frame_arrays(duration: np.ndarray, offset: np.ndarray, frames: int) -> dict[str, np.ndarray]:
    """duration [B, N], offset [B] -> frame_phoneme [B, T], the phoneme each frame lies in, and frame_position [B, T] in
    it."""
    ends = np.cumsum(duration, 1)
    time = offset[:, None] + np.arange(frames)
    phoneme = np.minimum(np.sum(time[:, :, None] >= ends[:, None], 2), duration.shape[1] - 1)
    start = np.take_along_axis(ends - duration, phoneme, 1)
    return {"frame_phoneme": phoneme.astype(np.int32), "frame_position": (time - start).astype(np.int32)}


def _places(u: Features) -> np.ndarray:
    return places(u.phoneme, u.stress, u.edge, u.punctuation)


def _phoneme_arrays(utterances: Sequence[Features], stats: Stats, positions: int) -> dict[str, np.ndarray]:
    names = ("phoneme", "stress", "edge", "punctuation", "duration")
    batch = {n: _stack([getattr(u, n) for u in utterances], positions).astype(np.int32) for n in names}
    if stats.energy_mean is not None and all(u.energy is not None for u in utterances):
        batch["energy"] = _stack([stats.normalise_energy(u.energy) for u in utterances], positions)
    if utterances[0].speaker_embedding is not None:
        batch["speaker_embedding"] = np.stack([u.speaker_embedding for u in utterances])
    return batch | {
        "voiced": _stack([u.voiced for u in utterances], positions),
        "length": np.array([len(u.phoneme) for u in utterances], np.int32),
        "speaker": np.array([u.speaker for u in utterances], np.int32),
        "style": np.array([u.style for u in utterances], np.int32),
    }


def _stack(rows: Sequence[np.ndarray], length: int) -> np.ndarray:
    """Rows [n, ...] padded with zeros -> [B, length, ...]."""
    out = np.zeros((len(rows), length, *rows[0].shape[1:]), rows[0].dtype)
    for padded, row in zip(out, rows, strict=True):
        padded[: len(row)] = row
    return out


def _pad_rows(x: np.ndarray, rows: int) -> np.ndarray:
    return np.concatenate([x, np.zeros((rows - len(x), *x.shape[1:]), x.dtype)])
