"""Text front ends of joint models: a text to the ids of a symbol table, as the reference implementation trained on it.

"arpabet" is that of Glow-TTS and Grad-TTS (english_cleaners with the CMU dictionary, from keithito/tacotron, MIT
licence): a word that the dictionary has becomes its first pronunciation, any other its letters. A word with
punctuation after it is looked up with it there, so it is never found, and the weights have learnt it so. "letters"
is the same without the dictionary.
"ipa" is that of Matcha-TTS (english_cleaners2, shivammehta25/Matcha-TTS, MIT licence): espeak-ng's IPA of what stands
between punctuation marks, and the marks.

Numbers, abbreviations and symbols are read by this project's own rules (tts_gen.text.normalise), not the cleaners'.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tts_gen.config import UserError
from tts_gen.corpora import espeak
from tts_gen.text.normalise import normalise
from tts_gen.text.pronounce import in_dictionary, pronounce

MANY = 12
"""speakers that a message lists"""


@dataclass(frozen=True)
class FrontEnd:
    """Text to symbol ids, and the voices that a joint model knows."""

    kind: Literal["arpabet", "letters", "ipa"]
    symbols: tuple[str, ...]
    """ids are positions here; ARPAbet's phones have an "@" before them"""
    blank: int | None = None
    """id put before, between and after the symbols (None: nothing is)"""
    speakers: tuple[str, ...] = ()
    """empty: a single one"""

    def encode(self, text: str) -> np.ndarray:
        """[N] int32. Raises UserError for a text with nothing to say, and one with symbols that are not in the table,
        listing them."""
        try:
            words = normalise(text)
        except UserError as error:
            raise UserError(f"text {text!r}: {error}") from error
        if not words:
            raise UserError(f"nothing to say in the text {text!r}; give at least one word")
        written = _ipa(words) if self.kind == "ipa" else _arpabet(words, self.kind == "arpabet")
        position = {symbol: i for i, symbol in enumerate(self.symbols)}
        # A table may hold capitals alone.
        written = [s.upper() if s not in position and s.upper() in position else s for s in written]
        if missing := sorted(set(written) - set(position)):
            raise UserError(
                f"text {text!r}: this model's {len(position)} symbols lack {' '.join(map(repr, missing))}; "
                "say it otherwise, or convert the checkpoint again with its own table (--symbols FILE)"
            )
        ids = np.array([position[symbol] for symbol in written], np.int32)
        if self.blank is None:
            return ids
        spaced = np.full(2 * len(ids) + 1, self.blank, np.int32)
        spaced[1::2] = ids
        return spaced

    def speaker_id(self, name: str | None) -> int:
        """Raises UserError listing the speakers when `name` is none of them, or is missing where there are several."""
        if not self.speakers and name is not None:
            raise UserError(f"speaker {name!r}: this model has a single speaker; give none")
        if not self.speakers:
            return 0
        if name not in self.speakers:
            listed = ", ".join(self.speakers[:MANY]) + (f", ... {self.speakers[-1]}" * (len(self.speakers) > MANY))
            asked = "several speakers; name one" if name is None else f"no speaker {name!r}"
            raise UserError(f"this model has {asked} (--speaker) of {listed}")
        return self.speakers.index(name)


def _arpabet(words: list[tuple[str, str]], dictionary: bool) -> list[str]:
    written: list[str] = []
    for word, mark in words:
        if dictionary and not mark and in_dictionary(word):
            written += [f"@{phone}" for phone in pronounce(word)[0]]
        else:
            written += [*word.rstrip("."), *mark]  # a letter that is named has a full stop
        written.append(" ")
    return written[:-1]


def _ipa(words: list[tuple[str, str]]) -> list[str]:
    parts, clause = [], []
    for i, (word, mark) in enumerate(words):
        clause.append(word.upper().rstrip(".") if word.endswith(".") else word)
        if mark or i == len(words) - 1:
            parts.append(espeak.ipa(" ".join(clause)) + mark)
            clause = []
    return list(" ".join(parts))
