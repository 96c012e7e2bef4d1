"""Means and standard deviations of the training split, and the normalisation made from them."""

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import MISSING, dataclass, fields
from pathlib import Path

import numpy as np

from tts_gen.features.files import read_json, write_json
from tts_gen.features.pooling import pool_energy

MIN_VOICED = 50
"""voiced training phonemes a speaker needs for statistics of their own"""
MIN_LOG_F0_STD = 0.01
"""a sixth of a semitone: keeps a monotone (synthetic) voice from a division by nearly 0"""
MIN_MEL_STD = 0.01
"""bins above the band of a recording stand at the clip and hardly vary"""


@dataclass(frozen=True, eq=False)
class Stats:
    """Natural logarithms throughout; float32. S speakers (row 0 = unknown), M mel bins."""

    log_f0_mean: np.ndarray
    """[S] of log(Hz) over voiced phonemes"""
    log_f0_std: np.ndarray
    """[S]"""
    log_duration_mean: np.ndarray
    """[] of log(frames + U(0, 1)) over all phonemes, pauses included"""
    log_duration_std: np.ndarray
    """[]"""
    mel_mean: np.ndarray
    """[M] of log-mel, bin by bin"""
    mel_std: np.ndarray
    """[M]"""
    energy_mean: np.ndarray | None = None
    """[] of pooling.pool_energy over all phonemes, pauses included; None in stores prepared before there was energy"""
    energy_std: np.ndarray | None = None
    """[]"""

    def normalise_log_f0(self, log_f0, speaker):
        """log_f0[..., N], speaker[...] ids -> [..., N] in units of the speaker's standard deviation."""
        return (log_f0 - self.log_f0_mean[speaker][..., None]) / self.log_f0_std[speaker][..., None]

    def denormalise_log_f0(self, values, speaker):
        """Inverse of normalise_log_f0."""
        return values * self.log_f0_std[speaker][..., None] + self.log_f0_mean[speaker][..., None]

    def normalise_log_duration(self, log_duration):
        """log_duration: log(frames + U(0, 1)), any shape."""
        return (log_duration - self.log_duration_mean) / self.log_duration_std

    def denormalise_log_duration(self, values):
        """Inverse of normalise_log_duration."""
        return values * self.log_duration_std + self.log_duration_mean

    def normalise_mel(self, mel):
        """mel[..., T, M]."""
        return (mel - self.mel_mean) / self.mel_std

    def denormalise_mel(self, values):
        """Inverse of normalise_mel."""
        return values * self.mel_std + self.mel_mean

    def normalise_energy(self, energy):
        """Any shape."""
        return (energy - self.energy_mean) / self.energy_std

    def denormalise_energy(self, values):
        """Inverse of normalise_energy."""
        return values * self.energy_std + self.energy_mean

    def to_dict(self) -> dict:
        """Without what is None."""
        return {name: value.tolist() for name, value in vars(self).items() if value is not None}

    @classmethod
    def from_dict(cls, values: dict) -> "Stats":
        names = [f.name for f in fields(cls) if f.name in values or f.default is MISSING]
        return cls(**{name: np.array(values[name], np.float32) for name in names})

    def save(self, path: Path) -> None:
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: Path) -> "Stats":
        return cls.from_dict(read_json(path))


class Moments:
    """Running count, sum and sum of squares of vectors, in float64."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0

    def add(self, total: np.ndarray, squares: np.ndarray, count: int) -> None:
        self.count, self.total, self.squares = self.count + count, self.total + total, self.squares + squares

    def mean_std(self, floor: float) -> tuple[np.ndarray, np.ndarray]:
        mean = self.total / self.count
        return mean, np.sqrt(np.maximum(self.squares / self.count - mean**2, floor**2))


class StatsBuilder:
    """Collects the training split, one utterance at a time."""

    def __init__(self) -> None:
        self.log_f0: dict[str | None, list[np.ndarray]] = defaultdict(list)
        self.log_duration, self.mel, self.energy = Moments(), Moments(), Moments()

    def add(self, speaker: str, log_f0: np.ndarray, duration: np.ndarray, mel: np.ndarray) -> None:
        """log_f0[N] (NaN where unvoiced), duration[N] frames, mel[T, M]."""
        self.log_f0[speaker].append(log_f0[~np.isnan(log_f0)])
        first, second = _dequantised_moments(duration)
        self.log_duration.add(first.sum(), second.sum(), len(duration))
        energy = pool_energy(mel, duration).astype(np.float64)
        self.energy.add(energy.sum(), (energy**2).sum(), len(energy))
        mel = mel.astype(np.float64)
        self.mel.add(mel.sum(0), (mel**2).sum(0), len(mel))

    def stats(self, speakers: Sequence[str]) -> Stats:
        """Rows in the order of `speakers`; with fewer than MIN_VOICED voiced phonemes that of all (logged)."""
        values = {name: np.concatenate(self.log_f0[name]) for name in speakers if self.log_f0[name]}
        pooled = np.concatenate(list(values.values()))
        if not len(pooled):
            logging.getLogger(__name__).warning("no voiced phoneme in the training split: log-f0 is not normalised")
            pooled = np.zeros(1)
        rows = {name: v for name, v in values.items() if len(v) >= MIN_VOICED}
        if few := [name for name in values if name not in rows]:
            logging.getLogger(__name__).warning(
                "fewer than %d voiced training phonemes of %s: their f0 statistics are those of all speakers together",
                MIN_VOICED, ", ".join(few),
            )  # fmt: skip
        rows = [rows.get(name, pooled) for name in speakers]
        duration_mean, duration_std = self.log_duration.mean_std(1e-3)
        mel_mean, mel_std = self.mel.mean_std(MIN_MEL_STD)
        energy_mean, energy_std = self.energy.mean_std(MIN_MEL_STD)
        return Stats.from_dict(
            {
                "log_f0_mean": [row.mean(dtype=np.float64) for row in rows],
                "log_f0_std": [max(row.std(dtype=np.float64), MIN_LOG_F0_STD) for row in rows],
                "log_duration_mean": duration_mean,
                "log_duration_std": duration_std,
                "mel_mean": mel_mean,
                "mel_std": mel_std,
                "energy_mean": energy_mean,
                "energy_std": energy_std,
            }
        )


def _dequantised_moments(duration: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Exact E[log(d + u)] and E[log(d + u)^2] over u ~ U(0, 1), for whole d >= 1."""
    low, high = duration.astype(np.float64), duration + 1.0
    first = [x * np.log(x) - x for x in (low, high)]
    second = [x * np.log(x) ** 2 - 2 * x * np.log(x) + 2 * x for x in (low, high)]
    return first[1] - first[0], second[1] - second[0]
