"""Where a phoneme stands: its word in the phrase, its syllable in the word. From what a store holds, for the encoder.

A phrase is the words between two breaks: a pause, or the end of a word with punctuation. A syllable begins at its
vowel, as stress tells: it is above 0 for every vowel of ARPAbet and IPA, marked or not. Phone sets whose vowels are not
known have no stress, and so no syllables: their third column is 0.
"""

import numpy as np

from tts_gen.text import FIRST

MOST = 8
"""values of a column; what counts further stands at the last"""
COLUMNS = ("phrase_start", "phrase_end", "syllable")


def places(phoneme: np.ndarray, stress: np.ndarray, edge: np.ndarray, punctuation: np.ndarray) -> np.ndarray:
    """[N] each, as in Features, of a whole utterance -> [N, 3] int32, 0 to MOST - 1, in the order of COLUMNS.

    1 + the words of the phrase before the phoneme's own, 1 + those after it, and the vowels of the word up to and with
    the phoneme; 0 in pauses and outside words.
    """
    starts = np.flatnonzero(edge & FIRST)
    if not len(starts):
        return np.zeros((len(phoneme), len(COLUMNS)), np.int32)
    pauses, vowels, number = np.cumsum(phoneme == 0), np.cumsum(stress > 0), np.arange(len(starts))
    breaks = (punctuation[starts[:-1]] > 0) | (np.diff(pauses[starts]) > 0)
    begin = np.maximum.accumulate(np.where(np.concatenate([[True], breaks]), number, 0))
    end = np.minimum.accumulate(np.where(np.concatenate([breaks, [True]]), number, len(starts))[::-1])[::-1]
    before = vowels[starts] - (stress[starts] > 0)
    word = np.cumsum((edge & FIRST) > 0) - 1  # -1: before the first
    found = np.stack([1 + number - begin, 1 + end - number], 1)[word]
    found = np.concatenate([found, (vowels - before[word])[:, None]], 1)
    return np.where(((phoneme == 0) | (word < 0))[:, None], 0, np.minimum(found, MOST - 1)).astype(np.int32)
