"""CTM files, as Kaldi, NeMo and MFA write them: `recording channel start duration phone [confidence]`, seconds.

One file usually holds a corpus. Phones with their positions in the word (`HH_B AH0_I L_I OW1_E`, `AY1_S`: Kaldi's) tell
the words too.
"""

import re
from collections import defaultdict
from functools import lru_cache
from pathlib import Path

from tts_gen.align.tiers import Interval, Tiers, is_pause, number
from tts_gen.config import UserError


def read(path: Path, name: str) -> Tiers:
    """The lines of recording `name`; of a file with one recording only, those, whatever its name. Raises UserError for
    a file without such lines, and naming the line that is malformed."""
    state = path.stat()
    parts = _parts(path, state.st_size, state.st_mtime_ns)
    if name not in parts and len(parts) != 1:
        raise UserError(f"{path}: no line of recording {name!r}; it has {len(parts)} others")
    parts = parts.get(name) or next(iter(parts.values()))
    with path.open("rb") as file:
        lines = []
        for start, end in parts:
            file.seek(start)
            lines += file.read(end - start).decode(errors="replace").splitlines()
    return _with_words([_phone(line, f"{path} line {line[:60]!r}") for line in lines if line.strip()])


@lru_cache(maxsize=4)
def _parts(path: Path, size: int, changed: int) -> dict[str, list[tuple[int, int]]]:
    """Where in the file, as it was changed last, the lines of each recording stand: first byte and end of each run of
    lines. A corpus's phones themselves would fill the memory."""
    parts: dict[str, list[tuple[int, int]]] = defaultdict(list)
    position = 0
    with path.open("rb") as file:
        for line in file:
            end = position + len(line)
            fields = line.decode("utf-8-sig", errors="replace").split(maxsplit=1)
            if fields and not fields[0].startswith(";;"):
                runs = parts[fields[0]]
                if runs and runs[-1][1] == position:
                    runs[-1] = (runs[-1][0], end)
                else:
                    runs.append((position, end))
            position = end
    return dict(parts)


def _phone(line: str, where: str) -> Interval:
    fields = line.split()
    if len(fields) < 5:
        raise UserError(f"{where}: is not `recording channel start duration phone`")
    start, duration = number(fields[2], where), number(fields[3], where)
    return Interval(start, start + duration, fields[4])


def _with_words(phones: list[Interval]) -> Tiers:
    positions = [None if is_pause(p.label) else re.fullmatch(r"(.+)_([BIES])", p.label) for p in phones]
    if not all(position or is_pause(p.label) for position, p in zip(positions, phones)):
        return Tiers(phones)
    words: list[Interval] = []
    for i, (phone, position) in enumerate(zip(phones, positions, strict=True)):
        if position is None:
            continue
        phones[i] = phone._replace(label=position[1])
        if position[2] in "BS" or not words:
            words.append(phones[i])
        else:
            words[-1] = Interval(words[-1].start, phone.end, f"{words[-1].label} {position[1]}")
    return Tiers(phones, words)
