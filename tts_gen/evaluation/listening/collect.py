"""Result files -> ratings, with everything that had to be left out counted and named."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tts_gen.config import UserError
from tts_gen.evaluation.listening.results import MAX_BYTES, Malformed, Result, parse


@dataclass(frozen=True)
class Collected:
    listeners: list[str]
    ratings: list[dict[str, dict[str, float]]]
    """of each listener: trial -> {stimulus: rating}"""
    files: int
    """result files that were read"""
    problems: list[str]
    """one for each file or row left out, and for each file that is missing"""
    superseded: int
    """ratings of a trial that the same listener gave again later"""

    def incomplete(self, trials: int) -> dict[str, int]:
        """Listener -> trials lacking, of those who lack some."""
        counts = {name: trials - len(rated) for name, rated in zip(self.listeners, self.ratings, strict=True)}
        return {name: lacking for name, lacking in counts.items() if lacking}


def collect(paths: Sequence[Path], key: dict) -> Collected:
    """Reads result files (a folder stands for its *.json). Of a listener's ratings of one trial the last finished
    counts. Raises UserError when not one rating is sound."""
    problems, results = [], []
    files = [f for path in paths for f in (sorted(path.glob("*.json")) if path.is_dir() else [path])]
    for file in dict.fromkeys(files):
        try:
            result = _read(file, key)
        except Malformed as error:
            problems.append(f"{_shown(file)}: {error}")
            continue
        problems += [f"{_shown(file)}: {problem}" for problem in result.problems]
        results.append(result)
    listeners: dict[str, dict] = {}
    given = 0
    for result in sorted(results, key=lambda r: (r.finished, r.session)):
        given += len(result.ratings)
        listeners.setdefault(result.listener, {}).update(result.ratings)
    listeners = {name: rated for name, rated in sorted(listeners.items()) if rated}
    if not listeners:
        shown = "; ".join(problems[:5]) or f"{', '.join(map(str, paths))} hold no result files"
        raise UserError(f"no usable ratings of test {key['test']}: {shown}")
    superseded = given - sum(map(len, listeners.values()))
    return Collected(list(listeners), list(listeners.values()), len(results), problems, superseded)


def _read(file: Path, key: dict) -> Result:
    if not file.is_file():
        raise Malformed("no such file")
    try:
        if file.stat().st_size > MAX_BYTES:
            raise Malformed(f"larger than {MAX_BYTES} bytes")
        return parse(file.read_bytes(), key)
    except OSError as error:
        raise Malformed(f"cannot be read ({error.strerror})") from error


def rating_array(ratings: list[dict], key: dict, names: list[str]) -> np.ndarray:
    """Ratings [L, U, S] of the signals `names`, utterances in sorted order; NaN where there is none (MUSHRA, MOS)."""
    utterances = {u: i for i, u in enumerate(sorted({t["utterance"] for t in key["trials"]}))}
    array = np.full((len(ratings), len(utterances), len(names)), np.nan)
    for trial in key["trials"]:
        for row, rated in zip(array, ratings, strict=True):
            for stimulus, value in rated.get(trial["id"], {}).items():
                row[utterances[trial["utterance"]], names.index(trial["stimuli"][stimulus])] = value
    return array


def preferences(ratings: list[dict], key: dict) -> dict[tuple[str, str], np.ndarray]:
    """(a, b) -> answers [L, U]: 1 where a was preferred, 0 where b, 0.5 where neither, NaN where there is none (AB)."""
    found: dict[tuple[str, str], list] = {}
    for trial in key["trials"]:
        id_of = {system: stimulus for stimulus, system in trial["stimuli"].items()}
        pair = tuple(sorted(id_of, key=key["systems"].index))
        answers = [rated.get(trial["id"], {}).get(id_of[pair[0]], np.nan) for rated in ratings]
        found.setdefault(pair, []).append(answers)
    order = sorted(found, key=lambda pair: [key["systems"].index(name) for name in pair])
    return {pair: np.array(found[pair], float).T for pair in order}


def _shown(file: Path) -> str:
    """A name may hold bytes that are no text."""
    return os.fsencode(file).decode("utf-8", "replace")
