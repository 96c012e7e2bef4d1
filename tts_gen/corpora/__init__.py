"""Corpora: what an utterance is, the manifest that lists them, and the corpora that this package can fetch or make.
`readers` knows the layouts of corpora that are on disk already.

A manifest is a JSONL file: one utterance a line, its fields those of `Utterance`, `audio` and `alignment` relative to
the file.
"""

import dataclasses
import importlib
import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from tts_gen.config import UserError, from_dict

Split = Literal["train", "val", "test"]
SPLITS: tuple[str, ...] = get_args(Split)
UNTIMED = frozenset("|,.?!:;")
"""Symbols of `Utterance.phonemes` that have no duration: the word boundary and punctuation."""


@dataclass(frozen=True)
class Utterance:
    """One recording and what is known of it."""

    id: str
    """unique in its manifest; letters, digits, `_`, `-` and `.` only, since files are named after it"""
    audio: Path
    """absolute after reading; the manifest holds it relative to itself"""
    text: str = ""
    """may be missing where `phonemes` are given"""
    speaker: str | None = None
    style: str | None = None
    split: Split = "train"
    group: str = ""
    """what is held out together and resampled together (dialogue file, near-duplicate prompts); the id where none is
    given"""
    licence: str = ""
    language: str = "en"
    phonemes: tuple[str, ...] | None = None
    """ARPAbet with stress ("AH0") or any other phone set; "|" marks a word boundary, "pau" a pause, and , . ? ! : ;
    stand for punctuation after a word"""
    durations: tuple[float, ...] | None = None
    """one per phoneme ("pau" included, "|" and punctuation not counted), in seconds, or in frames where
    `frames_per_second` is given; they fill the audio"""
    frames_per_second: float | None = None
    """of `durations` in frames: sampling rate / hop, as 86.1328125 for 22,050 Hz and 256 samples"""
    alignment: Path | None = None
    """file that says when which phone is spoken: TextGrid, .lab or .ctm (docs/ALIGNMENT.md). It goes before `phonemes`
    and `durations`"""

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", self.group or self.id)


@dataclass(frozen=True)
class Drop:
    """An utterance that was left out."""

    id: str
    """the utterance's id, or "line 12" where there is none"""
    reason: str
    """short category, used for counting: "unreadable audio" """
    detail: str = ""
    """names the file, the field and the value"""

    def __post_init__(self) -> None:
        # Names of files can hold bytes that are no text, and could be neither printed nor written.
        for name in ("id", "detail"):
            object.__setattr__(self, name, getattr(self, name).encode(errors="backslashreplace").decode())


def read_manifest(path: str | Path) -> tuple[list[Utterance], list[Drop]]:
    """The utterances of a manifest, and one Drop for each line that is not one.

    Whether the audio exists is not looked at: that is for whoever opens it. Raises UserError when the file is missing
    or holds no valid line.
    """
    path = Path(path).absolute()
    if not path.is_file():
        raise UserError(f"{path}: no such manifest; `tts-gen corpus NAME DIR` writes one (NAME: {', '.join(CORPORA)})")
    utterances: dict[str, Utterance] = {}
    drops: list[Drop] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            result = _read_line(line, path, number)
            if isinstance(result, Utterance) and result.id in utterances:
                result = Drop(
                    result.id, "duplicate id", f"{path.name} line {number}: id {result.id!r} stands on an earlier line"
                )
            if isinstance(result, Drop):
                drops.append(result)
            else:
                utterances[result.id] = result
    if not utterances:
        raise UserError(
            f"{path}: no valid utterance"
            + (f"; the first problem: {drops[0].detail}" if drops else "; the file is empty")
        )
    return list(utterances.values()), drops


def _read_line(line: bytes, path: Path, number: int) -> Utterance | Drop:
    where = f"{path.name} line {number}"
    try:
        values = json.loads(line.decode("utf-8-sig"))
        json.dumps(values, ensure_ascii=False).encode()  # half a surrogate pair could be written nowhere
    except UnicodeError as error:
        return Drop(f"line {number}", "not UTF-8", f"{where}: {error}; save it as UTF-8")
    except (ValueError, RecursionError) as error:
        return Drop(f"line {number}", "not JSON", f"{where}: {error}")
    if not isinstance(values, dict):
        return Drop(f"line {number}", "not JSON", f"{where}: expected an object, found {str(values)[:40]!r}")
    label = values["id"] if isinstance(values.get("id"), str) and values["id"] else f"line {number}"
    if "textgrid" in values:  # its name in older manifests
        values["alignment"] = values.pop("textgrid")
    given = {key: values.get(key) for key in ("audio", "alignment")}
    paths = {key: Path(os.path.normpath(path.parent / p)) for key, p in given.items() if p and isinstance(p, str)}
    try:
        utterance = from_dict(Utterance, values | paths, where)
    except UserError as error:
        return Drop(label, "bad field", str(error))
    return check(utterance, where) or utterance


def check(utterance: Utterance, where: str) -> Drop | None:
    """Why an utterance cannot be used, in what the types of its fields alone do not say; `where` it was found."""
    if not re.fullmatch(r"\w[\w.-]{0,199}", utterance.id):
        detail = f"{where}: id {utterance.id[:40]!r} may hold letters, digits, _, - and . only, not - or . first"
        return Drop(utterance.id, "unsafe id", detail)
    if not utterance.text.strip() and not utterance.phonemes:
        return Drop(utterance.id, "no text", f"{where}: text is empty and there are no phonemes")
    if utterance.durations is not None:
        timed = sum(p not in UNTIMED for p in utterance.phonemes or ())
        if timed != len(utterance.durations) or min(utterance.durations, default=0) < 0:
            found = f"{len(utterance.durations)} durations for {timed} phonemes"
            detail = f"{where}: {found}; one each, in seconds, none negative"
            return Drop(utterance.id, "bad durations", detail)
    if utterance.frames_per_second is not None and utterance.frames_per_second <= 0:
        detail = f"{where}: frames_per_second is {utterance.frames_per_second:g}; give sampling rate / hop"
        return Drop(utterance.id, "bad durations", detail)
    return None


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Fields at their default are left out."""
    path = Path(path).absolute()
    _write_lines(path, (_to_json(utterance, path.parent) for utterance in utterances))


def write_drops(path: Path, drops: Iterable[Drop]) -> None:
    """One a line, as `tts-gen prepare` lists its own."""
    _write_lines(path, map(dataclasses.asdict, drops))


def _write_lines(path: Path, rows: Iterable[dict]) -> None:
    """In one piece: an interrupted run leaves the old file, or none."""
    temporary = path.with_name(path.name + ".part")
    with temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    os.replace(temporary, path)


def _to_json(utterance: Utterance, root: Path) -> dict:
    values = {}
    for field in dataclasses.fields(utterance):
        value = getattr(utterance, field.name)
        if isinstance(value, Path):
            value = Path(os.path.relpath(value.absolute(), root)).as_posix()
        if value != field.default or field.name == "split":
            values[field.name] = value
    return values


def _build(name: str, directory: str | Path, debs: Sequence[str | Path] = (), **settings) -> Path:
    module = importlib.import_module(f"tts_gen.corpora.{name}")
    return module.build(Path(directory), debs=[Path(deb) for deb in debs], **settings)


CORPORA: dict[str, Callable[..., Path]] = {name: partial(_build, name) for name in ("asterisk", "queen", "espeak")}
"""name -> build(directory, debs=(), workers=2, seed=0) -> path of the manifest; a corpus's module is imported when it
is built"""
