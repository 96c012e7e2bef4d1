"""`tts-gen corpus NAME DIR --source PATH`: the manifest of a corpus that is on disk already. Nothing is copied.

Here stands what holds for every layout: which utterances are usable, what is held out together, and the split.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import soundfile

from tts_gen.config import UserError
from tts_gen.corpora import Drop, Utterance, check, write_drops, write_manifest
from tts_gen.corpora.building import report, report_recurring, track
from tts_gen.corpora.readers import READERS
from tts_gen.corpora.splits import near_duplicates, split

HoldOut = Literal["official", "speaker", "chapter", "prompt"]


def build(
    name: str,
    directory: Path,
    source: Path,
    hold_out: HoldOut | None = None,
    workers: int = 2,
    seed: int = 0,
    **options,
) -> Path:
    """Writes `directory`/manifest.jsonl, whose audio is that of `source`, and drops.jsonl; returns the manifest's path.

    name: of READERS. options: the reader's own. hold_out: what val and test hold that train does not (see `divide`).
    Raises UserError when `source` is of another layout or no utterance of it can be used.
    """
    utterances, drops = _usable(READERS[name].read(source, **options))
    seconds, unreadable = _measure(utterances, workers)
    utterances, drops = [u for u in utterances if u.id in seconds], drops + unreadable
    divided, how = divide(utterances, [seconds[u.id] for u in utterances], hold_out, seed) if utterances else ([], "")
    directory.mkdir(parents=True, exist_ok=True)
    write_drops(directory / "drops.jsonl", drops)
    report(name, divided, seconds, drops)
    print(f"  {how}; all that was dropped: {directory / 'drops.jsonl'}")
    report_recurring(divided)
    write_manifest(directory / "manifest.jsonl", divided)
    return directory / "manifest.jsonl"


def divide(
    utterances: Sequence[Utterance], seconds: Sequence[float], hold_out: HoldOut | None, seed: int
) -> tuple[list[Utterance], str]:
    """The utterances with their groups and splits, and a line that says how they were made.

    hold_out: "official" keeps the splits that the corpus has; speaker, chapter and prompt divide anew, and val and test
    each get about a tenth, in speakers, chapters or prompts (near-duplicates are one) that are in no other split. None:
    official where some utterance is not of train, else chapter where there are chapters, else prompt. Raises UserError
    for speaker or chapter where no utterance has one.
    """
    chapters = any(u.group != u.id for u in utterances)
    if hold_out is None:
        official = any(u.split != "train" for u in utterances)
        hold_out = "official" if official else "chapter" if chapters else "prompt"
    if hold_out == "official":
        return _official(utterances, _groups(utterances, "chapter" if chapters else "prompt"))
    groups = _groups(utterances, hold_out)
    splits = split(groups, seconds, [""] * len(groups), seed)
    divided = [replace(u, group=g, split=s) for u, g, s in zip(utterances, groups, splits, strict=True)]
    return divided, f"split: held out by {hold_out}, seed {seed}"


def _official(utterances: Sequence[Utterance], groups: Sequence[str]) -> tuple[list[Utterance], str]:
    """A group that the official split parts is one group in each part."""
    splits: dict[str, set[str]] = defaultdict(set)
    for u, group in zip(utterances, groups, strict=True):
        splits[group].add(u.split)
    names = [g if len(splits[g]) == 1 else f"{g}.{u.split}" for u, g in zip(utterances, groups, strict=True)]
    kept = [replace(u, group=name) for u, name in zip(utterances, names, strict=True)]
    parted = sum(len(s) > 1 for s in splits.values())
    return kept, f"split: the corpus's own, in which {parted} of {len(splits)} groups are in several"


def _groups(utterances: Sequence[Utterance], by: str) -> list[str]:
    if by == "prompt":
        groups = near_duplicates({u.id: u.text or " ".join(u.phonemes or ()) for u in utterances})
        return [groups[u.id] for u in utterances]
    groups = {u.id: u.speaker if by == "speaker" else u.group for u in utterances}
    if all(group in (None, id) for id, group in groups.items()):
        raise UserError(f"--hold-out {by}: no utterance of this corpus has a {by}; try --hold-out prompt")
    return [group or id for id, group in groups.items()]


def _usable(found: Iterable[Utterance | Drop]) -> tuple[list[Utterance], list[Drop]]:
    utterances: dict[str, Utterance] = {}
    drops: list[Drop] = []
    for item in found:
        if isinstance(item, Utterance):
            if item.id in utterances:
                detail = f"{item.audio}: id {item.id!r} is that of {utterances[item.id].audio} too"
                item = Drop(item.id, "duplicate id", detail)
            else:
                item = check(item, str(item.audio)) or item
        if isinstance(item, Drop):
            drops.append(item)
        else:
            utterances[item.id] = item
    return list(utterances.values()), drops


def _measure(utterances: Sequence[Utterance], workers: int) -> tuple[dict[str, float], list[Drop]]:
    """Seconds of each id, by the heads of the files; a Drop for each that has none."""
    with ThreadPoolExecutor(workers) as pool:
        found = list(track(pool.map(_seconds, utterances), len(utterances), "looking at audio"))
    drops = [drop for drop in found if isinstance(drop, Drop)]
    return {u.id: s for u, s in zip(utterances, found, strict=True) if not isinstance(s, Drop)}, drops


def _seconds(utterance: Utterance) -> float | Drop:
    if not utterance.audio.is_file():
        return Drop(utterance.id, "missing audio", f"{utterance.audio} does not exist")
    try:
        return soundfile.info(utterance.audio).duration
    except (soundfile.SoundFileError, OSError, UnicodeEncodeError) as error:  # the last for a name that is no text
        return Drop(utterance.id, "unreadable audio", f"{utterance.audio}: {error}")
