"""Files that are either whole or absent, JSON and .npz read with errors for people, and the lock of a directory."""

import fcntl
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from tts_gen.config import UserError

REMEDY = "put it back from a copy, or, of a feature store, delete it and prepare again"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A name to write to; what stands there in the end takes `path`'s place at once: nobody ever sees half a file."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno and not error.filename:  # a full disk names none
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Whole or not at all; a file that holds `text` already is left alone."""
    data = text.encode()
    if path.is_file() and path.read_bytes() == data:
        return
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[dict]) -> None:
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_json(path: Path) -> Any:
    """Raises UserError when the file is missing or not JSON."""
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid JSON ({error}); {REMEDY}") from error


def read_json_lines(path: Path) -> list[dict]:
    """Raises UserError when the file is missing, or names the line that is not JSON."""
    rows = []
    for number, line in enumerate(_text(path).splitlines(), 1):
        try:
            rows.append(json.loads(line))
        except ValueError as error:
            raise UserError(f"{path}, line {number}: not valid JSON ({error}); {REMEDY}") from error
    return rows


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Its arrays by name, none of a file of a single array. Raises UserError for another kind of file; pickled objects
    are not read."""
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            return {}
        with file:
            return dict(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path}: cannot be read as .npz ({error})") from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error


def sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """The lock ends with the process, however it ends. Raises UserError when another process holds it."""
    with (directory / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{directory}: another process is at work there; wait, or use another directory") from error
        yield
