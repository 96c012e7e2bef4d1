"""Long texts in pieces that a model can speak at once: sentences, or parts of them."""

import re

LONGEST = 200
"""characters: an utterance of training is hardly longer"""
_ENDS = (r"(?<=[.!?…])\s+", r"(?<=[,;:–—])\s+", r"\s+")
"""where a text is divided, best first"""


def pieces(text: str, longest: int = LONGEST) -> list[str]:
    """`text` whole if it has at most `longest` characters, else in pieces of no more, a single longer word excepted,
    divided at ends of sentences, or else at commas, or else between words. One with nothing to say is left out."""
    found = _divided(" ".join(text.split()), longest, _ENDS)
    return [piece for piece in found if any(map(str.isalnum, piece))] or found[:1]


def _divided(text: str, longest: int, ends: tuple[str, ...]) -> list[str]:
    if len(text) <= longest or not ends:
        return [text]
    found: list[str] = []
    for part in re.split(ends[0], text):
        for piece in _divided(part, longest, ends[1:]):
            if found and len(found[-1]) + 1 + len(piece) <= longest:
                found[-1] += f" {piece}"
            else:
                found.append(piece)
    return found
