"""A folder of recordings, each with its text in a file of the same name: name.wav and name.txt or name.lab.

Sound files in sub-folders are of the speaker that the first sub-folder is named after, as the Montreal Forced Aligner
has it; those in the folder itself have no speaker. The id is the path with _ for /. A .lab file with times (HTK,
Festival) is not a text.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from tts_gen.corpora import Drop, Utterance
from tts_gen.corpora.readers.layout import AUDIO, mismatch, with_text

LAYOUT = "a folder of recordings and texts"
HELP = "name.wav (or .flac, .ogg, .opus, .mp3) beside name.txt or name.lab; sub-folders are speakers"
OPTIONS = {"language": {"default": "en", "help": "of all texts"}}
TEXT = (".txt", ".lab")
TIMES = re.compile(r"[\d.]+ [\d.]+ \S+")


def read(source: Path, language: str = "en") -> Iterator[Utterance | Drop]:
    files = {path for path in source.rglob("*") if path.suffix.lower() in AUDIO + TEXT}
    spoken = {path.with_suffix("") for path in files if path.suffix.lower() in AUDIO}
    if not spoken:
        raise mismatch(source, LAYOUT, f"files named {', '.join(AUDIO)}")
    for path in sorted(files):
        if path.suffix.lower() in AUDIO:
            text = next((t for s in TEXT if (t := path.with_suffix(s)) in files), path.with_suffix(TEXT[0]))
            yield _utterance(path, text, source, language)
        elif path.with_suffix("") not in spoken:
            yield Drop(path.name, "missing audio", f"{path} has no sound file beside it")


def _utterance(audio: Path, text: Path, source: Path, language: str) -> Utterance | Drop:
    path = audio.relative_to(source)
    speaker = path.parts[0] if len(path.parts) > 1 else None
    found = with_text("_".join(path.with_suffix("").parts), audio, text, speaker=speaker, language=language)
    if text.suffix == ".lab" and isinstance(found, Utterance) and TIMES.match(found.text):
        return Drop(found.id, "no text", f"{text} holds times, not a text")
    return found
