"""Forced alignment: where in the audio each phone of a known text lies. `files` reads what other aligners found."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tts_gen.text import PAUSE, Phoneme, Word, phone_class, word_phonemes

SAMPLE_RATE = 16_000  # of the acoustic model
FRAME = 0.01  # seconds from frame to frame of the acoustic model
# Seconds from the start of a frame to the middle between its centre and the one before: frames are 25.625 ms long,
# and a boundary lies between the centres of the frames on its two sides.
BOUNDARY = (0.025625 - FRAME) / 2
PHONE_FLOOR = 0.03  # seconds: its phones have three states, each at least a frame long
MIN_PAUSE = 0.05  # seconds: a shorter silence is the closure of a stop or a slip of the model, not heard as a pause
MAX_SECONDS = 60.0  # longer audio is not one utterance, and memory and time grow with it


@dataclass(frozen=True)
class Segment:
    """A phoneme or pause in time. The segments of an utterance are contiguous, from 0 to the end of its audio."""

    phoneme: Phoneme
    start: float
    """seconds"""
    end: float
    """seconds"""
    score: float | None = None
    """acoustic log-likelihood per frame, in the aligner's own units; None where the times come from elsewhere"""
    word: str = ""
    """the word it belongs to, where that is known"""


class AlignmentError(Exception):
    """One utterance could not be aligned.

    str() is the category: "too short", "too long", "no hypothesis" or "second pass failed".
    """


class Aligner:
    """pocketsphinx with the US English model of its wheel. One instance per process; instances cannot be pickled.

    The first pass finds the words and their variants, the second the phones. Two settings differ from the defaults.
    With `bestpath`, the lattice search, the second pass fails for about a tenth of all utterances. With the default
    beams the first loses the right path in a quarter of synthetic speech and some noisy recordings; wide ones cost a
    third more time.
    """

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        beams = dict.fromkeys(("beam", "pbeam", "wbeam"), 1e-200)
        self._decoder = Decoder(lm=None, dict=None, bestpath=False, loglevel="FATAL", **beams)
        self._names: dict[tuple[tuple[str, ...], ...], str] = {}

    def align(self, wave: np.ndarray, sample_rate: int, words: Sequence[Word]) -> list[Segment]:
        """Segments of `words` in wave[n] (float, -1..1, mono). Raises AlignmentError.

        Pauses stand where the aligner finds silence of at least MIN_PAUSE seconds. Of a
        word's variants the one that fits the audio best is taken; of those that differ in stress only, the first.
        """
        duration = len(wave) / sample_rate
        if duration < PHONE_FLOOR * sum(min(map(len, word.variants)) for word in words) + 2 * FRAME:
            raise AlignmentError("too short")
        if duration > MAX_SECONDS:
            raise AlignmentError("too long")
        self._decoder.reinit_feat()  # forgets the noise estimated on earlier utterances, which would move boundaries
        found = self._decode(_pcm(wave, sample_rate), " ".join(self._name(word) for word in words))
        return _contiguous(_label(found, words), duration)

    def _name(self, word: Word) -> str:
        """The decoder's name for this set of pronunciations, entered in its dictionary at first sight."""
        variants = tuple(dict.fromkeys(_bare(variant) for variant in word.variants))
        if variants not in self._names:
            name = self._names[variants] = f"w{len(self._names)}"
            for i, variant in enumerate(variants, start=1):
                self._decoder.add_word(name if i == 1 else f"{name}({i})", " ".join(variant), update=False)
        return self._names[variants]

    def _decode(self, pcm: bytes, text: str) -> list[tuple[str, list]]:
        """The decoder's words, silences included: name and phones (name, start and duration in frames, score)."""
        self._pass(pcm, "no hypothesis", lambda: self._decoder.set_align_text(text))
        if self._decoder.hyp() is None:
            raise AlignmentError("no hypothesis")
        self._pass(pcm, "second pass failed", self._decoder.set_alignment)
        return [(word.name, list(word)) for word in self._decoder.get_alignment()]

    def _pass(self, pcm: bytes, failure: str, set_search: Callable[[], None]) -> None:
        try:
            set_search()
            self._decoder.start_utt()
            self._decoder.process_raw(pcm, full_utt=True)
            self._decoder.end_utt()
        except RuntimeError as error:
            raise AlignmentError(failure) from error


def _pcm(wave: np.ndarray, sample_rate: int) -> bytes:
    """16-bit samples at the model's rate."""
    import soxr

    resampled = soxr.resample(np.asarray(wave, np.float32), sample_rate, SAMPLE_RATE)
    return (np.clip(resampled, -1, 1) * 32767).astype("<i2").tobytes()


def _bare(pronunciation: Sequence[str]) -> tuple[str, ...]:
    return tuple(phone.rstrip("012") for phone in pronunciation)


def _label(found: list[tuple[str, list]], words: Sequence[Word]) -> list[Segment]:
    """The decoder's words and silences as segments; `_contiguous` sets where the first starts and the last ends."""
    remaining = iter(words)
    segments = []
    for name, phones in found:
        if name.startswith("w"):
            word = next(remaining)
            spoken = next(v for v in word.variants if _bare(v) == tuple(phone.name for phone in phones))
            # A letter that is named has a full stop, which in a file would be the mark after the word.
            text, labels = word.text.removesuffix("."), word_phonemes(spoken, word.punctuation)
        else:  # <s>, <sil>, </s>, [NOISE], [SPEECH]
            text, labels = "", [Phoneme(PAUSE)] * len(phones)
        for label, phone in zip(labels, phones, strict=True):
            start, score = phone.start * FRAME + BOUNDARY, phone.score / max(phone.duration, 1)
            segments.append(Segment(label, start, start + phone.duration * FRAME, score, text))
    if next(remaining, None) is not None:
        raise AlignmentError("second pass failed")
    return segments


def joined_pauses(segments: Sequence[Segment]) -> list[Segment]:
    """The segments, pauses side by side made one."""
    joined: list[Segment] = []
    for is_pause, run in itertools.groupby(segments, key=lambda s: s.phoneme.symbol == PAUSE):
        run = list(run)
        joined += [replace(run[0], end=run[-1].end)] if is_pause else run
    return joined


def _contiguous(segments: list[Segment], duration: float) -> list[Segment]:
    """From 0 to `duration` without gaps: pauses side by side joined, silences too short for one given to a phone."""
    joined = joined_pauses(segments)
    starts = [0.0, *(s.start for s in joined[1:])]
    ends = [*starts[1:], duration]
    kept: list[Segment] = []
    closure = None  # where the silence starts that belongs to the segment after it
    for i, (segment, start, end) in enumerate(zip(joined, starts, ends, strict=True)):
        stop_follows = i + 1 < len(joined) and phone_class(joined[i + 1].phoneme.symbol) in ("stop", "affricate")
        if segment.phoneme.symbol == PAUSE and end - start < MIN_PAUSE:
            if stop_follows or not kept:
                closure = start
            else:
                kept[-1] = replace(kept[-1], end=end)
            continue
        kept.append(replace(segment, start=start if closure is None else closure, end=end))
        closure = None
    return kept
