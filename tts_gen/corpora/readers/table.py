"""A table with named columns: CSV, or with ;, tabs or | between them, as its first line shows. UTF-8.

The columns are the fields of `Utterance`; audio is needed, and text or phonemes. The id is that of the audio file where
there is no column for it. phonemes and durations are separated by spaces. Other columns are passed over. With tabs or |
quotation marks are text, as in Common Voice and LJSpeech; else they enclose cells, as spreadsheets write them.
"""

import csv
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tts_gen.config import UserError, from_dict
from tts_gen.corpora import Drop, Utterance
from tts_gen.corpora.readers.layout import SPLIT_OF

HELP = "a table (CSV, TSV) with a heading: audio, text, and more fields of a manifest"
OPTIONS = {
    "column": {
        "action": "append", "metavar": "FIELD=NAME", "default": [],
        "help": "what the table calls a field of a manifest: text=sentence (repeat)",
    },
    "audio_folder": {"type": Path, "help": "what audio is relative to, instead of the table's folder"},
    "language": {"default": "en", "help": "of rows that do not say"},
}  # fmt: skip
Converter = Callable[[str], Any]
CONVERTERS: dict[str, Converter] = {
    "split": lambda name: SPLIT_OF.get(name.lower(), name),
    "phonemes": str.split,
    "durations": lambda text: [float(part) for part in text.split()],
    "frames_per_second": float,
}
"""of fields that are not text, whatever the table"""
FIELDS = [field.name for field in dataclasses.fields(Utterance)]


def read(
    source: Path, column: Sequence[str] = (), audio_folder: Path | None = None, language: str = "en"
) -> Iterator[Utterance | Drop]:
    if not source.is_file():
        raise UserError(f"{source}: not a table but {'a folder' if source.is_dir() else 'nothing'}; name a file")
    csv.field_size_limit(2**20)
    # Bytes that are not UTF-8 become surrogates, so that they cost one row and not the file.
    with source.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as lines:
        heading = lines.readline().rstrip("\r\n")
        separator = next((mark for mark in "\t|;" if mark in heading), ",")
        names = next(csv.reader([heading], delimiter=separator), [])
        fields = _fields(source, names, column)
        converters = {
            **CONVERTERS,
            "audio": (audio_folder or source.parent).absolute().joinpath,
            "alignment": source.parent.absolute().joinpath,
        }
        quoting = csv.QUOTE_NONE if separator in "\t|" else csv.QUOTE_MINIMAL
        rows = csv.reader(lines, delimiter=separator, quoting=quoting)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield Drop(f"line {rows.line_num + 1}", "bad row", f"{source.name} line {rows.line_num + 1}: {error}")
                continue
            if row is None:
                return
            if row:
                where = f"{source.name} line {rows.line_num + 1}"
                yield _utterance(row, fields, converters, language, where)


def _fields(source: Path, names: Sequence[str], columns: Sequence[str]) -> list[str | None]:
    """The field of Utterance that each column is, if any."""
    field_of = {name: name for name in names if name in FIELDS}
    for column in columns:
        field, _, name = column.partition("=")
        if field not in FIELDS or name not in names:
            raise UserError(
                f"--column {column}: give FIELD=NAME, a field of {', '.join(FIELDS)} and a column of {source}: "
                f"{', '.join(names)}"
            )
        field_of = {n: f for n, f in field_of.items() if f != field} | {name: field}
    given = set(field_of.values())
    if "audio" not in given or not given & {"text", "phonemes"}:
        raise UserError(
            f"{source}: expected the columns audio, and text or phonemes, found {', '.join(names) or 'nothing'}; say "
            f"which they are with --column audio=NAME --column text=NAME"
        )
    if unused := [name for name in names if name not in field_of]:
        print(f"{source.name}: columns not used: {', '.join(unused)}", file=sys.stderr)
    return [field_of.get(name) for name in names]


def _utterance(
    row: Sequence[str], fields: Sequence[str | None], converters: Mapping[str, Converter], language: str, where: str
) -> Utterance | Drop:
    values = {field: cell.strip() for field, cell in zip(fields, row) if field and cell.strip()}
    id = values.get("id") or Path(values.get("audio", "")).stem or where
    try:
        "".join(row).encode()
    except UnicodeEncodeError:
        return Drop(where, "not UTF-8", f"{where}: {id!r}")
    if len(row) != len(fields):
        reason = "missing columns" if len(row) < len(fields) else "too many columns"
        return Drop(id, reason, f"{where}: {len(row)} columns, the heading has {len(fields)}")
    try:
        converted = {name: converters.get(name, str)(value) for name, value in values.items()}
        return from_dict(Utterance, {"language": language} | converted | {"id": id}, where)
    except UserError as error:
        return Drop(id, "bad field", str(error))
    except ValueError as error:
        return Drop(id, "bad field", f"{where}: {error}")
