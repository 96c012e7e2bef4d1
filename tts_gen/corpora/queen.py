"""Flight of the Amazon Queen: acted dialogue of about thirty characters, 6,300 clips, 4.4 hours.

From the Debian package of the game. The clips are 16 kbit/s MP3 at 11,025 Hz, written as 16-bit wav at that rate
(`tts-gen prepare` resamples): good for prosody, not for mels. Texts are right in bulk, not checked clip by clip (actors
improvise): filter on alignment before training. Speakers are "joe" (the lead) and, for the other side of a dialogue,
the dialogue file's name; cutscenes mix speakers and have no label.
"""

import gzip
import io
import re
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import soundfile

from tts_gen.config import UserError
from tts_gen.corpora import Drop, Utterance, write_manifest
from tts_gen.corpora.building import convert, report, report_recurring
from tts_gen.corpora.debian import obtain, read_files
from tts_gen.corpora.splits import merge, near_duplicates, normalise, split

PACKAGE = "flight-of-the-amazon-queen"
GAME = f"usr/share/scummvm/{PACKAGE}/queen.1c"
DOCUMENTS = tuple(f"usr/share/doc/{PACKAGE}/{name}" for name in ("copyright", "readme.txt.gz"))
LICENCE = "Flight-of-the-Amazon-Queen-License"
NOTICE = """\
THIS IS A MODIFIED VERSION of content of the game Flight of the Amazon Queen, (C) John Passfield and Steven Stamatiadis:
the voice clips of Debian package {package} were decoded to wav and paired with their texts; all else of the game was
left out. It may be given away, also modified, under the licence below and with this notice; it may not be sold on its
own. The package's own copyright file and readme follow.

"""
REPEATED = 3
"""files that share this many prompts of four words or more are variants of one scene"""
NOISE = re.compile(r"\(.*?\)|<.*?>")  # "(sigh)", "<gulp>"
GLYPHS = re.compile(r"[@^_]")  # pictures in the game's font
JOE_OFFSET = 40  # the game numbers 40 stock answers before the lines of QUEEN2.JAS


@dataclass(frozen=True)
class Clip:
    """A voice clip: the wanted text, and where it comes from."""

    id: str
    """name of its MP3 in the game file, without the extension"""
    text: str
    kind: str
    """dialogue, cutscene or description"""
    source: str
    """the file of the dialogue or cutscene; for a description, its line"""
    speaker: str | None


def build(directory: Path, debs: Sequence[Path] = (), workers: int = 2, seed: int = 0) -> Path:
    """Writes the corpus into `directory` and returns the path of its manifest.

    debs: the package's .deb file; without it, it is fetched with apt-get. A second run fetches and decodes only what is
    missing. The group is the dialogue's or cutscene's file, together with its variants, or a set of near-duplicate
    descriptions. Single prompts can still recur in another file: counted and printed. Raises UserError when the package
    cannot be had, is another, or is not as expected.
    """
    package = obtain({PACKAGE: "1.0.0-9"}, directory / "packages", debs)[PACKAGE]
    files = read_files(package, lambda name: name == GAME or name in DOCUMENTS)
    if GAME not in files:
        raise UserError(f"{package}: holds no {GAME}; give another version of the package with --deb FILE")
    members = read_members(files[GAME])
    clips = {clip.id: clip for clip in read_clips(members)}
    sounds = {name.removesuffix(".SB"): data for name, data in members.items() if name.endswith(".SB")}
    drops = [
        Drop(n, "no text", f"{n}.SB has no line of dialogue (sounds, unused takes)") for n in sounds if n not in clips
    ]
    noises = {name: clip for name, clip in clips.items() if not normalise(NOISE.sub("", clip.text))}
    drops += [Drop(name, "no words", repr(clip.text)) for name, clip in noises.items()]
    clips = {name: clip for name, clip in sorted(clips.items()) if name not in noises}
    folder = directory / "audio"
    folder.mkdir(parents=True, exist_ok=True)
    documents = [files.get(name, b"") for name in DOCUMENTS]
    texts = [gzip.decompress(d) if d[:2] == b"\x1f\x8b" else d for d in documents]
    notice = NOTICE.format(package=package.name) + "\n\n".join(t.decode(errors="replace") for t in texts)
    (directory / "LICENCE.txt").write_text(notice, encoding="utf-8")

    paths = {name: folder / f"{name}.wav" for name in clips}
    seconds, failed = convert(
        decode_mp3, {path: sounds[name] for name, path in paths.items()}, workers, "decoding queen"
    )
    drops += [
        Drop(n, "unreadable audio", f"{package.name}: {n}.SB: {failed[p]}") for n, p in paths.items() if p in failed
    ]
    kept = [clip for name, clip in clips.items() if paths[name] in seconds]
    groups = _groups(kept)
    splits = split(groups, [seconds[paths[c.id]] for c in kept], [c.kind for c in kept], seed)
    utterances = [
        Utterance(c.id, paths[c.id], c.text, c.speaker, split=s, group=g, licence=LICENCE)
        for c, s, g in zip(kept, splits, groups, strict=True)
    ]
    report("queen", utterances, {path.stem: s for path, s in seconds.items()}, drops)
    report_recurring(utterances)
    write_manifest(directory / "manifest.jsonl", utterances)
    return directory / "manifest.jsonl"


def _groups(clips: Sequence[Clip]) -> list[str]:
    """Files that repeat each other's lines make one group, and so do descriptions that are near-duplicates."""
    lines: dict[str, str] = defaultdict(str)
    prompts: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for clip in clips:
        if clip.kind == "description":
            lines[clip.source] += f" {clip.text}"
        elif len(words := normalise(clip.text)) >= 4:
            prompts[clip.source].add(words)
    repeating = [(a, b) for a, b in combinations(prompts, 2) if len(prompts[a] & prompts[b]) >= REPEATED]
    group = near_duplicates(lines) | merge({clip.source for clip in clips} - set(lines), repeating)
    return [group[clip.source] for clip in clips]


def decode_mp3(data: bytes) -> tuple[np.ndarray, int]:
    """wave[n] int16 and its rate in Hz."""
    return soundfile.read(io.BytesIO(data), dtype="int16")


def read_members(game: bytes) -> dict[str, bytes]:
    """The files in the game's one file, by name. Raises UserError when it is not of the expected format.

    "QTBL", a version, at byte 13 the number of entries (all numbers are big-endian), then 21 bytes each: name[12],
    bundle u8, offset u32, size u32.
    """
    if game[:4] != b"QTBL":
        raise UserError(
            f"{PACKAGE}: queen.1c begins with {game[:4]!r}, not with its table 'QTBL'; "
            "give another version of the package with --deb FILE"
        )
    members = {}
    try:
        for i in range(struct.unpack_from(">H", game, 13)[0]):
            name, _, offset, size = struct.unpack_from(">12sBII", game, 15 + 21 * i)
            members[name.split(b"\0")[0].decode("ascii")] = game[offset : offset + size]
    except (struct.error, UnicodeDecodeError) as error:
        raise UserError(f"{PACKAGE}: the table of queen.1c is damaged ({error}); get the package again") from error
    return members


def read_clips(members: Mapping[str, bytes]) -> Iterator[Clip]:
    """The text of every clip that has one; where lines share an identity, the first counts, as in the game."""
    seen = set()
    for identity, text, kind, source, speaker in _lines(members):
        # "*" and two characters is a command (a gesture) and parts the clips of a line; empty parts are counted too.
        for number, part in enumerate(re.split(r"\*..", text), 1):
            name = f"{identity}{number:X}"
            if part.strip() and f"{name}.SB" in members and name not in seen:
                seen.add(name)
                yield Clip(name, " ".join(GLYPHS.sub("", part).split()), kind, source, speaker)


def _lines(members: Mapping[str, bytes]) -> Iterator[tuple[str, str, str, str, str | None]]:
    """(beginning of the clips' names, text, kind, source, speaker) of every spoken line."""
    for file, data in sorted(members.items()):
        name, _, extension = file.partition(".")
        data = data[20:]  # header
        try:
            if extension == "DOG":
                for (identity, text), who in _dialogue(data):
                    speaker = "joe" if who == "J" else name.rstrip("0123456789").lower()
                    yield f"{_i16(data, 4):02d}{identity & 0xFFFF:04X}{who}", text, "dialogue", name, speaker
            elif extension == "CUT":
                strings = _strings(data, _u16(data, 8), abs(_i16(data, 2)) + 1, align=2, numbered=False)
                for i, (_, text) in enumerate(strings):
                    if i:  # the first is the name of a file
                        yield f"{name:_<5}{i:02d}", text, "cutscene", name, None
        except (struct.error, IndexError) as error:
            raise UserError(f"{PACKAGE}: {file} in queen.1c is damaged ({error}); get the package again") from error
    descriptions = members.get("QUEEN2.JAS", b"").decode("cp850").split("\n")
    for number, line in enumerate(descriptions, 1 + JOE_OFFSET):
        yield f"JOE{number:04d}", line.rstrip("\r"), "description", f"JOE{number:04d}", "joe"


def _dialogue(data: bytes) -> Iterator[tuple[tuple[int, str], str]]:
    for who, start, count in (("J", 32 + 96 * abs(_i16(data, 0)), _i16(data, 6)), ("P", _u16(data, 22), _i16(data, 8))):
        yield from ((line, who) for line in _strings(data, start, count, align=4, numbered=True))


def _strings(data: bytes, position: int, count: int, align: int, numbered: bool) -> Iterator[tuple[int, str]]:
    """(identity, text): [2 bytes, i16 identity,] length byte, text, and, where the text is not empty, padding."""
    for _ in range(count):
        identity = 0
        if numbered:
            identity, position = _i16(data, position + 2), position + 4
        length = data[position]
        position += 1 + length
        yield identity, data[position - length : position].decode("cp850")
        if length:
            position += -position % align


def _i16(data: bytes, position: int) -> int:
    return struct.unpack_from(">h", data, position)[0]


def _u16(data: bytes, position: int) -> int:
    return struct.unpack_from(">H", data, position)[0]
