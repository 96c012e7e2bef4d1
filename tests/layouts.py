"""Small corpora in the exact layouts of the readers: names, encodings, odd cases.

A maker in MAKERS writes a layout into a folder from CLIPS or from speech, and says what a reader shall find there.
"""

import codecs
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from tts_gen.corpora.espeak import synthesize

TEXTS = (
    "The cat sat under the old table.",
    "Did you see my brother this morning?",
    "What a lovely day it is!",
    "We need apples, sugar and bread.",
    "Nobody heard the music.",
    "She painted the garden fence.",
)
RATE = 16000


@dataclass(frozen=True)
class Clip:
    text: str
    wave: np.ndarray
    rate: int


CLIPS = [Clip(text, np.sin(np.arange(1600) * (0.05 + 0.01 * i)), RATE) for i, text in enumerate(TEXTS)]
"""for tests of the layout alone: a tenth of a second of a tone each"""


def speech() -> list[Clip]:
    """TEXTS as synthetic speech."""
    return [Clip(text, *synthesize(text)[:2]) for text in TEXTS]


@dataclass
class Made:
    source: Path
    utterances: dict[str, dict] = field(default_factory=dict)
    """id -> the fields of `Utterance` that a reader shall find, as far as the layout gives them; `audio` in `source`"""
    drops: dict[str, str] = field(default_factory=dict)
    """id -> reason"""
    options: dict = field(default_factory=dict)


def write(path: Path, content: Clip | str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Clip):
        soundfile.write(path, content.wave, content.rate)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def ljspeech(root: Path, clips: Sequence[Clip]) -> Made:
    made, lines = Made(root / "LJSpeech-1.1"), []
    for i, clip in enumerate(clips):
        name = f"LJ{i // 2 + 1:03d}-{i % 2 + 1:04d}"
        write(made.source / f"wavs/{name}.wav", clip)
        # Without the third column, with an empty one, and with quotation marks that enclose nothing.
        written = {1: f"{name}|{clip.text}", 2: f"{name}|{clip.text}|", 3: f'{name}|"5 {clip.text}|"five {clip.text}'}
        lines.append(written.get(i, f"{name}|&c. {clip.text}|{clip.text}"))
        text = {3: f'"five {clip.text}'}.get(i, clip.text)
        made.utterances[name] = {
            "audio": f"wavs/{name}.wav", "text": text, "speaker": "lj", "group": name[:5], "licence": "public domain",
        }  # fmt: skip
    write(made.source / "metadata.csv", "\n".join(lines) + "\n")
    write(made.source / "README", "LJSpeech")
    return made


def vctk(root: Path, clips: Sequence[Clip]) -> Made:
    made = Made(root / "VCTK-Corpus-0.92", drops={"p315_001": "no text"})
    for speaker in ("p225", "p226", "p280", "s5"):
        for i, clip in enumerate(clips[: 1 if speaker == "p280" else None], 1):
            name = f"{speaker}_{i:03d}"
            write(made.source / f"txt/{speaker}/{name}.txt", f"{clip.text}\n")
            for mic in ("mic1",) if speaker == "p280" else ("mic1", "mic2"):
                write(made.source / f"wav48_silence_trimmed/{speaker}/{name}_{mic}.flac", clip)
            audio = f"wav48_silence_trimmed/{speaker}/{name}_mic1.flac"
            made.utterances[name] = {"audio": audio, "text": clip.text, "speaker": speaker, "licence": "CC-BY-4.0"}
    write(made.source / "wav48_silence_trimmed/p315/p315_001_mic1.flac", clips[0])
    write(made.source / "speaker-info.txt", "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F    English\n")
    return made


def libritts(root: Path, clips: Sequence[Clip]) -> Made:
    made = Made(root / "LibriTTS_R", drops={"103_1240_000009_000000": "restoration failed"})
    chapters = {"train-clean-100/103/1240": "train", "train-other-500/20/205": "train", "dev-clean/84/121123": "val"}
    for chapter, split in (chapters | {"test-clean/1089/134686": "test"}).items():
        speaker, number = chapter.split("/")[1:]
        for i, clip in enumerate(clips if speaker == "103" else clips[:2]):
            stem = f"{chapter}/{speaker}_{number}_{i:06d}_000000"
            write(made.source / f"{stem}.wav", clip)
            write(made.source / f"{stem}.normalized.txt", clip.text)
            write(made.source / f"{stem}.original.txt", f"&c. {clip.text}")
            made.utterances[Path(stem).name] = {
                "audio": f"{stem}.wav", "text": clip.text, "speaker": speaker, "split": split,
                "group": f"{speaker}_{number}", "licence": "CC-BY-4.0",
            }  # fmt: skip
        write(made.source / f"{chapter}/{speaker}_{number}.trans.tsv", "id\toriginal\tnormalised\n")
    bad = "train-clean-100/103/1240/103_1240_000009_000000"
    write(made.source / f"{bad}.wav", clips[0])
    write(made.source / f"{bad}.normalized.txt", clips[0].text)
    lists = made.source / "libritts_r_failed_speech_restoration_examples"
    write(lists / "train-clean-100_bad_sample_list.txt", f"./{bad}.wav\n")
    write(made.source / "speakers.tsv", "READER\tGENDER\tSUBSET\tNAME\n103\tF\ttrain-clean-100\tKaren\n")
    return made


ESD_ENCODINGS = {"0001": "gbk", "0003": "utf-16", "0011": "utf-8", "0012": "utf-16", "0015": "gbk", "0016": "cp1252"}


def esd(root: Path, clips: Sequence[Clip]) -> Made:
    made = Made(root / "ESD")
    for speaker, encoding in ESD_ENCODINGS.items():
        chinese, lines = int(speaker) <= 10, []
        for offset, emotion, label in ((0, "Neutral", "中立"), (350, "Angry", "生气")):
            # Of 350 sentences 20 are for evaluation, 30 for test.
            for number, part, split in ((1, "evaluation", "val"), (21, "test", "test"), (51, "train", "train")):
                name, clip = f"{speaker}_{number + offset:06d}", clips[number // 20]
                text = "打远一看，它们的确很是美丽。" if chinese else f"{clip.text[:-1]}, that’s it."
                id = name.replace("0012", "0011")  # one file has the ids of another speaker
                lines.append(f"{id}\t{text}\t{label if chinese else emotion}")
                path = f"{speaker}/{emotion}/{part}/{name}.wav"
                write(made.source / path, clip if chinese else Clip(text, *synthesize(text)[:2]))
                made.utterances[name] = {
                    "audio": path, "text": text, "speaker": speaker, "style": emotion.lower(), "split": split,
                    "language": "zh" if chinese else "en",
                }  # fmt: skip
        write(made.source / f"{speaker}/{speaker}.txt", "\r\n".join([*lines, "", ""]).encode(encoding))
    write(made.source / "ReadMe.txt", "The ESD database")
    return made


def hifi_tts(root: Path, clips: Sequence[Clip]) -> Made:
    made = Made(root / "hi_fi_tts_v0")
    for reader, quality, book in (("92", "clean", "11216"), ("11614", "other", "10547")):
        for split, name in (("train", "train"), ("dev", "val"), ("test", "test")):
            lines = []
            for i, clip in enumerate(clips if reader == "92" and split == "train" else clips[:1]):
                stem = f"thousandnights8_{split}_{i // 2}_anonymous_{i:04d}"
                path = f"audio/{reader}_{quality}/{book}/{stem}.flac"
                write(made.source / path, clip)
                lines.append({
                    "audio_filepath": path, "text": clip.text.lower(), "duration": 1.0,
                    "text_no_preprocessing": f"_{clip.text}_", "text_normalized": clip.text,
                })  # fmt: skip
                made.utterances[f"{reader}_{book}_{stem}"] = {
                    "audio": path, "text": clip.text, "speaker": reader, "split": name,
                    "group": f"{reader}_{book}_{stem[:-5]}", "licence": "CC-BY-4.0",
                }  # fmt: skip
            manifest = made.source / f"{reader}_manifest_{quality}_{split}.json"
            write(manifest, "".join(json.dumps(line) + "\n" for line in lines))
    return made


def folder(root: Path, clips: Sequence[Clip]) -> Made:
    made = Made(root / "recordings")
    places = ("ann/a1.wav", "ann/a2.wav", "bob/tuesday/b1.flac", "bob/b2.WAV", "c1.wav", "c2.ogg")
    for place, clip in zip(places, clips):
        path = Path(place)
        write(made.source / path, clip)
        text = f"\ufeff{clip.text}\r\n" if path.stem == "a2" else clip.text.replace(" ", "\n", 1)
        write(made.source / path.with_suffix(".lab" if path.parts[0] == "bob" else ".txt"), text)
        name = "_".join(path.with_suffix("").parts)
        speaker = path.parts[0] if len(path.parts) > 1 else None
        made.utterances[name] = {"audio": place, "text": clip.text, "speaker": speaker}
    return made


def table(root: Path, clips: Sequence[Clip]) -> Made:
    made = Made(root / "own" / "list.csv", options={"column": ["text=sentence", "speaker=who"]})
    lines = ["audio,who,sentence,emotion,style,split"]
    for i, clip in enumerate(clips):
        path, split = f"clips/a{i}.wav", ("train", "train", "training", "dev", "test", "")[i]
        write(made.source.parent / path, clip)
        lines.append(f'{path},ann,"{clip.text}",glad,calm,{split}')
        made.utterances[f"a{i}"] = {
            "audio": path, "text": clip.text, "speaker": "ann", "style": "calm",
            "split": {"dev": "val", "test": "test"}.get(split, "train"),
        }  # fmt: skip
    write(made.source, codecs.BOM_UTF8 + "\r\n".join([*lines, ""]).encode())
    return made


MAKERS: dict[str, Callable[[Path, Sequence[Clip]], Made]] = {
    "ljspeech": ljspeech, "vctk": vctk, "libritts": libritts, "esd": esd, "hifi_tts": hifi_tts, "folder": folder,
    "table": table,
}  # fmt: skip
