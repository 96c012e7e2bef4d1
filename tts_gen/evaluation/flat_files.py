"""Rows for anyone's prosody: two .npz files of flat arrays over phonemes, n positions, one utterance after the other.

Both: `log_f0`, natural log of Hz (or normalised by speaker, and said so), and `duration`, frames; the generated ones
[n], or [K, n] for K samples. The reference also has `voiced` (bool) and `utterance` (integer ids, each contiguous), and
may have `pause` (bool), `group` (resampled together; utterances by default), `speaker`, `style` and `phone_class`.
Voicing, pauses and labels of the generated file are the reference's.
"""

import dataclasses
from pathlib import Path

import numpy as np

from tts_gen.config import UserError
from tts_gen.evaluation.joint_prosody import joint_floor_rows, joint_rows, two_sample_floor_row, two_sample_row
from tts_gen.evaluation.prosody import Prosody, floor_rows, prosody_rows
from tts_gen.features.files import read_npz

REQUIRED = {"reference": ("log_f0", "duration", "voiced", "utterance"), "generated": ("log_f0", "duration")}
LOG_HERTZ = np.log((20.0, 2000.0))
"""between which the median of log-f0 must lie to be a natural log of Hz"""
SHORTEST = 0.9
"""frames that the median duration must have: whole frames have at least 1, seconds and log-durations far less"""


def rows_of_files(
    reference: Path, generated: Path, frame_seconds: float, normalised: bool = False, seed: int = 0
) -> list[dict]:
    """Rows of `generated`, family its file's name, and of the floor. `normalised`: log_f0 is in units of the speaker's
    standard deviation already; else it is made so, by each speaker's mean and deviation in the reference.

    Raises UserError for files that cannot be read, lack an array, or hold arrays that do not fit one another."""
    arrays = _reference(reference)
    pool = arrays["voiced"] & ~arrays["pause"]
    _check_units(reference, arrays["log_f0"][pool], arrays["duration"][~arrays["pause"]], normalised)
    mean, std = _speaker_statistics(arrays, normalised)
    scale = 1.0 if normalised else std
    log_f0 = np.where(pool, (arrays.pop("log_f0") - mean) / scale, np.nan)
    oracle = Prosody(log_f0=log_f0, log_f0_std=std, frame_seconds=frame_seconds, **arrays)
    log_f0, duration = _generated(generated, reference, oracle)
    _check_units(generated, log_f0[..., pool], duration[..., ~oracle.pause], normalised)
    made = dataclasses.replace(oracle, log_f0=(log_f0 - mean) / scale, duration=duration)
    identity = {"task": "prosody", "family": generated.stem, "corpus": reference.stem, "run": str(generated)}
    identity |= {"seed": seed, "samples": len(np.atleast_2d(log_f0))}
    rows = prosody_rows(made, oracle, identity, seed=seed) + joint_rows(made, oracle, identity, seed=seed)
    rows.append(two_sample_row(made, oracle, identity, seed=seed))
    identity |= {"run": None, "samples": 1}
    rows += floor_rows(oracle, identity, seed) + joint_floor_rows(oracle, identity, seed)
    return [*rows, two_sample_floor_row(oracle, identity, seed)]


def _reference(path: Path) -> dict[str, np.ndarray]:
    """The arrays of Prosody [n], checked, without its units."""
    arrays = _read(path, REQUIRED["reference"])
    n = arrays["utterance"].shape
    if len(n) != 1 or not n[0] or arrays["utterance"].dtype.kind not in "iu":
        raise UserError(f"{path}: utterance is {arrays['utterance'].dtype} {n}; give an integer id for each phoneme")
    given = {"pause": np.zeros(n, bool), "group": arrays["utterance"], "speaker": np.full(n, "unknown")}
    given |= {"style": np.full(n, "unknown"), "phone_class": np.full(n, "other")}
    given |= {name: x for name, x in arrays.items() if name in given or name in REQUIRED["reference"]}
    for name, x in given.items():
        if x.shape != n:
            raise UserError(f"{path}: {name} has shape {x.shape}, utterance {n}; give one value a phoneme")
    utterance = given["utterance"]
    if np.count_nonzero(utterance[1:] != utterance[:-1]) + 1 != len(np.unique(utterance)):
        raise UserError(f"{path}: an id of utterance occurs in several places; put each utterance's phonemes together")
    for name in ("log_f0", "duration"):
        given[name] = _numbers(path, name, given[name])
    for name in ("voiced", "pause"):
        if not np.isin(given[name], (0, 1)).all():
            raise UserError(f"{path}: {name} holds other values than false and true (0 and 1)")
        given[name] = given[name].astype(bool)
    if bad := np.count_nonzero(~((given["duration"] > 0) & np.isfinite(given["duration"]))):
        raise UserError(f"{path}: duration holds {bad} values that are no positive number of frames")
    if bad := np.count_nonzero(~np.isfinite(given["log_f0"][given["voiced"] & ~given["pause"]])):
        raise UserError(f"{path}: log_f0 of {bad} voiced phonemes is not finite; mark them as not voiced")
    return given | {name: given[name].astype(str) for name in ("speaker", "style", "phone_class")}


def _check_units(path: Path, log_f0: np.ndarray, duration: np.ndarray, normalised: bool) -> None:
    """Of what counts in metrics, as far as medians tell units apart."""
    log_f0, duration = log_f0[np.isfinite(log_f0)], duration[np.isfinite(duration)]
    if log_f0.size and not normalised and not LOG_HERTZ[0] < (median := np.median(log_f0)) < LOG_HERTZ[1]:
        raise UserError(
            f"{path}: the median of log_f0 is {median:.3g}, no natural log of Hz; take the log, or give --normalised "
            "for values in units of the speaker's standard deviation"
        )
    if bad := np.count_nonzero(duration < 0):
        raise UserError(f"{path}: duration holds {bad} values below 0; give frames")
    if duration.size and (median := np.median(duration)) < SHORTEST:
        raise UserError(f"{path}: the median of duration is {median:.3g}; give frames, not seconds or their log")


def _speaker_statistics(arrays: dict, normalised: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of log-f0 [n] of each position's speaker; not known of what is normalised."""
    pool, speaker = arrays["voiced"] & ~arrays["pause"], arrays["speaker"]
    mean, std = np.zeros(len(pool)), np.full(len(pool), np.nan if normalised else 1.0)
    if normalised or not pool.any():
        return mean, std
    for name in np.unique(speaker[pool]):
        values = arrays["log_f0"][pool & (speaker == name)]
        mean[speaker == name] = values.mean()
        if np.ptp(values) > 0:  # else the rows tell that the oracle is constant
            std[speaker == name] = values.std()
    return mean, std


def _generated(path: Path, reference: Path, oracle: Prosody) -> tuple[np.ndarray, np.ndarray]:
    """log_f0 and duration, [K, n] or [n]; what is not finite in the pool is for the rows to tell."""
    arrays = _read(path, REQUIRED["generated"])
    log_f0, duration = (_numbers(path, name, arrays[name]) for name in REQUIRED["generated"])
    n = len(oracle.voiced)
    if log_f0.shape != duration.shape or log_f0.ndim not in (1, 2) or log_f0.shape[-1] != n or not log_f0.size:
        raise UserError(
            f"{path}: log_f0 {log_f0.shape} and duration {duration.shape}; {reference} has {n} phonemes: give both as "
            f"[{n}], or [K, {n}] for K samples"
        )
    if "utterance" in arrays and not np.array_equal(arrays["utterance"], oracle.utterance):
        raise UserError(f"{path}: utterance differs from that of {reference}; give the same phonemes in the same order")
    return log_f0, duration


def _read(path: Path, required: tuple[str, ...]) -> dict[str, np.ndarray]:
    arrays = read_npz(path)
    if missing := [name for name in required if name not in arrays]:
        raise UserError(f"{path}: lacks {', '.join(missing)}; it holds {', '.join(arrays) or 'no named arrays'}")
    return arrays


def _numbers(path: Path, name: str, x: np.ndarray) -> np.ndarray:
    if x.dtype.kind not in "iuf":
        raise UserError(f"{path}: {name} is {x.dtype}; give numbers")
    return x.astype(float)
