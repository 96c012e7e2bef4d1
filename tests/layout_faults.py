"""Faults that can befall the corpora of `layouts`: what is added to each, and how a reader shall drop it."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from layouts import Clip, Made, write


def append(path: Path, content: bytes) -> None:
    path.write_bytes(path.read_bytes() + content)


def spoil_ljspeech(made: Made, clip: Clip) -> dict[str, str]:
    lines = ["LJ009-0001|Gone.|Gone.", "LJ009-0002", "LJ009-0003| |", "LJ001-0001|Again.|Again.", "LJ009 1|A.|A."]
    lines += ["../LJ009|A.|A.", "a/b|A.|A.", "LJ009-0004|Broken.|Broken.", "LJ009-0005|A|B|C"]
    append(made.source / "metadata.csv", "\n".join(lines).encode() + b"\n\nLJ009-0006|caf\xe9|caf\xe9\n")
    write(made.source / "wavs/LJ009-0004.wav", b"RIFF")
    return {
        "LJ009-0001": "missing audio", "LJ009-0002": "missing columns", "LJ009-0003": "no text",
        "LJ001-0001": "duplicate id", "LJ009 1": "unsafe id", "../LJ009": "unsafe id", "a/b": "unsafe id",
        "LJ009-0004": "unreadable audio", "LJ009-0005": "too many columns", "line 17": "not UTF-8",
    }  # fmt: skip


def spoil_vctk(made: Made, clip: Clip) -> dict[str, str]:
    sounds, texts = made.source / "wav48_silence_trimmed", made.source / "txt"
    write(texts / "p227/p227_001.txt", "Gone.")
    write(texts / "p227/p227_002.txt", b"caf\xe9")
    write(sounds / "p227/p227_002_mic1.flac", clip)
    write(texts / "p227/p227 3.txt", "A.")
    write(sounds / "p227/p227 3_mic1.flac", clip)
    write(texts / "p228/p225_001.txt", "Again.")
    write(sounds / "p227/p227_004_mic1.flac", b"fLaC")
    write(texts / "p227/p227_004.txt", "A.")
    write(texts / "p227/p227_005.txt", "\n")
    return {
        "p227_001": "missing audio", "p227_002": "not UTF-8", "p227 3": "unsafe id", "p225_001": "duplicate id",
        "p227_004": "unreadable audio", "p227_005": "no text",
    }  # fmt: skip


def spoil_libritts(made: Made, clip: Clip) -> dict[str, str]:
    chapter = made.source / "dev-clean/84/121123"
    write(chapter / "84_121123_000008_000000.normalized.txt", "Gone.")
    write(chapter / "84_121123_000008_000001.wav", clip)
    write(chapter / "84_121123_000008_000002.wav", clip)
    write(chapter / "84_121123_000008_000002.normalized.txt", b"caf\xe9")
    write(chapter / "84_121123 8.wav", clip)
    write(chapter / "84_121123 8.normalized.txt", "A.")
    write(made.source / "test-clean/1089/134686/84_121123_000000_000000.wav", clip)
    write(made.source / "test-clean/1089/134686/84_121123_000000_000000.normalized.txt", "Again.")
    write(chapter / "84_121123_000008_000003.wav", b"")
    write(chapter / "84_121123_000008_000003.normalized.txt", "A.")
    return {
        "84_121123_000008_000000": "missing audio", "84_121123_000008_000001": "no text",
        "84_121123_000008_000002": "not UTF-8", "84_121123 8": "unsafe id",
        "84_121123_000000_000000": "duplicate id", "84_121123_000008_000003": "unreadable audio",
    }  # fmt: skip


def spoil_esd(made: Made, clip: Clip) -> dict[str, str]:
    lines = "0011_000099\tGone.\tNeutral\n0011_000098 No tabs. Neutral\n0011_000097\t\tNeutral\nx\ty\tz\n"
    append(made.source / "0011/0011.txt", lines.encode())
    append(made.source / "0001/0001.txt", b"0001_000099\t\xb4\xff\tneutral\n")
    for path in ("0001/Neutral/train/0001_000099", "0011/Neutral/train/0011_000096", "0011/Neutral/train/0011_000097"):
        write(made.source / f"{path}.wav", clip)
    write(made.source / "0011/Neutral/train/0011_000098.wav", clip)
    write(made.source / "0011/Sad/train/0011_000001.wav", clip)
    (made.source / "0016/0016.txt").unlink()
    for name in [name for name in made.utterances if name.startswith("0016")]:
        del made.utterances[name]
        made.drops[name] = "no text"
    return {
        "0011_000099": "missing audio", "0011_000098": "missing columns", "0011_000097": "no text",
        "0011.txt line 11": "missing columns", "0001_000099": "undecodable text", "0011_000096": "no text",
        "0011_000001": "duplicate id",
    }  # fmt: skip


def spoil_hifi_tts(made: Made, clip: Clip) -> dict[str, str]:
    path, row = "audio/92_clean/11216", {"text_normalized": "A."}
    rows = [row | {"audio_filepath": f"{path}/gone_0001.flac"}, row | {"audio_filepath": f"{path}/a b_0001.flac"}]
    rows += [{"audio_filepath": f"{path}/empty_0001.flac", "text_normalized": ""}, {"text": "A."}, [1]]
    rows += [row | {"audio_filepath": 5}, row | {"audio_filepath": f"{path}/broken_0001.flac"}]
    rows += [json.loads((made.source / "92_manifest_clean_dev.json").read_text().splitlines()[0])]
    lines = [json.dumps(r).encode() for r in rows] + [b"{not json", b'{"text_normalized": "caf\xe9"}']
    append(made.source / "92_manifest_clean_dev.json", b"\n".join(lines))
    write(made.source / f"{path}/broken_0001.flac", b"fLaC")
    where = "92_manifest_clean_dev.json line"
    return {
        "92_11216_gone_0001": "missing audio", "92_11216_a b_0001": "unsafe id", "92_11216_empty_0001": "no text",
        f"{where} 5": "missing columns", f"{where} 6": "missing columns", f"{where} 7": "bad field",
        "92_11216_broken_0001": "unreadable audio", "92_11216_thousandnights8_dev_0_anonymous_0000": "duplicate id",
        f"{where} 10": "not JSON", f"{where} 11": "not JSON",
    }  # fmt: skip


def spoil_folder(made: Made, clip: Clip) -> dict[str, str]:
    for name in ("no-text", "latin", "two words", "empty", "timed", "ann_a1"):
        write(made.source / f"{name}.wav", clip)
    write(made.source / "latin.txt", b"caf\xe9")
    write(made.source / "two words.txt", "A.")
    write(made.source / "empty.txt", " \n")
    write(made.source / "timed.lab", "0 2500000 pau\n2500000 3700000 dh\n")
    write(made.source / "ann_a1.txt", "Again.")
    write(made.source / "gone.txt", "Gone.")
    write(made.source / "broken.mp3", b"\0" * 100)
    write(made.source / "broken.txt", "A.")
    write(made.source / "..x.wav", clip)
    write(made.source / "..x.txt", "A.")
    write(made.source / os.fsdecode(b"caf\xe9.wav"), b"")
    write(made.source / os.fsdecode(b"caf\xe9.txt"), "A.")
    return {
        "no-text": "no text", "latin": "not UTF-8", "two words": "unsafe id", "empty": "no text", "timed": "no text",
        "ann_a1": "duplicate id", "gone.txt": "missing audio", "broken": "unreadable audio", "..x": "unsafe id",
        "caf\\udce9": "unsafe id",
    }  # fmt: skip


def spoil_table(made: Made, clip: Clip) -> dict[str, str]:
    rows = [
        b"clips/gone.wav,ann,Gone.,,,",
        b"clips/short.wav,ann",
        b"clips/a0.wav,ann,Again.,,,",
        b"clips/e.wav,ann,,,,",
    ]
    rows += [b"clips/latin.wav,ann,caf\xe9,,,", b"clips/two words.wav,ann,A.,,,", b",ann,A.,,,"]
    rows += [b"clips/split.wav,ann,A.,,,holdout", b"clips/..,ann,A.,,,", b"clips/long.wav,ann,A,B,C,D,E"]
    rows += [b"clips/broken.wav,ann,A.,,,", b'clips/endless.wav,ann,"' + b"x" * 2**21]
    append(made.source, b"\n".join(rows))
    write(made.source.parent / "clips/broken.wav", b"RIFF")
    return {
        "gone": "missing audio", "short": "missing columns", "a0": "duplicate id", "e": "no text",
        "list.csv line 12": "not UTF-8", "two words": "unsafe id", "list.csv line 14": "bad field",
        "split": "bad field", "..": "unsafe id", "long": "too many columns", "broken": "unreadable audio",
        "line 19": "bad row",
    }  # fmt: skip


SPOILERS: dict[str, Callable[[Made, Clip], dict[str, str]]] = {
    "ljspeech": spoil_ljspeech, "vctk": spoil_vctk, "libritts": spoil_libritts, "esd": spoil_esd,
    "hifi_tts": spoil_hifi_tts, "folder": spoil_folder, "table": spoil_table,
}  # fmt: skip
