"""What alignment files have in common: intervals of time with a label, for phones and words."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tts_gen.config import UserError
from tts_gen.text import PAUSE

PAUSES = frozenset(("", PAUSE, "sil", "sp", "ssil", "silence", "<sil>", "<eps>", "<p>", "<p:>", "<usb>", "<nib>", "#",
                    "h#", "_"))  # fmt: skip
"""labels, in lower case, that stand for silence on tiers of phones and of words"""


class Interval(NamedTuple):
    """Seconds from the start of the file, and what is said there."""

    start: float
    end: float
    label: str


@dataclass(frozen=True)
class Tiers:
    """What a file says of one utterance, before it is compared with the audio."""

    phones: Sequence[Interval]
    words: Sequence[Interval] = ()
    """empty where the file tells none"""
    end: float | None = None
    """seconds, the length of the audio by the file; None where it does not say"""


def is_pause(label: str) -> bool:
    return label.strip().lower() in PAUSES


def number(text: str, where: str) -> float:
    """Raises UserError for what is not a finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{where}: {text[:40]!r} is not a number")
    return value


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or UTF-16, with or without a byte order mark. Raises UserError for another coding."""
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        coding = "utf-16"
    elif b"\0" in data[:2]:  # the files all start with a character of ASCII
        coding = "utf-16-be" if data[0] == 0 else "utf-16-le"
    else:
        coding = "utf-8-sig"
    try:
        return data.decode(coding)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: neither UTF-8 nor UTF-16 ({error}); save it again as text in UTF-8") from error
