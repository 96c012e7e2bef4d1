"""Praat's TextGrid files, as Praat, the Montreal Forced Aligner and (Web)MAUS write them.

Praat reads the free-standing numbers, "texts" and <flags> of a file and passes over all else, so the long format is the
short one with remarks (https://www.fon.hum.uva.nl/praat/manual/TextGrid_file_formats.html). So does `read`.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from tts_gen.align import Segment
from tts_gen.align.tiers import Interval, Tiers, number, read_text
from tts_gen.config import UserError
from tts_gen.text import FIRST, LAST, PAUSE, PUNCTUATION, spelled

PHONE_TIERS = ("phones", "phone", "phonemes", "mau")
WORD_TIERS = ("words", "word", "ort-mau", "ort")

_TOKEN = re.compile(r'!.*|"((?:[^"]|"")*)"|<[^>\s]*>|(?<!\S)(-?\d\S*)|[^\s"]+')  # remark, text, flag, number, the rest


def read(path: Path, speaker: str | None = None) -> Tiers:
    """The tiers named as one of PHONE_TIERS and WORD_TIERS, upper or lower case, also after a speaker's name as in
    "anna - phones"; of several speakers, those of `speaker`. Raises UserError for a file that is malformed, or has no
    such tier of phones, or several."""
    start, end, tiers = _tiers(path)

    def find(names: tuple[str, ...]) -> Sequence[Interval] | None:
        for name in names:
            found = [(who, intervals) for who, what, intervals in tiers if what == name]
            own = [intervals for who, intervals in found if who == (speaker or "").lower()]
            if own or len(found) == 1:
                return (own or [found[0][1]])[0]
            if found:
                raise UserError(
                    f"{path}: tiers {name} of {', '.join(who or 'no one' for who, _ in found)}; "
                    "set the manifest's field speaker to one of them"
                )
        return None

    phones = find(PHONE_TIERS)
    if phones is None:
        names = ", ".join(what for _, what, _ in tiers) or "none"
        raise UserError(f"{path}: no interval tier named {', '.join(PHONE_TIERS)}; it has {names}")
    words = find(WORD_TIERS) or ()
    # An extract may keep the times that it had in a longer file.
    phones, words = ([Interval(s - start, e - start, label) for s, e, label in tier] for tier in (phones, words))
    return Tiers(phones, words, end - start)


def _tiers(path: Path) -> tuple[float, float, list[tuple[str, str, list[Interval]]]]:
    """Start and end of a file, and of each interval tier the speaker, the name (both in lower case), the intervals."""
    tokens = _tokens(read_text(path))

    def text() -> str:
        found = next(tokens, ("end", ""))
        if found[0] != "text":
            raise UserError(f"{path}: not a TextGrid, or cut short; save it again from Praat")
        return found[1]

    def value() -> float:
        found = next(tokens, ("end", "the end of the file"))
        return number(found[1], str(path))

    if text() not in ("ooTextFile", "ooTextFile short") or text() != "TextGrid":
        raise UserError(f"{path}: not a TextGrid that is kept as text; save it again from Praat")
    start, end = value(), value()
    next(tokens, None)  # <exists>
    tiers = []
    for _ in range(int(value())):
        kind, name = text(), text()
        value(), value()
        entries = range(int(value()))
        if kind != "IntervalTier":
            for _ in entries:
                value(), text()
            continue
        speaker, _, name = name.rpartition(" - ")
        intervals = [Interval(value(), value(), text().strip()) for _ in entries]
        tiers.append((speaker.strip().lower(), name.strip().lower(), intervals))
    return start, end, tiers


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    """Kind ("text", "flag" or "number") and value of what Praat reads."""
    for found in _TOKEN.finditer(text):
        if found[1] is not None:
            yield "text", found[1].replace('""', '"')
        elif found[2] is not None:
            yield "number", found[2]
        elif found[0].startswith("<"):
            yield "flag", found[0]


def write(path: Path, segments: Sequence[Segment]) -> None:
    """Tiers "words" and "phones" in Praat's long format, which has no interval without length: raises ValueError for a
    segment that has none.

    A word's label is its text, or where that is not known its phones, with its punctuation.
    """
    if any(s.end <= s.start for s in segments):
        raise ValueError("a segment has no length")
    phones = [Interval(s.start, s.end, "" if s.phoneme.symbol == PAUSE else spelled(s.phoneme)) for s in segments]
    path.write_text(_long({"words": _words(segments), "phones": phones}, segments[-1].end), encoding="utf-8")


def _words(segments: Sequence[Segment]) -> list[Interval]:
    """The words, and intervals with empty labels between them."""
    found: list[Interval] = []
    phones: list[str] = []
    time = 0.0
    for s in segments:
        phones += [] if s.phoneme.symbol == PAUSE else [spelled(s.phoneme)]
        if s.phoneme.edge & FIRST:
            found += [Interval(time, s.start, "")] if s.start > time else []
            time, phones = s.start, phones[-1:]
        if s.phoneme.edge & LAST:
            found.append(Interval(time, s.end, (s.word or " ".join(phones)) + PUNCTUATION[s.phoneme.punctuation]))
            time = s.end
    return [*found, Interval(time, s.end, "")] if s.end > time else found


def _long(tiers: dict[str, list[Interval]], end: float) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", f"xmax = {end} "]
    lines += ["tiers? <exists> ", f"size = {len(tiers)} ", "item []: "]
    for position, (name, intervals) in enumerate(tiers.items(), 1):
        lines += [f"    item [{position}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", f"        xmax = {end} ", f"        intervals: size = {len(intervals)} "]
        for i, interval in enumerate(intervals, 1):
            label = interval.label.replace('"', '""')
            lines += [f"        intervals [{i}]:", f"            xmin = {interval.start} "]
            lines += [f"            xmax = {interval.end} ", f'            text = "{label}" ']
    return "\n".join(lines) + "\n"
