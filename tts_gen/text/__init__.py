"""Text to phonemes.

`words` normalises and looks up, `phonemes` makes the encoder's input, `parse` and `notation` are its written form.
No audio and no jax here. Phones are ARPAbet when they come from text; manifests may bring any other phone set.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from tts_gen.config import UserError
from tts_gen.text.classes import ARPABET_VOWELS, PAUSE, phone_class
from tts_gen.text.normalise import PUNCTUATION, normalise
from tts_gen.text.pronounce import pronounce

__all__ = [
    "FIRST",
    "LAST",
    "PAUSE",
    "PUNCTUATION",
    "WORD_BOUNDARY",
    "Phoneme",
    "Word",
    "notation",
    "parse",
    "phonemes",
    "phone_class",
    "spelled",
    "word_phonemes",
    "words",
]

FIRST, LAST = 1, 2  # bits of Phoneme.edge
WORD_BOUNDARY = "|"


@dataclass(frozen=True)
class Phoneme:
    """The encoder's input at one position."""

    symbol: str
    """phone without stress: "AH", "HH", ..., or PAUSE"""
    stress: int = 0
    """0 none (consonant, pause), 1 unstressed vowel, 2 primary, 3 secondary"""
    edge: int = 0
    """bit 1: first phone of a word, bit 2: last phone of a word (0..3)"""
    punctuation: int = 0
    """index into PUNCTUATION of the mark after the phone's word"""


@dataclass(frozen=True)
class Word:
    text: str
    """as spoken, lower case; a letter that is named has a full stop ("u.")"""
    variants: tuple[tuple[str, ...], ...]
    """pronunciations in ARPAbet with stress digits, most usual first; never empty"""
    punctuation: str
    """the mark of PUNCTUATION after the word"""


def words(text: str) -> list[Word]:
    """The spoken words of English `text` with their pronunciations. Raises UserError for text with nothing to say."""
    found = [Word(word, pronounce(word), mark) for word, mark in normalise(text)]
    if not found:
        raise UserError(f"nothing to say in the text {text!r}; give at least one word")
    return found


def phonemes(words: list[Word], choice: list[int] | None = None, pauses: bool = True) -> list[Phoneme]:
    """Phonemes of `words`; `choice` gives each word's variant (default the first).

    With `pauses`, as in synthesis, a PAUSE stands at the start, at the end and after punctuation.
    """
    choice = choice or [0] * len(words)
    found = [Phoneme(PAUSE)] if pauses else []
    for i, (word, variant) in enumerate(zip(words, choice, strict=True)):
        found += word_phonemes(word.variants[variant], word.punctuation)
        if pauses and (word.punctuation or i == len(words) - 1):
            found.append(Phoneme(PAUSE))
    return found


def word_phonemes(symbols: Sequence[str], punctuation: str = "") -> list[Phoneme]:
    """One word's phones, with the word's edges; stress is written as ARPAbet does ("AH0") or in IPA ("ˈə")."""
    last = len(symbols) - 1
    return [
        Phoneme(*_split_stress(s), FIRST * (i == 0) + LAST * (i == last), PUNCTUATION.index(punctuation))
        for i, s in enumerate(symbols)
    ]


def parse(symbols: Sequence[str]) -> list[Phoneme]:
    """Phonemes from the manifest's notation: phones, "pau", "|" between words, and , . ? ! : ; after a word.

    Raises UserError when it has no phone.
    """
    found: list[Phoneme] = []
    word: list[str] = []
    for symbol in [*symbols, WORD_BOUNDARY]:
        if symbol not in (WORD_BOUNDARY, PAUSE, *PUNCTUATION):
            word.append(symbol)
            continue
        found += word_phonemes(word, symbol if symbol in PUNCTUATION else "")
        word = []
        if symbol == PAUSE:
            found.append(Phoneme(PAUSE))
    if all(p.symbol == PAUSE for p in found):
        raise UserError(f"phonemes: no phone in {' '.join(symbols)!r}; give at least one")
    return found


def notation(phonemes: Sequence[Phoneme]) -> list[str]:
    """The inverse of `parse`."""
    written: list[str] = []
    for phoneme, following in zip(phonemes, [*phonemes[1:], Phoneme(PAUSE)], strict=True):
        written.append(spelled(phoneme))
        if phoneme.edge & LAST:
            mark = PUNCTUATION[phoneme.punctuation]
            written += [mark] if mark else [WORD_BOUNDARY] if following.symbol != PAUSE else []
    return written


def _split_stress(symbol: str) -> tuple[str, int]:
    if symbol[-1:] in tuple("012") and symbol[:-1] in ARPABET_VOWELS:
        return symbol[:-1], int(symbol[-1]) + 1
    bare = re.sub("[ˈˌ]", "", symbol)
    if bare != symbol:
        return bare, 2 if "ˈ" in symbol else 3
    return symbol, int(phone_class(symbol) == "vowel")


def spelled(phoneme: Phoneme) -> str:
    """The phone with its stress, as `word_phonemes` reads it."""
    if phoneme.symbol in ARPABET_VOWELS and phoneme.stress:
        return f"{phoneme.symbol}{phoneme.stress - 1}"
    return ("", "", "ˈ", "ˌ")[phoneme.stress] + phoneme.symbol
