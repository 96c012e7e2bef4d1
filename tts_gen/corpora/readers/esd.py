"""ESD, the Emotional Speech Database: 10 Chinese and 10 English speakers, 350 sentences in 5 emotions each, 29 h.
https://hltsingapore.github.io/ESD/

    0011/0011.txt                           0011_000001 <tab> text <tab> emotion
    0011/Angry/train/0011_000351.wav        train, evaluation and test; later copies have no such folders

Speakers 0001 to 0010 speak Chinese, 0011 to 0020 English. The transcripts are in UTF-8, UTF-16, GBK (GB 18030 holds it)
or a Latin code page, by speaker; some have ids of another speaker, and the number counts. A sentence is spoken in all
emotions by all speakers of a language: it is a prompt. The emotion is the style.
"""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from tts_gen.corpora import Drop, Utterance
from tts_gen.corpora.readers.layout import SPLIT_OF, expect

LAYOUT = "ESD"
HELP = f"{LAYOUT}: 0001/Angry/..., 0001/0001.txt; the emotion as style"
OPTIONS = {}
SPLITS = ("train", "evaluation", "test")
CHINESE = re.compile("[\u4e00-\u9fff]")


def read(source: Path) -> Iterator[Utterance | Drop]:
    for folder in expect(source, LAYOUT, "[0-9]" * 4):
        language = "zh" if int(folder.name) <= 10 else "en"
        transcript = folder / f"{folder.name}.txt"
        texts = dict(_texts(transcript, folder.name, language)) if transcript.is_file() else {}
        sounds = sorted(
            path for pattern in ("*", *(f"*/{s}" for s in SPLITS)) for path in folder.glob(f"{pattern}/*.wav")
        )
        for audio in sounds:
            emotion, *part = audio.relative_to(folder).parts[:-1]
            text = texts.get(audio.stem, Drop(audio.stem, "no text", f"{transcript} has no line {audio.stem}"))
            if isinstance(text, Drop):
                yield text
            else:
                split = SPLIT_OF[part[0]] if part else "train"
                yield Utterance(audio.stem, audio, text, folder.name, emotion.lower(), split, language=language)
        spoken = {audio.stem for audio in sounds}
        for name, text in texts.items():
            if name not in spoken:
                yield text if isinstance(text, Drop) else Drop(name, "missing audio", f"{folder} has no {name}.wav")


def _texts(transcript: Path, speaker: str, language: str) -> Iterator[tuple[str, str | Drop]]:
    """Text of each id, or why it has none."""
    for number, line in enumerate(_lines(transcript.read_bytes(), language), 1):
        name, *fields = line.strip().split("\t")
        if not name:
            continue
        where = f"{transcript} line {number}"
        id = re.match(r"\d{4}_(\d{6})\b", name)
        label = f"{speaker}_{id[1]}" if id else f"{transcript.name} line {number}"
        if not id or len(fields) != 2:
            detail = f"{where}: {line.strip()[:60]!r}, expected id, text and emotion with tabs between"
            yield label, Drop(label, "missing columns", detail)
        elif "\ufffd" in fields[0]:
            yield label, Drop(label, "undecodable text", f"{where}: {fields[0]!r}")
        else:
            yield label, fields[0].strip()


def _lines(data: bytes, language: str) -> list[str]:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace").split("\n")
    return [_decode(line, language) for line in data.split(b"\n")]


def _decode(line: bytes, language: str) -> str:
    """U+FFFD stands for what no encoding explains."""
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            continue
        # Two letters of a Latin code page make a Chinese character in GB 18030.
        if language == "zh" or not CHINESE.search(text):
            return text
    return line.decode("gb18030" if language == "zh" else "cp1252", errors="replace")
