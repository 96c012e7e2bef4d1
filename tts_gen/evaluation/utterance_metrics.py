"""What has an order in time: differences between neighbours, and the melody and pace of whole utterances.

A statistic of utterances is one value for each, [..., U] of flat values [..., n] (leading axes: samples); `utterance`
[n] holds ids, each utterance contiguous and in order of time. The values are the pool's alone (log-f0: voiced,
non-pause phonemes; rate: non-pause phonemes), and every utterance must have FEWEST of them, else there is no melody to
speak of.
"""

import numpy as np

FEWEST = 4
"""pooled phonemes that an utterance needs; others have no statistics and are not counted in `n`"""
BEFORE_LAST = 3
"""phonemes that the last one is compared with"""

MEANING = {
    "utt_mean_log_f0": "mean of log-f0",
    "utt_range_log_f0": "highest - lowest log-f0",
    "utt_slope_log_f0": "slope of log-f0 over the utterance, per phoneme",
    "utt_final_log_f0": "last log-f0 - mean of the three before it",
    "utt_rate": "phonemes per second, pauses left out",
}
"""The statistics by feature name; log-f0 in the unit that it is given in."""


def pairs(utterance: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (left, right) of neighbours within an utterance among the `valid` positions [n] bool."""
    positions = np.flatnonzero(valid)
    left, right = positions[:-1], positions[1:]
    same = np.asarray(utterance)[left] == np.asarray(utterance)[right]
    return left[same], right[same]


def differences(x: np.ndarray, utterance: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """First differences of x [..., n] within an utterance, over the pool `valid` [n]; what lies outside the pool is
    skipped."""
    left, right = pairs(utterance, valid)
    x = np.asarray(x, float)
    return x[..., right] - x[..., left]


def starts(utterance: np.ndarray) -> np.ndarray:
    """Where each utterance begins, [U]."""
    utterance = np.asarray(utterance)
    return np.flatnonzero(np.concatenate(([True], utterance[1:] != utterance[:-1]))) if utterance.size else np.arange(0)


def counts(utterance: np.ndarray) -> np.ndarray:
    """Positions of each utterance, [U]."""
    return np.diff(np.append(starts(utterance), len(utterance)))


def long_enough(utterance: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """`valid` [n] without the utterances that have fewer than FEWEST valid positions."""
    ids, index = np.unique(utterance, return_inverse=True)
    return valid & (np.bincount(index, valid, minlength=len(ids)) >= FEWEST)[index]


def statistic(feature: str, x: np.ndarray, position: np.ndarray, utterance: np.ndarray) -> np.ndarray:
    """The statistic that MEANING lists, [..., U]: x [..., n] is log-f0, or of utt_rate durations in seconds; position
    [n] counts phonemes."""
    if not len(utterance):
        return x[..., :0]
    of_log_f0 = {"utt_mean_log_f0": mean, "utt_range_log_f0": value_range, "utt_final_log_f0": final_movement}
    if feature == "utt_slope_log_f0":
        return slope(x, position, utterance)
    return rate(x, utterance) if feature == "utt_rate" else of_log_f0[feature](x, utterance)


def mean(x: np.ndarray, utterance: np.ndarray) -> np.ndarray:
    """Mean over the utterance's pooled phonemes, each alike."""
    return np.add.reduceat(x, starts(utterance), axis=-1) / counts(utterance)


def value_range(x: np.ndarray, utterance: np.ndarray) -> np.ndarray:
    """Highest - lowest value: the pitch range. It grows with the length of the utterance; compare equal texts."""
    at = starts(utterance)
    return np.maximum.reduceat(x, at, axis=-1) - np.minimum.reduceat(x, at, axis=-1)


def slope(x: np.ndarray, position: np.ndarray, utterance: np.ndarray) -> np.ndarray:
    """Least-squares slope of the values over `position` [n], unit of x per phoneme: declination.

    Per phoneme and not per second, so that it is a property of f0 alone: generated durations play no part."""
    at, count = starts(utterance), counts(utterance)
    centred = position - np.repeat(np.add.reduceat(position.astype(float), at) / count, count)
    return np.add.reduceat(x * centred, at, axis=-1) / np.add.reduceat(centred**2, at)


def final_movement(x: np.ndarray, utterance: np.ndarray) -> np.ndarray:
    """Last value - mean of the BEFORE_LAST values before it: the rise of a question, the fall of a statement."""
    last = np.append(starts(utterance)[1:], len(utterance)) - 1
    before = np.mean([x[..., last - i] for i in range(1, BEFORE_LAST + 1)], axis=0)
    return x[..., last] - before


def rate(seconds: np.ndarray, utterance: np.ndarray) -> np.ndarray:
    """Phonemes / sum of their durations, per second: articulation rate, since pauses are not in the pool."""
    total = np.add.reduceat(seconds, starts(utterance), axis=-1)
    return np.divide(counts(utterance), total, out=np.full(total.shape, np.nan), where=total > 0)
