"""A little of SSML: breaks, rate and pitch of a part, phones of a word.

    Please <break time="400ms"/> <prosody rate="70%" pitch="+3st">hold</prosody> the
    <phoneme ph="L AY1 N">line</phoneme>.

`rate` is a percentage of the pace, `pitch` in semitones ("+3st") or percent ("-10%"); parts may lie in one another.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from tts_gen import text
from tts_gen.config import UserError
from tts_gen.features.durations import round_durations
from tts_gen.features.store import Features
from tts_gen.runs import Run
from tts_gen.synthesis import Controls, encode, words

ATTRIBUTES = {"speak": (), "break": ("time",), "prosody": ("rate", "pitch"), "phoneme": ("ph", "alphabet")}
LONGEST = 10.0
"""seconds of a break"""


@dataclass
class Marked:
    """Phonemes, and of each how much faster, how many semitones higher; of a break how many seconds, else NaN."""

    phonemes: list[text.Phoneme] = field(default_factory=lambda: [text.Phoneme(text.PAUSE)])
    rate: list[float] = field(default_factory=lambda: [1.0])
    semitones: list[float] = field(default_factory=lambda: [0.0])
    seconds: list[float] = field(default_factory=lambda: [np.nan])

    def add(self, phoneme: text.Phoneme, rate: float = 1.0, semitones: float = 0.0, seconds: float = np.nan) -> None:
        if phoneme.symbol == text.PAUSE == self.phonemes[-1].symbol:  # one pause, as long as the break that was asked
            self.seconds[-1] = seconds if np.isnan(self.seconds[-1]) else np.nansum([self.seconds[-1], seconds])
            return
        columns = (self.phonemes, self.rate, self.semitones, self.seconds)
        for column, value in zip(columns, (phoneme, rate, semitones, seconds), strict=True):
            column.append(value)


def read(sentence: str, run: Run, controls: Controls) -> tuple[Features, Marked]:
    """Phonemes of a sentence with markup, without prosody yet. Raises UserError for what is not understood, which it
    names."""
    try:
        marked = Marked()
        for part, rate, semitones in _parts(_tree(sentence), 1.0, 0.0):
            if isinstance(part, float):
                marked.add(text.Phoneme(text.PAUSE), seconds=part)
                continue
            for word in _words(part, marked, run, controls) if isinstance(part, str) else [part]:
                for phoneme in text.word_phonemes(word.variants[0], word.punctuation):
                    marked.add(phoneme, rate, semitones)
                if word.punctuation:
                    marked.add(text.Phoneme(text.PAUSE))
        if len(marked.phonemes) == 1:
            raise UserError("nothing to say; give at least one word")
        marked.add(text.Phoneme(text.PAUSE))
        return encode(marked.phonemes, run, controls), marked
    except RecursionError as error:
        raise UserError(f"text {sentence[:80]!r}: tags lie too deep in one another") from error
    except UserError as error:
        raise UserError(f"text {sentence!r}: {error}") from error


def apply(spoken: Features, marked: Marked, frame_seconds: float) -> Features:
    """Prosody as the marks say."""
    frames = np.maximum(spoken.duration / np.array(marked.rate), 0.5)
    breaks = np.array(marked.seconds) / frame_seconds
    duration = round_durations(np.where(np.isnan(breaks), frames, np.maximum(breaks, 1)) + 0.5)
    log_f0 = (spoken.log_f0 + np.array(marked.semitones) * np.log(2) / 12).astype(np.float32)
    mel = np.zeros((duration.sum(), spoken.mel.shape[1]), np.float32)
    return replace(spoken, duration=duration, log_f0=log_f0, mel=mel)


def _tree(sentence: str) -> ET.Element:
    if "<!" in sentence or "<?" in sentence:
        raise UserError("declarations and comments (<! and <?) are not read")
    whole = sentence.lstrip().startswith("<speak")
    try:
        return ET.fromstring(sentence if whole else f"<speak>{sentence}</speak>")
    except ET.ParseError as error:
        raise UserError(f"malformed markup ({error}); every tag is closed, & is written &amp; and < &lt;") from error


def _parts(node: ET.Element, rate: float, semitones: float) -> Iterator[tuple[str | float | text.Word, float, float]]:
    """Text, seconds of a break, or a word in phones; with its rate and shift."""
    if node.tag not in ATTRIBUTES:
        raise UserError(f"unknown tag <{node.tag}>; valid are {', '.join(f'<{tag}>' for tag in ATTRIBUTES)}")
    if unknown := node.attrib.keys() - set(ATTRIBUTES[node.tag]):
        valid = ", ".join(ATTRIBUTES[node.tag]) or "none"
        raise UserError(f"<{node.tag}> has no {', '.join(sorted(unknown))}; valid: {valid}")
    if len(node) and node.tag in ("break", "phoneme") or node.tag == "break" and (node.text or "").strip():
        raise UserError(f"<{node.tag}> may hold no {'text or ' if node.tag == 'break' else ''}tags")
    if node.tag == "break":
        yield _number(node, "time", r"([\d.]+)(ms|s)", {"ms": 0.001, "s": 1.0}, (0.0, LONGEST)), rate, semitones
        return
    if node.tag == "phoneme":
        if not node.get("ph", "").split():
            raise UserError('<phoneme> lacks ph, as in ph="HH AH0 L OW1"')
        yield text.Word(node.text or "", (tuple(node.get("ph").split()),), ""), rate, semitones
        return
    if "rate" in node.attrib:
        rate *= _number(node, "rate", r"([\d.]+)(%)", {"%": 0.01}, (0.1, 10.0))
    if "pitch" in node.attrib:
        if node.get("pitch").endswith("%"):
            change = _number(node, "pitch", r"([+-][\d.]+)(%)", {"%": 0.01}, (-0.75, 3.0))
            semitones += 12 * float(np.log2(1 + change))
        else:
            semitones += _number(node, "pitch", r"([+-][\d.]+)(st)", {"st": 1.0}, (-24.0, 24.0))
    if not (0.1 <= rate <= 10 and abs(semitones) <= 24):
        raise UserError(f"parts in one another make a rate of {rate:.0%} and {semitones:+.0f} semitones; "
                        "at most 10 times faster or slower, and 24 semitones")  # fmt: skip
    if node.text:
        yield node.text, rate, semitones
    for child in node:
        yield from _parts(child, rate, semitones)
        if child.tail:
            yield child.tail, rate, semitones


def _number(node: ET.Element, name: str, form: str, units: dict[str, float], limits: tuple[float, float]) -> float:
    found = re.fullmatch(form, node.get(name, ""))
    try:
        value = float(found[1]) * units[found[2]] if found else np.nan
    except ValueError:  # as of 1.2.3
        value = np.nan
    if not limits[0] <= value <= limits[1]:
        examples = {"time": '"300ms" to "10s"', "rate": '"10%" to "1000%"', "pitch": '"-24st" to "+24st", or "+10%"'}
        raise UserError(f"<{node.tag} {name}={node.get(name, '')!r}>: give {examples[name]}")
    return value


def _words(part: str, marked: Marked, run: Run, controls: Controls) -> list[text.Word]:
    """Of a part of a sentence, which may begin with the mark after the word before it, or be nothing else."""
    leading = re.match(r"\s*([,.?!:;]?)\s*", part)
    last, rest = marked.phonemes[-1], part[leading.end() :]
    if leading[1] and last.symbol != text.PAUSE:
        _punctuate(marked, leading[1])
        marked.add(text.Phoneme(text.PAUSE))
    return words(rest, run, controls) if rest.strip() else []


def _punctuate(marked: Marked, mark: str) -> None:
    """Gives the last word its mark: all its phones have it."""
    for i in reversed(range(len(marked.phonemes))):
        marked.phonemes[i] = replace(marked.phonemes[i], punctuation=text.PUNCTUATION.index(mark))
        if marked.phonemes[i].edge & text.FIRST:
            return
