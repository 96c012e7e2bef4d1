"""What the readers share."""

from collections.abc import Iterable
from pathlib import Path

from tts_gen.config import UserError
from tts_gen.corpora import Drop, Utterance

AUDIO = (".wav", ".flac", ".ogg", ".opus", ".mp3")
"""suffixes of sound files that libsndfile reads"""
SPLIT_OF = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "evaluation": "val", "test": "test",
}  # fmt: skip
"""what corpora call a split -> what `Utterance` calls it"""


def expect(source: Path, layout: str, *patterns: str) -> list[Path]:
    """What matches one of `patterns` in `source`, sorted. Raises UserError where there is nothing."""
    if found := sorted({path for pattern in patterns for path in source.glob(pattern)}):
        return found
    raise mismatch(source, layout, " or ".join(patterns))


def mismatch(source: Path, layout: str, expected: str) -> UserError:
    found = ", ".join(sorted(path.name for path in source.iterdir())[:8]) if source.is_dir() else "no such folder"
    return UserError(
        f"{source}: not {layout}: expected {expected} in it, found {found or 'nothing'}; name the folder that holds "
        "it with --source"
    )


def stems(paths: Iterable[Path], suffix: str) -> set[Path]:
    """Paths without their suffix, which may hold several dots."""
    return {path.with_name(path.name.removesuffix(suffix)) for path in paths}


def with_text(id: str, audio: Path, text_file: Path, **fields) -> Utterance | Drop:
    """The utterance whose text is that of a file of its own (UTF-8), or why it has none."""
    try:
        text = text_file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        return Drop(id, "no text", f"{text_file} does not exist")
    except UnicodeDecodeError as error:
        return Drop(id, "not UTF-8", f"{text_file}: {error}")
    except OSError as error:
        return Drop(id, "unreadable text", str(error))
    return Utterance(id, audio, " ".join(text.split()), **fields)
