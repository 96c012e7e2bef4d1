"""Praat's TextGrid files, as the Montreal Forced Aligner and (Web)MAUS write them, to segments and back."""

import itertools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tts_gen.align import Segment
from tts_gen.config import UserError
from tts_gen.text import PAUSE, PUNCTUATION, Phoneme, notation, parse

PHONE_TIERS = ("phones", "phone", "phonemes", "mau")
WORD_TIERS = ("words", "word", "ort-mau", "ort")
_PAUSES = frozenset(("", PAUSE, "sil", "sp", "spn", "<sil>", "<p>", "<p:>", "<usb>", "<nib>"))
_TOLERANCE = 0.05  # seconds by which the file's end and the audio's may differ; aligners round to their frames

_log = logging.getLogger(__name__)


def read(path: str | Path, duration: float) -> list[Segment]:
    """Segments of a TextGrid (long or short format, UTF-8 or UTF-16) for audio of `duration` seconds.

    Phones come from the first tier named as one of PHONE_TIERS, word edges from the first of WORD_TIERS (upper or
    lower case, also after a speaker's name as in "anna - phones"), punctuation from a mark at the end of a word's
    label. Empty labels and those of silence are pauses, and so are gaps. Raises UserError for a file that is missing,
    malformed, without a phone, or of another length.
    """
    from praatio import textgrid
    from praatio.utilities.errors import PraatioException

    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such TextGrid; correct the manifest's field textgrid")
    try:
        grid = textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="silence")
    except (PraatioException, ValueError, IndexError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: not a TextGrid that can be read ({error}); save it again from Praat") from error
    if abs(grid.maxTimestamp - duration) > _TOLERANCE:
        raise UserError(
            f"{path}: ends at {grid.maxTimestamp:.3f} s but its audio at {duration:.3f} s; align this audio again"
        )
    phones = _tier(grid, PHONE_TIERS)
    if phones is None:
        raise UserError(
            f"{path}: no interval tier named {', '.join(PHONE_TIERS)}; it has {', '.join(grid.tierNames) or 'none'}"
        )
    words = _tier(grid, WORD_TIERS)
    if words is None:
        _log.warning("%s: no tier named %s, so its phonemes have no word edges", path, ", ".join(WORD_TIERS))
        words = []
    segments = _fill([Segment(_phoneme(i.label), i.start, i.end) for i in phones], duration)
    if all(s.phoneme.symbol == PAUSE for s in segments):
        raise UserError(f"{path}: no phone on its tier of phones")
    return _with_words(segments, words)


def write(path: str | Path, segments: Sequence[Segment]) -> None:
    """Tiers "words" and "phones" in Praat's long format. A word's label is its phones, with its punctuation."""
    from praatio import textgrid

    duration = segments[-1].end
    grid = textgrid.Textgrid(0, duration)
    spelled = [(s.start, s.end, notation([replace(s.phoneme, edge=0)])[0]) for s in segments]
    grid.addTier(textgrid.IntervalTier("words", _word_intervals(segments), 0, duration))
    grid.addTier(textgrid.IntervalTier("phones", [i for i in spelled if i[2] != PAUSE], 0, duration))
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)


def _tier(grid, names: tuple[str, ...]) -> list | None:
    from praatio.textgrid import IntervalTier

    found = {
        tier.name.split(" - ")[-1].strip().lower(): tier
        for tier in reversed(grid.tiers)
        if isinstance(tier, IntervalTier)
    }
    return next((list(found[name].entries) for name in names if name in found), None)


def _phoneme(label: str) -> Phoneme:
    label = label.strip()
    return Phoneme(PAUSE) if label.lower() in _PAUSES else replace(parse([label])[0], edge=0)


def _fill(segments: list[Segment], duration: float) -> list[Segment]:
    """Contiguous from 0 to `duration`: gaps become pauses, neighbouring pauses one."""
    filled: list[Segment] = []
    time = 0.0
    for segment in [*segments, Segment(Phoneme(PAUSE), duration, duration)]:
        start, end = min(segment.start, duration), min(segment.end, duration)
        if start > time:
            filled.append(Segment(Phoneme(PAUSE), time, start))
        if end > start:
            filled.append(replace(segment, start=start, end=end))
        time = max(time, end)
    joined = []
    for is_pause, run in itertools.groupby(filled, key=lambda s: s.phoneme.symbol == PAUSE):
        run = list(run)
        joined += [replace(run[0], end=run[-1].end)] if is_pause else run
    return joined


def _with_words(segments: list[Segment], words: Sequence) -> list[Segment]:
    """The segments with the edges and punctuation of the word that holds the middle of each."""
    owner = []  # the word's position, or None
    for s in segments:
        middle = (s.start + s.end) / 2
        inside = (
            i for i, w in enumerate(words) if w.start <= middle < w.end and w.label.strip().lower() not in _PAUSES
        )
        owner.append(None if s.phoneme.symbol == PAUSE else next(inside, None))
    labelled = []
    for s, before, word, after in zip(segments, [None, *owner], owner, [*owner[1:], None]):
        if word is not None:
            mark = words[word].label.strip()[-1]
            mark = PUNCTUATION.index(mark) if mark in PUNCTUATION else 0
            s = replace(s, phoneme=replace(s.phoneme, edge=(before != word) + 2 * (after != word), punctuation=mark))
        labelled.append(s)
    return labelled


def _word_intervals(segments: Sequence[Segment]) -> list[tuple[float, float, str]]:
    intervals = []
    start, phones = 0.0, []
    for s in segments:
        if s.phoneme.edge & 1:
            start, phones = s.start, []
        phones.append(s.phoneme)
        if s.phoneme.edge & 2:
            intervals.append((start, s.end, " ".join(p for p in notation(phones) if p != "|")))
    return intervals
