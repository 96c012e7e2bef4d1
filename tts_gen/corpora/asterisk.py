"""Asterisk's English prompts: one professional speaker (Allison Smith), 540 prompts, 24 minutes, CC BY-SA 3.0.

From two Debian packages, one with the audio (G.722, 16 kHz), one with the text. Decoded to 16 kHz 16-bit wav.
"""

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tts_gen.config import UserError
from tts_gen.corpora import Drop, Utterance, write_manifest
from tts_gen.corpora.building import convert, report
from tts_gen.corpora.debian import obtain, read_files
from tts_gen.corpora.splits import near_duplicates, normalise, split

AUDIO, TEXT = "asterisk-core-sounds-en-g722", "asterisk-core-sounds-en"
SOUNDS = "usr/share/asterisk/sounds/en_US_f_Allison/"
PROMPTS = f"usr/share/doc/{TEXT}/core-sounds-en.txt.gz"
COPYRIGHT = f"usr/share/doc/{AUDIO}/copyright"
RATE = 16000
LICENCE = "CC-BY-SA-3.0"
NOTICE = """\
Asterisk core sounds, English. Recorded by Allison Smith, copyright 2003-2010 Allison Smith; financial contributions by
Digium, Inc. Licence: Creative Commons Attribution-ShareAlike 3.0 (CC BY-SA 3.0). What is made from these recordings
comes under the same licence.

The original work has been modified: the prompts of Debian package {package} were decoded from G.722 to 16 kHz 16-bit
wav, and those that are not plain speech were left out. The package's own copyright file follows.

"""


def build(directory: Path, debs: Sequence[Path] = (), workers: int = 2, seed: int = 0) -> Path:
    """Writes the corpus into `directory` and returns the path of its manifest.

    debs: the .deb files of the two packages; what is not among them is fetched with apt-get. A second run fetches and
    decodes only what is missing. Near-duplicate prompts share a group. Raises UserError when a package cannot be had or
    is another.
    """
    packages = obtain({AUDIO: "1.6.1-1", TEXT: "1.6.1-1"}, directory / "packages", debs)
    prompts = _prompts(read_files(packages[TEXT], lambda name: name == PROMPTS), packages[TEXT])
    files = read_files(packages[AUDIO], lambda name: name.startswith(SOUNDS) or name == COPYRIGHT)
    sounds = {n.removeprefix(SOUNDS).removesuffix(".g722"): data for n, data in files.items() if n.endswith(".g722")}
    drops = [d for name in sorted(sounds) if (d := _drop(name, prompts.get(name)))]
    kept = sorted(set(sounds) - {d.id for d in drops})
    folder = directory / "audio"
    folder.mkdir(parents=True, exist_ok=True)
    notice = NOTICE.format(package=packages[AUDIO].name) + files.get(COPYRIGHT, b"").decode()
    (directory / "LICENCE.txt").write_text(notice, encoding="utf-8")

    paths = {name: folder / f"{name.replace('/', '_')}.wav" for name in kept}
    seconds, failed = convert(decode_g722, {paths[n]: sounds[n] for n in kept}, workers, "decoding asterisk")
    drops += [
        Drop(n, "unreadable audio", f"{packages[AUDIO].name}: {n}.g722: {failed[p]}")
        for n, p in paths.items()
        if p in failed
    ]
    paths = {name: path for name, path in paths.items() if path in seconds}
    groups = near_duplicates({name: prompts[name] for name in paths})
    # Digits, letters and the like are half of the prompts and a fifth of the time; each kind is split for itself.
    strata = ["phrase" if len(normalise(prompts[name])) >= 3 else "word" for name in paths]
    splits = split([groups[n] for n in paths], [seconds[p] for p in paths.values()], strata, seed)
    utterances = [
        Utterance(p.stem, p, prompts[n], speaker="allison", split=s, group=groups[n].replace("/", "_"), licence=LICENCE)
        for (n, p), s in zip(paths.items(), splits, strict=True)
    ]
    report("asterisk", utterances, {p.stem: s for p, s in seconds.items()}, drops)
    write_manifest(directory / "manifest.jsonl", utterances)
    return directory / "manifest.jsonl"


def _prompts(files: dict[str, bytes], deb: Path) -> dict[str, str]:
    if PROMPTS not in files:
        raise UserError(f"{deb}: holds no {PROMPTS}; give another version of the package with --deb FILE")
    lines = gzip.decompress(files[PROMPTS]).decode().splitlines()
    pairs = (line.partition(":") for line in lines if ":" in line and not line.startswith(";"))
    return {name.strip(): text.strip() for name, _, text in pairs}


def _drop(name: str, text: str | None) -> Drop | None:
    if not text:
        return Drop(name, "no text", f"{PROMPTS.rpartition('/')[2]} has no line {name}")
    if any(mark in text for mark in "[(<"):
        return Drop(name, "not plain speech", text)
    return None


def decode_g722(data: bytes) -> tuple[np.ndarray, int]:
    """wave[n] int16 at 16 kHz from raw G.722."""
    import av

    with av.open(io.BytesIO(data), format="g722") as container:
        frames = [frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]
    return np.concatenate(frames) if frames else np.zeros(0, np.int16), RATE
