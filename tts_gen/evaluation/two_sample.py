"""Classifier two-sample test (Lopez-Paz and Oquab 2017): can generated prosody be told from the oracle's, in context?

Every phoneme that is no pause is one example, of generated prosody or of the oracle's, described by its surroundings
(`describe`). A logistic regression on these and their products is trained on some groups of utterances and asked about
the others; the share of right answers is 0.5 where the two cannot be told apart. Both prosodies of an utterance lie in
one fold, so neither text nor speaker helps. With products it is the best test of Gaussian sequences of different
covariance (noise that does not know its neighbours, flat melodies), and a weak one of anything odder.
"""

import numpy as np

from tts_gen.evaluation import utterance_metrics
from tts_gen.evaluation.utterance_metrics import counts, starts

FOLDS = 5
MOST_UTTERANCES = 1000
"""of more, so many are drawn: accuracy is known to a per cent by then"""
REGULARISATION = 0.1
"""inverse strength of the penalty on squared weights, inputs standardised"""


def describe(
    log_f0: np.ndarray, duration: np.ndarray, voiced: np.ndarray, pause: np.ndarray, utterance: np.ndarray,
    phone_class: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """[m, 14] of the m non-pause phonemes, from flat arrays [n]; what is missing (f0 of unvoiced phonemes, neighbours
    beyond the ends) counts as 0.

    Of log-f0 and of log-duration: the value less the utterance's mean, that mean, the differences to the neighbour on
    either side and to the one after the next (log-f0: voiced ones); voiced, vowel, first and last fifth."""
    parts = []
    for x, valid in ((log_f0, voiced & ~pause), (np.log(np.maximum(duration, 0.5)), ~pause)):
        at = np.flatnonzero(valid)
        value, ids = x[at], utterance[at]
        found = np.zeros((len(x), 5))
        if len(at):
            mean = np.repeat(utterance_metrics.mean(value, ids), counts(ids))
            found[at, 0], found[at, 1] = value - mean, mean
            for column, lag in ((2, 1), (3, -1), (4, 2)):
                there = np.flatnonzero(ids == np.roll(ids, -lag))
                there = there[(there + lag >= 0) & (there + lag < len(ids))]
                found[at[there], column] = value[there + lag] - value[there]
        parts.append(found)
    ends = [np.arange(length) / length for length in counts(utterance)] if len(starts(utterance)) else [np.zeros(0)]
    place = np.concatenate(ends)
    labels = (voiced, phone_class == "vowel", place < 0.2, place >= 0.8)
    return np.column_stack((*parts, *labels)).astype(float)[~pause]


def right_answers(examples: np.ndarray, label: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Whether a classifier that never saw an example's group labels it rightly, [m] bool.

    examples [m, d]; label [m] bool; group [m]: at most FOLDS folds hold whole groups. Raises ValueError for fewer than
    two groups."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import PolynomialFeatures, StandardScaler

    folds = min(FOLDS, len(np.unique(group)))
    if folds < 2:
        raise ValueError("one group: a classifier can neither be trained nor asked without the other")
    classifier = LogisticRegression(C=REGULARISATION, class_weight="balanced", max_iter=100, tol=1e-3)
    model = make_pipeline(StandardScaler(), PolynomialFeatures(2, include_bias=False), StandardScaler(), classifier)
    return cross_val_predict(model, examples, label, groups=group, cv=GroupKFold(folds)) == label
