"""What the builders share: decoding in processes with a progress display, files written whole, and the summary."""

import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np
import soundfile
from rich.console import Console

from tts_gen.config import UserError
from tts_gen.corpora import SPLITS, Drop, Utterance
from tts_gen.corpora.splits import normalise
from tts_gen.progress import progress

Item = TypeVar("Item")
Decoder = Callable[[bytes], tuple[np.ndarray, int]]
"""coded audio -> (wave[n] int16, sample rate in Hz); a function of a module, since it is sent to other processes"""


def convert(
    decode: Decoder, clips: Mapping[Path, bytes], workers: int, label: str
) -> tuple[dict[Path, float], dict[Path, str]]:
    """Decodes each of `clips` (path of the wav to write -> coded audio) that is not there yet, to 16-bit wav.

    Returns the seconds of every wav that is there in the end, and for the others why decoding failed.
    """
    missing = {path: data for path, data in clips.items() if not path.exists()}
    if len(missing) < len(clips):
        print(f"{label}: {len(clips) - len(missing)} of {len(clips)} clips are there already", file=sys.stderr)
    done = track(_convert_all(decode, missing, workers), len(missing), label)
    failed = {path: error for path, error in done if error}
    return {path: soundfile.info(path).duration for path in clips if path not in failed}, failed


def _convert_all(decode: Decoder, clips: Mapping[Path, bytes], workers: int) -> Iterator[tuple[Path, str | None]]:
    if workers < 2 or len(clips) < 2:
        yield from (_convert_one(decode, path, data) for path, data in clips.items())
        return
    # Not fork: the parent may hold threads (JAX does), and a forked copy of one can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        tasks = [pool.submit(_convert_one, decode, path, data) for path, data in clips.items()]
        yield from (task.result() for task in as_completed(tasks))


def _convert_one(decode: Decoder, path: Path, data: bytes) -> tuple[Path, str | None]:
    try:
        wave, rate = decode(data)
    except (OSError, ValueError, RuntimeError, EOFError) as error:
        return path, str(error)
    if not len(wave):
        return path, "no samples"
    write_wav(path, wave, rate)
    return path, None


def write_wav(path: Path, wave: np.ndarray, rate: int) -> None:
    """Writes wave[n] (int16, or float in -1..1) as 16-bit wav, in one piece."""
    temporary = path.with_name(path.name + ".part")
    soundfile.write(temporary, wave, rate, format="WAV", subtype="PCM_16")
    os.replace(temporary, path)


def track(items: Iterable[Item], total: int, label: str) -> Iterator[Item]:
    """Passes the items on; shows count, rate and time left."""
    with progress(label, total, "clips", Console(stderr=True)) as advance:
        for item in items:
            yield item
            advance(1)


def report(name: str, utterances: Sequence[Utterance], seconds: Mapping[str, float], drops: Sequence[Drop]) -> None:
    """Prints utterances and seconds (given by id) over all and per split, and the drops by reason with an example each.

    Raises UserError when there is no utterance.
    """
    reasons: dict[str, list[Drop]] = defaultdict(list)
    for drop in drops:
        reasons[drop.reason].append(drop)
    dropped = [
        f"  dropped {len(d)}: {reason}, such as {d[0].id} ({d[0].detail})" for reason, d in sorted(reasons.items())
    ]
    if not utterances:
        raise UserError("\n".join([f"{name}: no utterance is left", *dropped]))
    minutes = sum(seconds[u.id] for u in utterances) / 60
    speakers = len({u.speaker for u in utterances if u.speaker})
    print(f"{name}: {len(utterances)} utterances, {minutes:.1f} minutes, named speakers: {speakers}")
    for split in SPLITS:
        part = [u for u in utterances if u.split == split]
        groups = len({u.group for u in part})
        print(f"  {split}: {len(part)} utterances in {groups} groups, {sum(seconds[u.id] for u in part):.0f} seconds")
    for line in dropped:
        print(line)


def report_recurring(utterances: Sequence[Utterance]) -> None:
    """Prints how many prompts of val and test are one of train too: groups larger than a prompt allow it."""
    trained = {normalise(u.text) for u in utterances if u.split == "train"}
    for name in ("val", "test"):
        recurring = [w for u in utterances if u.split == name and (w := normalise(u.text)) and w in trained]
        long = sum(len(w) >= 4 for w in recurring)
        print(f"  {name}: {len(recurring)} prompts ({long} of four words or more) that are a prompt of train too")
