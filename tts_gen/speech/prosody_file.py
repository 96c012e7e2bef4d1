"""A sentence's prosody as a file that people edit: its phonemes, each with its duration in ms, its f0 in Hz, and, by
runs that have energy, its energy in dB.

    {"speaker": "allison", "style": null, "phonemes": [
        {"phone": "pau", "ms": 104.49, "hz": null, "after": ""},
        {"phone": "AY1", "ms": 116.1, "hz": 203.62, "after": "|"}, ...]}

`after` is what follows a word's last phone: "|", or its punctuation; "hz": null is a phoneme without voice. Either all
phonemes have a "db" or none.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tts_gen import text
from tts_gen.align import Segment
from tts_gen.config import Audio, UserError
from tts_gen.features import durations
from tts_gen.features.files import read_json, write_json
from tts_gen.features.inventory import Inventory
from tts_gen.features.pooling import DECIBEL
from tts_gen.features.store import Features

FIELDS = {"phone": str, "ms": (int, float), "hz": (int, float, type(None)), "after": str}
LOUDEST = 200.0
"""dB, up or down"""
LOWEST, HIGHEST = 20.0, 2000.0
"""Hz: what a voice can do, widely"""
LONGEST = 60.0
"""seconds of a sentence"""


def write(path: Path, spoken: Features, inventory: Inventory, audio: Audio) -> None:
    """Raises OSError where the file cannot be written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, told(spoken, inventory, audio))


def told(spoken: Features, inventory: Inventory, audio: Audio) -> dict:
    """What stands in the file."""
    phonemes = inventory.decode(spoken.phoneme, spoken.stress, spoken.edge, spoken.punctuation)
    milliseconds = spoken.duration * audio.frame_seconds * 1000
    f0 = np.where(spoken.voiced, np.exp(spoken.log_f0), np.nan)
    entries = [
        {
            "phone": text.spelled(phoneme),
            "ms": round(float(ms), 3),
            "hz": None if np.isnan(hz) else round(float(hz), 3),
            "after": _after(phoneme),
        }
        for phoneme, ms, hz in zip(phonemes, milliseconds, f0, strict=True)
    ]
    if spoken.energy is not None:
        entries = [e | {"db": round(float(x * DECIBEL), 2)} for e, x in zip(entries, spoken.energy, strict=True)]
    labels = {"speaker": inventory.speakers[spoken.speaker], "style": inventory.styles[spoken.style]}
    return labels | {"phonemes": entries}


def read(path: Path, inventory: Inventory, audio: Audio) -> Features:
    """Raises UserError as `taken` does."""
    return taken(read_json(path), str(path), inventory, audio)


def taken(found: Any, where: str, inventory: Inventory, audio: Audio) -> Features:
    """Inverse of `told`: the sentence, with a mel of zeros of its length. Raises UserError that names the field for
    what `told` does not tell so, for a phone, a speaker or a style that the inventory lacks, and for values that no
    voice has; `where` is where `found` stands."""
    if not isinstance(found, dict) or not isinstance(found.get("phonemes"), list) or not found["phonemes"]:
        raise UserError(f"{where}: has no list of phonemes; `tts-gen synthesize --save-prosody FILE` writes one")
    if unknown := found.keys() - {"speaker", "style", "phonemes"}:
        raise UserError(f"{where}: no field {', '.join(sorted(unknown))}; valid are speaker, style, phonemes")
    entries = found["phonemes"]
    fields = FIELDS | ({"db": (int, float)} if any(isinstance(e, dict) and "db" in e for e in entries) else {})
    for i, entry in enumerate(entries, 1):
        _check(entry, fields, f"{where}: phoneme {i}")
    symbols = [s for entry in entries for s in (entry["phone"], entry["after"]) if s]
    try:
        phonemes = text.parse(symbols)
        if len(phonemes) != len(entries):
            raise UserError(f"{len(entries)} phonemes, of which {len(phonemes)} are phones or pau")
        encoded = inventory.encode(phonemes)
        labels = {
            "speaker": inventory.speaker_id(found.get("speaker")),
            "style": inventory.style_id(found.get("style")),
        }
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    hz = np.array([np.nan if entry["hz"] is None else entry["hz"] for entry in entries], np.float64)
    seconds = [entry["ms"] / 1000 for entry in entries]
    if sum(seconds) > LONGEST:
        raise UserError(f"{where}: the phonemes last {sum(seconds):.1f} s together; at most {LONGEST:g} s")
    if sum(seconds) < len(seconds) * audio.frame_seconds:
        shortest = f"{len(seconds)} phonemes need {1000 * len(seconds) * audio.frame_seconds:.0f} ms at least"
        raise UserError(f"{where}: the phonemes last {1000 * sum(seconds):.0f} ms together; {shortest}")
    duration = _frames(seconds, phonemes, audio)
    energy = np.array([e["db"] for e in entries], np.float32) / np.float32(DECIBEL) if "db" in fields else None
    return Features(
        **encoded, **labels, duration=duration, log_f0=np.log(hz).astype(np.float32), voiced=~np.isnan(hz),
        mel=np.zeros((duration.sum(), audio.n_mels), np.float32), energy=energy,
    )  # fmt: skip


def _after(phoneme: text.Phoneme) -> str:
    return (text.PUNCTUATION[phoneme.punctuation] or text.WORD_BOUNDARY) if phoneme.edge & text.LAST else ""


def _check(entry: Any, fields: dict, where: str) -> None:
    if not isinstance(entry, dict) or entry.keys() != fields.keys():
        raise UserError(f"{where}: must have the fields {', '.join(fields)}, and no others; found {entry!r}")
    for name, kind in fields.items():
        if not isinstance(entry[name], kind) or isinstance(entry[name], bool):
            raise UserError(f"{where}: {name} is {entry[name]!r}")
    if entry["after"] not in ("", text.WORD_BOUNDARY, *text.PUNCTUATION):
        valid = " ".join(filter(None, (text.WORD_BOUNDARY, *text.PUNCTUATION)))
        raise UserError(f"{where}: after is {entry['after']!r}; valid are nothing, and {valid}")
    if not 0 < entry["ms"] <= LONGEST * 1000:
        told = f"ms is {_brief(entry['ms'])}; give more than 0, and {LONGEST:g} s at most"
        raise UserError(f"{where} ({entry['phone']}): {told}")
    if not -LOUDEST <= entry.get("db", 0) <= LOUDEST:
        raise UserError(f"{where} ({entry['phone']}): db is {_brief(entry['db'])}, outside {-LOUDEST:g} to {LOUDEST:g}")
    if entry["hz"] is None:
        return
    if entry["phone"] == text.PAUSE:
        raise UserError(f"{where}: a pause has no pitch, hz must be null")
    if not LOWEST <= entry["hz"] <= HIGHEST:
        raise UserError(f"{where} ({entry['phone']}): hz is {_brief(entry['hz'])}, outside {LOWEST:g} to {HIGHEST:g}")


def _frames(seconds: Sequence[float], phonemes: Sequence[text.Phoneme], audio: Audio) -> np.ndarray:
    """[N] int32: boundaries rounded to frames."""
    ends = np.cumsum(seconds).tolist()
    spans = [Segment(p, a, b) for p, a, b in zip(phonemes, [0.0, *ends[:-1]], ends, strict=True)]
    return durations.fit(spans, max(round(ends[-1] / audio.frame_seconds), len(spans)), audio)


def _brief(value: float) -> str:
    """A number may have hundreds of digits."""
    return repr(value)[:20]
