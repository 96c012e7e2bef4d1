"""Durations in whole frames: from segment boundaries in seconds, and from what a model generates."""

from collections.abc import Sequence

import numpy as np

from tts_gen.align import Segment
from tts_gen.config import Audio

MAX_GAP = 2
"""frames by which the last segment may miss the end of the audio: rounding, and the last part of a hop"""


def fit(segments: Sequence[Segment], n_frames: int, audio: Audio) -> np.ndarray:
    """[N] int32 frames, each >= 1, sum == n_frames: boundaries rounded to frames, so that errors do not add up.

    A segment shorter than its rounding takes a frame from the next (at the end: from the one before). Raises ValueError
    when there are more segments than frames, or when they do not follow each other and fill the audio.
    """
    n = len(segments)
    if n > n_frames:
        raise ValueError(f"{n} phonemes in {n_frames} frames")
    starts, ends = np.array([(s.start, s.end) for s in segments]).T / audio.frame_seconds
    if np.abs(starts - np.concatenate([[0.0], ends[:-1]])).max() > 0.5 or (ends < starts).any():
        raise ValueError("segments leave gaps or overlap")
    if abs(ends[-1] - n_frames) > MAX_GAP:
        raise ValueError(
            f"segments end at {ends[-1] * audio.frame_seconds:.3f} s, "
            f"the audio at {n_frames * audio.frame_seconds:.3f} s"
        )
    index = np.arange(1, n + 1)
    boundaries = np.rint(ends).astype(int)
    boundaries = np.maximum.accumulate(np.maximum(boundaries - index, 0)) + index  # each at least one after the last
    boundaries = np.minimum(boundaries, n_frames - n + index)  # and one frame left for each that follows
    boundaries[-1] = n_frames
    return np.diff(boundaries, prepend=0).astype(np.int32)


LONGEST = 258
"""frames, three seconds: a log-duration from far in a distribution's tail must not ask for hours of speech"""


def whole_frames(log_frames: np.ndarray, pace: float = 1.0) -> np.ndarray:
    """Generated log-durations [N], log of frames + U(0, 1), as whole frames [N] int32 at `pace` (2: twice as fast)."""
    frames = np.exp(np.clip(np.asarray(log_frames, np.float64), np.log(1e-3), np.log(LONGEST)))
    return round_durations(frames if pace == 1 else np.maximum((frames - 0.5) / pace, 0.5) + 0.5)


def round_durations(frames: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """Whole frames, [..., N] int32, each >= 1, from dequantised ones, frames[..., N] = exp(log-duration) = d + U(0, 1).

    floor() undoes the dequantisation; single frames are then added (subtracted) where the fraction is nearest to the
    next (last) whole number, until the total is round(sum(frames - 1/2)), or N where that is more: so each total errs
    by less than one frame. Positions outside mask[..., N] get 0. Raises ValueError for values that are not finite and
    positive.
    """
    frames = np.asarray(frames, np.float64)
    mask = np.ones(frames.shape, bool) if mask is None else np.asarray(mask, bool)
    valid = frames[mask]
    if not (np.isfinite(valid) & (valid > 0)).all():
        raise ValueError("durations to be rounded are not all finite and positive")
    result = np.zeros(frames.shape, np.int32)
    for row in np.ndindex(frames.shape[:-1]):
        result[row][mask[row]] = _round(frames[row][mask[row]])
    return result


def _round(frames: np.ndarray) -> np.ndarray:
    whole = np.maximum(np.floor(frames), 1).astype(np.int32)
    fraction = frames - np.floor(frames)
    total = max(round(float((frames - 0.5).sum())), len(frames))
    while missing := total - int(whole.sum()):
        if missing > 0:
            candidates = np.argsort(-fraction, kind="stable")
        else:
            candidates = np.argsort(np.where(whole > 1, fraction, np.inf), kind="stable")[: (whole > 1).sum()]
        whole[candidates[: abs(missing)]] += np.sign(missing)
    return whole
