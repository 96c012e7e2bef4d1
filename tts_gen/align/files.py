"""Alignment files of other aligners, to segments: TextGrid (`.TextGrid`), label files (`.lab`) and CTM (`.ctm`)."""

import difflib
import functools
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tts_gen.align import Segment, ctm, joined_pauses, lab, textgrid
from tts_gen.align.tiers import Interval, is_pause
from tts_gen.config import UserError
from tts_gen.text import FIRST, LAST, PAUSE, PUNCTUATION, Phoneme, word_phonemes

FORMATS = (".TextGrid", ".lab", ".ctm")
"""by the ending of the file's name, upper or lower case"""
TOLERANCE = 0.05
"""seconds by which the file's end and the audio's may differ, since aligners round to their frames: the last segment is
stretched or cut by as much"""
SLIP = 0.005
"""seconds: a gap or overlap up to it comes of rounded times, and is closed"""

_log = logging.getLogger(__name__)


def read(
    path: str | Path, duration: float, name: str = "", speaker: str | None = None, text: str = ""
) -> list[Segment]:
    """Segments of an alignment file for audio of `duration` seconds.

    `name`: the recording's in a CTM file; `speaker`: whose tiers of a TextGrid; `text`: where punctuation comes from
    when the file has none. Phones are taken as they come. Empty labels and those of silence are pauses, and so are
    gaps; in a CTM file, also what is left at the end. Raises UserError for a file that is missing, malformed, without a
    phone, or of another length.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such alignment file; correct the manifest's field alignment")
    match path.suffix.lower():
        case ".textgrid":
            tiers = textgrid.read(path, speaker)
        case ".lab":
            tiers = lab.read(path)
        case ".ctm":
            tiers = ctm.read(path, name)
        case ending:
            raise UserError(f"{path}: alignment files end in {', '.join(FORMATS)}, not in {ending or 'nothing'}")
    if tiers.end is not None and abs(tiers.end - duration) > TOLERANCE:
        raise UserError(f"{path}: ends at {tiers.end:.3f} s but its audio at {duration:.3f} s; align this audio again")
    if all(is_pause(label) for _, _, label in tiers.phones):
        raise UserError(f"{path}: holds no phone, only pauses")
    if not tiers.words:
        _say_no_words(path.parent, path.suffix)
    words = _punctuated(tiers.words, text)
    return _with_words(_contiguous(tiers.phones, duration, path), words)


@functools.cache
def _say_no_words(folder: Path, ending: str) -> None:
    """Once for each folder: it holds for all its files."""
    _log.warning("%s: *%s tells no words, so its phonemes have no word edges", folder, ending)


def _contiguous(phones: Sequence[Interval], duration: float, path: Path) -> list[Segment]:
    """From 0 to `duration`: gaps become pauses, neighbouring pauses one. A phone keeps its place though nothing be left
    of it."""
    segments: list[Segment] = []
    time = 0.0
    for start, end, label in phones:
        if not start <= end or start < time - SLIP or end > duration + TOLERANCE:
            raise UserError(
                f"{path}: {label!r} from {start:.3f} to {end:.3f} s overlaps the one before, ends before it starts, "
                f"or lies outside the audio (0 to {duration:.3f} s)"
            )
        if not is_pause(label) and len(label.split()) > 1:
            raise UserError(f"{path}: {label!r} at {start:.3f} s holds a space; give every phone its own interval")
        start, end = min(start, duration), min(max(end, time), duration)
        if start > time + SLIP:
            segments.append(Segment(Phoneme(PAUSE), time, start))
            time = start
        if not is_pause(label):
            segments.append(Segment(replace(*word_phonemes([label.strip()]), edge=0), time, end))
        elif end > time:
            segments.append(Segment(Phoneme(PAUSE), time, end))
        time = end
    if duration - time > TOLERANCE:
        segments.append(Segment(Phoneme(PAUSE), time, duration))
    segments[-1] = replace(segments[-1], end=duration)
    return joined_pauses(segments)


def _punctuated(words: Sequence[Interval], text: str) -> list[Interval]:
    """The words, without silences. Where no label ends in a mark, as MFA's do not, those of `text` are put there."""
    words = [word._replace(label=word.label.strip()) for word in words if not is_pause(word.label)]
    spoken = [token for token in text.split() if any(map(str.isalnum, token))]
    if any(_mark(word.label) for word in words):
        return words
    found, said = [_bare(word.label) for word in words], [_bare(token) for token in spoken]
    pairs = [(i, i) for i in range(len(found))] if len(found) == len(said) else []
    for block in [] if pairs else difflib.SequenceMatcher(None, found, said, autojunk=False).get_matching_blocks():
        pairs += [(block.a + i, block.b + i) for i in range(block.size)]
    for i, j in pairs:
        words[i] = words[i]._replace(label=words[i].label + _mark(spoken[j]))
    return words


def _mark(word: str) -> str:
    """The mark of PUNCTUATION at its end, behind quotes and brackets, or ""."""
    last = word.rstrip("\"'”’»)]")[-1:]
    return last if last in PUNCTUATION else ""


def _bare(word: str) -> str:
    return "".join(filter(str.isalnum, word.lower()))


def _with_words(segments: list[Segment], words: Sequence[Interval]) -> list[Segment]:
    """The segments with the edges, text and punctuation of the word that holds the middle of each."""
    owner = []  # the word's position, or None
    for s in segments:
        middle = (s.start + s.end) / 2
        inside = (i for i, w in enumerate(words) if w.start <= middle < w.end)
        owner.append(None if s.phoneme.symbol == PAUSE else next(inside, None))
    labelled = []
    for s, before, word, after in zip(segments, [None, *owner], owner, [*owner[1:], None]):
        if word is not None:
            edge = FIRST * (before != word) + LAST * (after != word)
            mark = _mark(words[word].label)
            phoneme = replace(s.phoneme, edge=edge, punctuation=PUNCTUATION.index(mark))
            s = replace(s, phoneme=phoneme, word=words[word].label.removesuffix(mark))
        labelled.append(s)
    return labelled
