"""Where speech comes from: text by a prosody and an acoustic run or by a joint one, a recording, edited prosody."""

import argparse
import functools
import logging
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from tts_gen import runs, synthesis
from tts_gen.config import Audio
from tts_gen.features import embeddings
from tts_gen.features.inventory import Inventory
from tts_gen.features.store import Features
from tts_gen.speech import markup, prosody_file
from tts_gen.speech.imitation import imitate
from tts_gen.synthesis import Controls, Spoken
from tts_gen.text.pieces import pieces

log = logging.getLogger(__name__)


class Source(NamedTuple):
    divide: Callable[[str], list[str]]
    """a text into what is read and spoken at once"""
    read: Callable[[str], Any]
    """of such a piece, what `speak` takes; raises UserError for one that cannot be read"""
    speak: Callable[[list, int, int], list[Spoken]]
    """what was read, the take and the part of the list -> mels, and prosody where the source has it"""
    audio: Audio
    inventory: Inventory | None
    """None where there is no prosody"""
    runs: dict[str, str]
    """what it is made of"""


def pair(options: argparse.Namespace) -> Source:
    """Raises UserError for runs that do not fit."""
    used = {name: path for name in ("prosody", "acoustic") if (path := getattr(options, name))}
    loaded = {name: runs.load(path, guidance=options.guidance) for name, path in used.items()}
    synthesis.check_runs(loaded)
    for run in loaded.values():
        if not run.config.decoder.generative:
            log.info("%s is a regression: one answer, whatever the temperature", run.path)
    acoustic, prosody, controls = loaded["acoustic"], loaded.get("prosody"), _controls(options)
    for run in loaded.values():
        synthesis.with_embedding([], run, controls)
    if not options.from_prosody:
        synthesis.labels(acoustic, controls)  # wrong ones are told once, not for every line

    def read(piece: str) -> Features | tuple[Features, markup.Marked]:
        if options.ssml:
            return markup.read(piece, prosody, controls)
        if prosody:
            return synthesis.read(piece, prosody, controls)
        if options.like:
            found = imitate(options.like, piece, acoustic, controls)
        else:
            found = prosody_file.read(Path(piece), acoustic.inventory, acoustic.audio)
        return synthesis.paced(found, options.pace)

    def speak(sentences: list, take: int, part: int) -> list[Spoken]:
        asked, marks = _controls(options, take), []
        if options.ssml:
            sentences, marks = zip(*sentences, strict=True)
        if prosody:
            sentences = synthesis.intone(sentences, prosody, asked, part)
        if options.ssml:
            seconds = acoustic.audio.frame_seconds
            sentences = [markup.apply(u, marked, seconds) for u, marked in zip(sentences, marks, strict=True)]
        return synthesis.voice(sentences, acoustic, asked, part)

    divide = pieces if prosody and not options.phonemes and not options.ssml else lambda text: [text]
    made_of = {name: f"{run.path}, step {run.step}" for name, run in loaded.items()}
    if controls.speaker_embedding:
        checksum = zlib.crc32(repr(controls.speaker_embedding).encode())
        made_of["speaker_embedding"] = f"{options.speaker_embedding}, {checksum:08x}"
    return Source(divide, read, speak, acoustic.audio, acoustic.inventory, made_of)


def joint(options: argparse.Namespace) -> Source:
    """Raises UserError for a run of another task."""
    run = runs.load(options.joint, guidance=options.guidance)
    synthesis.check_runs({"joint": run})

    def read(piece: str) -> str:
        run.front_end.encode(piece)
        return piece

    def speak(texts: list, take: int, part: int) -> list[Spoken]:
        mels = synthesis.speak_joint(texts, run, _controls(options, take), part)
        return [Spoken(None, mel) for mel in mels]

    return Source(pieces, read, speak, run.audio, None, {"joint": f"{run.path}, step {run.step}"})


def _controls(options: argparse.Namespace, take: int = 0) -> Controls:
    names = ("prosody_temperature", "acoustic_temperature", "temperature")
    temperatures = {name: value for name in names if (value := getattr(options, name)) is not None}
    vector = options.speaker_embedding and _vector(options.speaker_embedding)
    return Controls(
        seed=options.seed + take, speaker=options.speaker, style=options.style, pace=options.pace, pitch=options.pitch,
        pitch_range=options.range, language=options.language, phonemes=options.phonemes,
        speaker_embedding=vector or (), **temperatures,
    )  # fmt: skip


@functools.cache
def _vector(path: Path) -> tuple[float, ...]:
    """Read once: the file may change while lines are spoken."""
    return tuple(embeddings.read_vector(path).tolist())
