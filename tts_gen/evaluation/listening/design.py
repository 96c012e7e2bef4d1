"""Which stimuli stand together, and in which order each listener meets them."""

from dataclasses import dataclass
from itertools import combinations

import numpy as np

KINDS = {
    "mushra": (
        "Rate every sample against the reference: how good is it? The reference itself is among the samples; "
        "rate what sounds like it 100."
    ),
    "ab": "Which of the two sounds more natural?",
    "mos": "How natural does the sample sound?",
}
"""kind of test -> the question that listeners are asked"""
RANGE = {"mushra": (0, 100), "ab": (0, 1), "mos": (1, 5)}
"""lowest and highest rating. AB: 1 the preferred, 0 the other, 0.5 both where there is no preference."""
MAX_SIGNALS = 12
"""on one MUSHRA page, hidden reference and anchors included (BS.1534-3, 5.4)"""
TRAINING_TRIALS = 3
"""at most; a MUSHRA test has one"""


@dataclass(frozen=True)
class Trial:
    """One page. Ids tell nothing of what they stand for."""

    id: str
    utterance: str
    stimuli: dict[str, str]
    """id -> system; sorted by id, which is a random order"""
    reference: str | None = None
    """id of the open reference: an id of its own, so that the page does not tell which stimulus is the hidden one"""


def williams(n: int) -> np.ndarray:
    """Williams' Latin square [n or, for odd n, 2 n, n]: every number once in a row, equally often in every column, and
    equally often right after every other (Williams, Aust. J. Sci. Res. A 2, 1949)."""
    first = [(i + 1) // 2 if i % 2 else (n - i // 2) % n for i in range(n)]
    rows = (np.array(first) + np.arange(n)[:, None]) % n
    return rows if n % 2 == 0 or n == 1 else np.concatenate((rows, rows[:, ::-1]))


def make_trials(
    kind: str, utterances: list[str], systems: list[str], reference: str | None, rng: np.random.Generator
) -> list[Trial]:
    """All trials of a test: MUSHRA, one an utterance with all systems; AB, one an utterance and pair of systems; MOS,
    one an utterance and system."""
    sizes = {"mushra": len(systems), "ab": 2, "mos": 1}
    return [
        Trial(
            _id(rng), utterance, dict(sorted((_id(rng), system) for system in chosen)),
            _id(rng) if kind == "mushra" and reference else None,
        )
        for utterance in utterances
        for chosen in combinations(systems, sizes[kind])
    ]  # fmt: skip


def _id(rng: np.random.Generator) -> str:
    return "s" + rng.bytes(6).hex()  # a letter first: nothing that reads it takes it for a number


def trial_order(n: int, rng: np.random.Generator) -> list[list[int]]:
    """Order of n trials for each row of a Williams square; listener r takes row r modulo their count."""
    return rng.permutation(n)[williams(n)].tolist()


def positions(trial: Trial, index: int, systems: list[str]) -> list[list[int]]:
    """Order of a trial's stimuli (indices into trial.stimuli) for each row of a Williams square over its systems.

    Listener r takes row r modulo their count. The rows are moved on by `index`, the trial's number, so that systems
    change places from one trial to the next for one listener too."""
    of_system = {system: i for i, system in enumerate(trial.stimuli.values())}
    order = [of_system[system] for system in systems if system in of_system]
    return np.roll(np.array(order)[williams(len(order))], -index, axis=0).tolist()
