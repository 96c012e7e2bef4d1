"""Which file of a folder of alignments belongs to which utterance of a manifest."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tts_gen.align.files import FORMATS
from tts_gen.config import UserError
from tts_gen.corpora import Drop, Utterance

ENDINGS = [ending.lower() for ending in FORMATS]


def pair(utterances: Sequence[Utterance], source: str | Path) -> tuple[list[Utterance], list[Drop]]:
    """The utterances, each with the alignment that `source` (a folder with all below it, or one CTM file) has for it,
    and a Drop for those that it has none for, or several.

    A file belongs to the utterance whose id, or else the name of whose audio, is its own; of several, the one in a
    folder named as the speaker or the audio's folder. A TextGrid goes before a .lab, which may be a transcript. Raises
    UserError when there is nothing of the kind.
    """
    source = Path(source).absolute()
    if source.suffix.lower() == ".ctm" and source.is_file():
        return [replace(u, alignment=source) for u in utterances], []
    files: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(source.rglob("*")):
        if path.suffix.lower() in ENDINGS:
            files[path.stem].append(path)
    if not files:
        raise UserError(
            f"{source}: no file in or below it ends in {', '.join(FORMATS)}; name the aligner's output folder"
        )
    paired, drops = [], []
    for u in utterances:
        own = _of(u, files.get(u.id) or files.get(u.audio.stem, []))
        if len(own) == 1:
            paired.append(replace(u, alignment=own[0]))
        else:
            detail = f"{source}: {len(own)} files named {u.id} or {u.audio.stem}, one is needed"
            drops.append(Drop(u.id, "no alignment file", detail))
    return paired, drops


def _of(utterance: Utterance, files: Sequence[Path]) -> list[Path]:
    best = min((ENDINGS.index(path.suffix.lower()) for path in files), default=0)
    files = [path for path in files if path.suffix.lower() == ENDINGS[best]]
    near = [path for path in files if path.parent.name in (utterance.speaker, utterance.audio.parent.name)]
    return near if len(near) == 1 else list(files)
