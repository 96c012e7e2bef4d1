"""Readers of corpora that are on disk already: one file a layout, one line below.

A reader finds utterances and line-level faults; what holds for every layout (ids, missing or unreadable audio, splits,
groups) is in `tts_gen.corpora.reading`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from tts_gen.corpora import Drop, Utterance
from tts_gen.corpora.readers import esd, folder, hifi_tts, libritts, ljspeech, table, vctk


class Reader(Protocol):
    """What the module of a layout has."""

    HELP: str
    """a line for `tts-gen corpus --help`"""
    OPTIONS: Mapping[str, Mapping[str, Any]]
    """of its own: keyword of `read` -> keywords of argparse; `audio_folder` is --audio-folder on the command line"""

    def read(self, source: Path, **options: Any) -> Iterator[Utterance | Drop]:
        """What is in `source`, a Drop for each line or file that is no utterance.

        Whether audio exists is not looked at. `split` is the corpus's own where it has one, else "train"; `group` its
        own too (chapter), else left out. Raises UserError saying what was expected where in a `source` of another
        layout.
        """


READERS: dict[str, Reader] = {
    "ljspeech": ljspeech,
    "vctk": vctk,
    "libritts": libritts,
    "esd": esd,
    "hifi_tts": hifi_tts,
    "folder": folder,
    "table": table,
}
