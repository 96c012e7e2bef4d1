"""CSTR VCTK 0.92: 110 speakers, about 400 sentences each, two microphones. https://doi.org/10.7488/ds/2645

    txt/p225/p225_001.txt
    wav48_silence_trimmed/p225/p225_001_mic1.flac, p225_001_mic2.flac

mic1 is omnidirectional (DPA 4035), mic2 has a wide bandwidth (Sennheiser MKH 800) and failed for p280 and p315; the
texts of p315 are lost. Numbers 1 to 24 are the same passage for every speaker, and newspaper sentences recur: held out
by prompt.
"""

from collections.abc import Iterator
from pathlib import Path

from tts_gen.corpora import Drop, Utterance
from tts_gen.corpora.readers.layout import expect, stems, with_text

LAYOUT = "VCTK 0.92"
HELP = f"{LAYOUT}: txt/, wav48_silence_trimmed/"
OPTIONS = {"mic": {"choices": ("mic1", "mic2"), "default": "mic1", "help": "microphone; p280 and p315 have mic1 alone"}}


def read(source: Path, mic: str = "mic1") -> Iterator[Utterance | Drop]:
    [texts], [sounds] = expect(source, LAYOUT, "txt"), expect(source, LAYOUT, "wav48_silence_trimmed")
    spoken = {path.relative_to(sounds) for path in stems(sounds.glob(f"*/*_{mic}.flac"), f"_{mic}.flac")}
    written = {path.relative_to(texts) for path in stems(texts.glob("*/*.txt"), ".txt")}
    for path in sorted(spoken | written):
        audio = sounds / path.with_name(f"{path.name}_{mic}.flac")
        text = texts / path.with_name(f"{path.name}.txt")
        yield with_text(path.name, audio, text, speaker=path.parent.name, licence="CC-BY-4.0")
