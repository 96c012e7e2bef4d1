"""Label files, a phone a line: HTK's and Merlin's (`start end phone`), and Festival's (`end colour phone`).

HTK's times are whole numbers, of 100 ns; with a decimal point in any of them they are seconds. After the phone may
stand a score, and on the first phone of a word the word (HTK Book, section 6.2). Of a full-context label
(`a^b-phone+c=d`) the phone counts, and states (`phone[2]`, `phone[3]`, ...) are joined. Festival's follow a line `#`,
in seconds.
"""

import re
from pathlib import Path

from tts_gen.align.tiers import Interval, Tiers, is_pause, number, read_text
from tts_gen.config import UserError

HTK_UNIT = 1e-7  # seconds


def read(path: Path) -> Tiers:
    """Raises UserError naming the line that is no label, and for a file that has none."""
    lines = [(f"{path} line {n}", line.split()) for n, line in enumerate(read_text(path).splitlines(), 1)]
    header = next((i for i, (_, fields) in enumerate(lines) if fields == ["#"]), None)
    lines = [(where, fields) for where, fields in lines[0 if header is None else header + 1 :] if fields]
    if not lines:
        raise UserError(f"{path}: holds no label")
    for where, fields in lines:
        if len(fields) < 3:
            form = "`start end phone`" if header is None else "`end colour phone`"
            raise UserError(f"{where}: {' '.join(fields)[:40]!r} is not {form}")
    return _htk(lines) if header is None else _festival(lines)


def _festival(lines: list[tuple[str, list[str]]]) -> Tiers:
    phones: list[Interval] = []
    for where, fields in lines:
        phones.append(Interval(phones[-1].end if phones else 0.0, number(fields[0], where), fields[2]))
    return Tiers(phones, end=phones[-1].end)


def _htk(lines: list[tuple[str, list[str]]]) -> Tiers:
    unit = HTK_UNIT if all(time.lstrip("-").isdigit() for _, fields in lines for time in fields[:2]) else 1.0
    phones: list[Interval] = []
    words: list[Interval] = []
    state = 0
    for where, (start, end, label, *others) in lines:
        start, end = number(start, where) * unit, number(end, where) * unit
        last, (label, state) = state, _phone(label)
        if phones and state > last > 0:
            phones[-1] = phones[-1]._replace(end=end)
        else:
            phones.append(Interval(start, end, label))
        if word := next((other for other in others if not _is_number(other)), ""):
            words.append(Interval(start, end, word))
        elif words and not is_pause(label):
            words[-1] = words[-1]._replace(end=end)
    return Tiers(phones, words, phones[-1].end)


def _phone(label: str) -> tuple[str, int]:
    """The phone of a label, and the number of its state, 0 where there is none."""
    label, state = re.fullmatch(r"(.*?)(?:\[(\d{1,4})\])?", label).groups()
    if context := re.match(r"[^-]+\^[^-]+-(.+?)\+", label):
        label = context[1]
    return label, int(state or 0)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?(e[+-]?\d+)?", text) is not None
