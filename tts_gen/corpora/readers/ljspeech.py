"""LJSpeech 1.1: one speaker, 13,100 sentences, 24 h. https://keithito.com/LJ-Speech-Dataset/

    metadata.csv        ID|transcription|normalised transcription; UTF-8, no heading, quotation marks are text
    wavs/ID.wav         ID = LJ001-0001: chapter and number

The normalised text is taken, or the transcription where that is empty or missing. Recordings of one's own in this
layout, with any ids, get neither speaker nor chapter.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tts_gen.corpora import Drop, Utterance
from tts_gen.corpora.readers.layout import expect

LAYOUT = "LJSpeech 1.1"
HELP = f"{LAYOUT}: metadata.csv, wavs/"
OPTIONS = {}


def read(source: Path) -> Iterator[Utterance | Drop]:
    [metadata], [wavs] = expect(source, LAYOUT, "metadata.csv"), expect(source, LAYOUT, "wavs")
    with metadata.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield _utterance(line, wavs, number)


def _utterance(line: bytes, wavs: Path, number: int) -> Utterance | Drop:
    try:
        name, *texts = line.decode("utf-8-sig").rstrip("\r\n").split("|")
    except UnicodeDecodeError as error:
        return Drop(f"line {number}", "not UTF-8", f"metadata.csv line {number}: {error}")
    if not 1 <= len(texts) <= 2:
        detail = f"metadata.csv line {number}: {len(texts) + 1} columns, expected id|text or id|text|normalised text"
        return Drop(name or f"line {number}", "missing columns" if not texts else "too many columns", detail)
    text = next((t.strip() for t in reversed(texts) if t.strip()), "")
    chapter = re.fullmatch(r"(LJ\d{3})-\d{4}", name)
    known = {"speaker": "lj", "group": chapter[1], "licence": "public domain"} if chapter else {}
    return Utterance(name, wavs / f"{name}.wav", text, **known)
