"""All that can be wrong with an utterance, made of a good one; scripts/faulty_corpus.py shows what becomes of it."""

import json
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile
import soxr

from tts_gen.align import Segment, textgrid
from tts_gen.corpora import Utterance
from tts_gen.text import notation

KEPT = "kept"
STRANGE = "qq"
"""a phone that no other utterance has; it is kept and listed in alignment.csv, since any phone set is right"""


@dataclass(frozen=True)
class Base:
    """A good utterance to spoil, and the folder for what is made of it."""

    folder: Path
    utterance: Utterance
    wave: np.ndarray
    """[n] float32"""
    rate: int
    segments: tuple[Segment, ...]

    def sound(self, wave: np.ndarray | None = None, rate: int | None = None, suffix: str = ".wav", **options) -> dict:
        """The field `audio`: a file of that wave, which is the utterance's own where none is given."""
        path = self._new(suffix)
        soundfile.write(path, self.wave if wave is None else wave, rate or self.rate, **options)
        return {"audio": f"faults/{path.name}"}

    def resampled(self, rate: int) -> dict:
        return self.sound(soxr.resample(self.wave, self.rate, rate), rate)

    def raw(self, data: bytes) -> dict:
        path = self._new(".wav")
        path.write_bytes(data)
        return {"audio": f"faults/{path.name}"}

    def bytes(self, **options) -> bytearray:
        return bytearray((self.folder.parent / self.sound(**options)["audio"]).read_bytes())

    def cut(self, **options) -> dict:
        """The first half of a file."""
        data = self.bytes(**options)
        return self.raw(data[: len(data) // 2])

    def patched(self, at: int, value: int) -> dict:
        """A wav file with a number in its header replaced."""
        data = self.bytes(subtype="PCM_16")
        data[at : at + 4] = struct.pack("<I", value)
        return self.raw(data)

    def grid(self, stretch: float = 1.0, encoding: str = "utf-8", edit: Callable[[str], str] = str) -> dict:
        path = self._new(".TextGrid")
        textgrid.write(path, [replace(s, start=stretch * s.start, end=stretch * s.end) for s in self.segments])
        path.write_text(edit(path.read_text(encoding="utf-8")), encoding=encoding)
        return {"alignment": f"faults/{path.name}"}

    def timed(self, *phonemes: str, stretch: float = 1.0) -> dict:
        """Phonemes with durations, the aligned ones where none are given."""
        durations = [(s.end - s.start) * stretch for s in self.segments]
        if phonemes:
            durations = [stretch * len(self.wave) / self.rate / len(phonemes)] * len(phonemes)
        return {"phonemes": phonemes or notation([s.phoneme for s in self.segments]), "durations": durations}

    def special(self, make: Callable[[Path], object]) -> dict:
        path = self._new("")
        make(path)
        return {"audio": f"faults/{path.name}"}

    def _new(self, suffix: str) -> Path:
        return self.folder / f"{len(list(self.folder.iterdir())):03d}{suffix}"


def noise(base: Base, level: float) -> np.ndarray:
    """White noise as long as the utterance, `level` dB of full scale."""
    return np.random.default_rng(0).normal(0, 10 ** (level / 20), len(base.wave))


def louder(base: Base, factor: float) -> np.ndarray:
    return np.clip(base.wave / np.abs(base.wave).max() * factor, -1, 1)


def broken(base: Base, value: float) -> np.ndarray:
    wave = base.wave.copy()
    wave[len(wave) // 2] = value
    return wave


def tone(base: Base) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * 200 * np.arange(len(base.wave)) / base.rate)


def click(base: Base) -> np.ndarray:
    wave = np.zeros_like(base.wave)
    wave[len(wave) // 2 :][:50] = 0.5
    return wave


def seconds(base: Base, length: float) -> np.ndarray:
    n = round(length * base.rate)
    return np.tile(base.wave, 1 + n // len(base.wave))[:n]


# name -> (outcome, or the start of it up to a colon; fields that differ from the good utterance's, or the whole line)
FAULTS: dict[str, tuple[str, Callable[[Base], dict | bytes]]] = {
    # Nothing is wrong with these: they must simply work.
    "8 kHz": (KEPT, lambda b: b.resampled(8000)),
    "11.025 kHz": (KEPT, lambda b: b.resampled(11025)),
    "44.1 kHz": (KEPT, lambda b: b.resampled(44100)),
    "96 kHz": (KEPT, lambda b: b.resampled(96000)),
    "stereo": (KEPT, lambda b: b.sound(np.stack([b.wave, 0.5 * b.wave], 1))),
    "six channels": (KEPT, lambda b: b.sound(np.stack([b.wave] * 6, 1))),
    "8-bit": (KEPT, lambda b: b.sound(subtype="PCM_U8")),
    "24-bit": (KEPT, lambda b: b.sound(subtype="PCM_24")),
    "32-bit": (KEPT, lambda b: b.sound(subtype="PCM_32")),
    "float": (KEPT, lambda b: b.sound(subtype="FLOAT")),
    "double": (KEPT, lambda b: b.sound(subtype="DOUBLE")),
    "mu-law": (KEPT, lambda b: b.sound(subtype="ULAW")),
    "FLAC": (KEPT, lambda b: b.sound(suffix=".flac")),
    "MP3": (KEPT, lambda b: b.sound(suffix=".mp3")),
    "Ogg Vorbis": (KEPT, lambda b: b.sound(suffix=".ogg")),
    "Ogg Opus": (KEPT, lambda b: b.sound(suffix=".opus", format="OGG", subtype="OPUS")),
    "AIFF": (KEPT, lambda b: b.sound(suffix=".aiff")),
    "FLAC named wav": (KEPT, lambda b: b.sound(format="FLAC")),
    "wav from a pipe, without a length": (KEPT, lambda b: b.patched(40, 0xFFFFFFFF)),
    "id in other letters": (KEPT, lambda b: {"id": "größe-ж"}),
    "byte order mark": (KEPT, lambda b: "\ufeff".encode() + line(b, {"id": "bom", "split": "test"})),
    "markup and control characters in the text": (KEPT, lambda b: {"text": f"[/b]\x1b[31m {b.utterance.text}\x07"}),
    "TextGrid in UTF-16": (KEPT, lambda b: b.grid(encoding="utf-16")),
    "phonemes and durations": (KEPT, lambda b: b.timed()),
    # Files
    "no such file": ("missing audio", lambda b: {"audio": "faults/none.wav"}),
    "link to nowhere": ("missing audio", lambda b: b.special(lambda p: p.symlink_to("none"))),
    "link to itself": ("unreadable audio", lambda b: b.special(lambda p: p.symlink_to(p.name))),
    "folder": ("unreadable audio", lambda b: b.special(Path.mkdir)),
    "pipe": ("unreadable audio", lambda b: b.special(os.mkfifo)),
    "no permission": ("unreadable audio", lambda b: b.special(lambda p: p.touch(mode=0))),
    "file name too long": ("unreadable audio", lambda b: {"audio": "x" * 300}),
    "zero byte in the file name": ("unreadable audio", lambda b: {"audio": "a\0.wav"}),
    "zero length": ("unreadable audio", lambda b: b.raw(b"")),
    "text named wav": ("unreadable audio", lambda b: b.raw(b"Press one.")),
    "sampling rate 0": ("unreadable audio", lambda b: b.patched(24, 0)),
    "FLAC cut off": ("unreadable audio", lambda b: b.cut(format="FLAC")),
    "header alone": ("truncated audio", lambda b: b.raw(b.bytes(subtype="PCM_16")[:44])),
    "wav cut off": ("truncated audio", lambda b: b.cut()),
    "AIFF cut off": ("truncated audio", lambda b: b.cut(format="AIFF")),
    "Ogg cut off": ("truncated audio", lambda b: b.cut(wave=seconds(b, 11), format="OGG")),
    "MP3 cut off": ("alignment", lambda b: b.cut(format="MP3")),
    "no samples": ("too short", lambda b: b.sound(b.wave[:0])),
    "4 kHz": ("sampling rate too low", lambda b: b.resampled(4000)),
    "three times the rate in the header": ("alignment", lambda b: b.sound(rate=3 * b.rate)),
    # Samples
    "NaN": ("samples not finite", lambda b: b.sound(broken(b, np.nan), subtype="FLOAT")),
    "infinity": ("samples not finite", lambda b: b.sound(broken(b, np.inf), subtype="FLOAT")),
    "integers as float": ("samples not in -1..1", lambda b: b.sound(32767 * b.wave, subtype="FLOAT")),
    "zeros": ("silence", lambda b: b.sound(0 * b.wave)),
    "faint noise": ("silence", lambda b: b.sound(noise(b, -75))),
    "a click in silence": ("silence", lambda b: b.sound(click(b))),
    "channels that cancel": ("silence", lambda b: b.sound(np.stack([b.wave, -b.wave], 1))),
    "clipped": ("clipping", lambda b: b.sound(louder(b, 4))),
    "constant": ("clipping", lambda b: b.sound(0 * b.wave + 0.5)),
    "0.3 s": ("too short", lambda b: b.sound(seconds(b, 0.3))),
    "13 s": ("too long", lambda b: b.sound(seconds(b, 13))),
    "ten minutes": ("too long", lambda b: b.sound(seconds(b, 600))),
    "noise for speech": ("alignment", lambda b: b.sound(noise(b, -20))),
    "tone for speech": ("alignment", lambda b: b.sound(tone(b))),
    # Transcripts
    "text of a longer utterance": ("alignment", lambda b: {"text": 9 * b.utterance.text}),
    "text of a shorter utterance": ("alignment", lambda b: {"text": "Yes, indeed."}),
    "no text": ("no text", lambda b: {"text": None}),
    "spaces for text": ("no text", lambda b: {"text": " \t"}),
    "punctuation alone": ("unusable text", lambda b: {"text": "?!"}),
    "text in another script": ("unusable text", lambda b: {"text": "Доброе утро, страна"}),
    "another language": ("language without aligner", lambda b: {"language": "de"}),
    "100,000 characters": ("text too long", lambda b: {"text": "word " * 20_000}),
    "number of 5,000 digits": ("text too long", lambda b: {"text": "9" * 5000}),
    # Ids
    "id twice": ("duplicate id", lambda b: {"id": b.utterance.id}),
    "id with a space": ("unsafe id", lambda b: {"id": "a b"}),
    "id with a slash": ("unsafe id", lambda b: {"id": "a/b"}),
    "id ..": ("unsafe id", lambda b: {"id": ".."}),
    "id that leads outside": ("unsafe id", lambda b: {"id": "../../outside"}),
    "absolute id": ("unsafe id", lambda b: {"id": "/tmp/outside"}),
    "id with a line break": ("unsafe id", lambda b: {"id": "a\n"}),
    "id of 300 characters": ("unsafe id", lambda b: {"id": "a" * 300}),
    "empty id": ("unsafe id", lambda b: {"id": ""}),
    "number as id": ("bad field", lambda b: {"id": 7}),
    # Lines
    "no id": ("bad field", lambda b: {"id": None}),
    "no audio": ("bad field", lambda b: {"audio": None}),
    "misspelt field": ("bad field", lambda b: {"speeker": "ann"}),
    "unknown split": ("bad field", lambda b: {"split": "dev"}),
    "list for text": ("bad field", lambda b: {"text": ["a"]}),
    "not UTF-8": ("not UTF-8", lambda b: line(b, {"text": "café"}).replace("é".encode(), b"\xe9")),
    "half a surrogate pair": ("not UTF-8", lambda b: line(b, {"text": "?"}).replace(b"?", b"\\ud800")),
    "not JSON": ("not JSON", lambda b: b"{half a line"),
    "not an object": ("not JSON", lambda b: b"[1, 2]"),
    "nested without end": ("not JSON", lambda b: b"[" * 100_000),
    # Alignments
    "TextGrid longer than the audio": ("unusable alignment file", lambda b: b.grid(1.3)),
    "TextGrid shorter than the audio": ("unusable alignment file", lambda b: b.grid(0.7)),
    "no such TextGrid": ("unusable alignment file", lambda b: {"alignment": "faults/none.TextGrid"}),
    "folder for a TextGrid": ("unusable alignment file", lambda b: {"alignment": "faults"}),
    "not a TextGrid": ("unusable alignment file", lambda b: b.grid(edit=lambda _: "phones")),
    "TextGrid cut off": ("unusable alignment file", lambda b: b.grid(edit=lambda text: text[: len(text) // 2])),
    "TextGrid without phones": (
        "unusable alignment file",
        lambda b: b.grid(edit=lambda t: t.replace('"phones"', '"x"')),
    ),
    "durations longer than the audio": ("durations do not fill", lambda b: b.timed(stretch=1.3)),
    "durations shorter than the audio": ("durations do not fill", lambda b: b.timed(stretch=0.7)),
    "negative durations": ("bad durations", lambda b: b.timed(stretch=-1)),
    "a duration too few": ("bad durations", lambda b: b.timed() | {"durations": [1.0]}),
    "phonemes without durations": ("phonemes without times", lambda b: {"phonemes": b.timed()["phonemes"]}),
    "three phonemes": ("too few phonemes", lambda b: b.timed("AH0", "B", "AH0")),
    "200 phonemes": ("too many phonemes", lambda b: b.timed(*(["AH0", "B"] * 100))),
    "phone not in the inventory": (KEPT, lambda b: b.timed("AH0", "L", STRANGE, "AH0", "L")),
}


def line(base: Base, changes: dict) -> bytes:
    """A manifest's line: the good utterance with changed fields; None leaves one out."""
    good = {"audio": os.path.relpath(base.utterance.audio, base.folder.parent), "text": base.utterance.text}
    values = good | {"speaker": base.utterance.speaker, "split": "train"} | changes
    return json.dumps({k: v for k, v in values.items() if v is not None}, ensure_ascii=False).encode()
