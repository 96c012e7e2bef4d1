"""Hi-Fi TTS v0: 10 readers of audiobooks, 292 h at 44.1 kHz. https://www.openslr.org/109, arXiv 2104.01497

    READER_manifest_QUALITY_SPLIT.json      a JSON object a line; quality clean or other, split train, dev or test
    audio/READER_QUALITY/BOOK/CHAPTER_NUMBER.flac

A line has audio_filepath (from the root), text, text_no_preprocessing, text_normalized, which is taken, and duration.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path

from tts_gen.corpora import Drop, Utterance
from tts_gen.corpora.readers.layout import SPLIT_OF, expect

LAYOUT = "Hi-Fi TTS"
HELP = f"{LAYOUT}: 92_manifest_clean_train.json, ..., audio/"
OPTIONS = {}


def read(source: Path) -> Iterator[Utterance | Drop]:
    expect(source, LAYOUT, "audio")
    for manifest in expect(source, LAYOUT, *(f"[0-9]*_manifest_*_{split}.json" for split in ("train", "dev", "test"))):
        reader, split = manifest.name.partition("_")[0], manifest.stem.rpartition("_")[2]
        with manifest.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _utterance(line, source, f"{manifest.name} line {number}", reader, SPLIT_OF[split])


def _utterance(line: bytes, source: Path, where: str, reader: str, split: str) -> Utterance | Drop:
    try:
        values = json.loads(line)
        file, text = values["audio_filepath"], values["text_normalized"]
    except (ValueError, RecursionError) as error:
        return Drop(where, "not JSON", f"{where}: {error}")
    except (TypeError, KeyError):
        return Drop(where, "missing columns", f"{where}: expected an object with audio_filepath and text_normalized")
    if not isinstance(file, str) or not isinstance(text, str):
        return Drop(where, "bad field", f"{where}: audio_filepath and text_normalized are strings, found {file!r}")
    audio = source / file
    book, chapter = audio.parent.name, re.sub(r"_\d+$", "", audio.stem)
    return Utterance(
        f"{reader}_{book}_{audio.stem}", audio, text.strip(), reader,
        split=split, group=f"{reader}_{book}_{chapter}", licence="CC-BY-4.0",
    )  # fmt: skip
