"""What is wrong with a model, if anything: signs of failure judged from rows, as discriminating.py judges metrics.

Every sign is one number, a threshold with its reason, and a sentence. Where an interval or a floor is known, the number
must be beyond the threshold with the whole interval, or beyond the floor's range, so that few utterances accuse nobody.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from tts_gen.evaluation.headline import LABELS, figure
from tts_gen.evaluation.significance import models, system

FLAT = 0.9
"""Over-smoothing: an interval of std ratios wholly below this. Single halves of 60 groups of recordings differ by a
tenth."""
GRAINY = 1.2
"""Noise: an interval of the std ratio of first differences wholly above this. White noise in the place of a residual
whose neighbours correlate by 1/3 raises it to sqrt(1 / (1 - 1/3)) = 1.22."""
UNCOVERED = 0.1
"""Mode dropping: so much less coverage than the floor, and less than its range of single halves. A mode left out loses
its share of the recordings' values; halves of recordings differ by a hundredth."""
OUTLYING = 5.0
"""Outliers: 1 % of the values outside the range that holds 99.8 % of the recordings', and more than single halves have:
some phoneme of every third sentence."""
TAILED = 2.0
"""Instability: the error of the worst twentieth of utterances relative to the median one, against that at the lowest
temperature. Of a stable sampler the squared error is bias + temperature^2 * variance, and both relative sizes hold."""
COPIED = 0.05
"""Memorisation: so many more copies of training utterances than among the recordings held out, which have some where
texts are alike."""


class Sign(NamedTuple):
    name: str
    metric: str
    features: tuple[str, ...]
    """() for any"""
    end: str
    """which of a row's value, low and high must be beyond the bound"""
    below: bool
    """beyond is below; else above"""
    bound: Callable[[dict | None], float | None]
    """of the floor's row; None where that is needed and lacking"""
    sentence: str
    """with {value} and {feature}"""


SIGNS = (
    Sign("over-smoothing", "std_ratio", ("log_f0", "duration", "energy", "mel"), "high", True, lambda floor: FLAT,
         "is flat: {feature} has {value:.2f} of the recordings' spread"),
    Sign("noise", "std_ratio", ("d_log_f0", "d_duration", "d_energy"), "low", False, lambda floor: GRAINY,
         "is noisy: neighbours differ {value:.2f} times as much as in recordings ({feature})"),
    Sign("noise", "d_time_std_ratio", ("mel",), "low", False, lambda floor: GRAINY,
         "is noisy: frames differ {value:.2f} times as much from the next as in recordings"),
    Sign("mode dropping", "coverage", (), "value", True,
         lambda floor: floor and min(floor["low"], floor["value"] - UNCOVERED),
         "leaves modes out: its samples cover {value:.0%} of the recordings ({feature})"),
    Sign("outliers", "outlier_ratio", (), "value", False, lambda floor: floor and max(floor["high"], OUTLYING),
         "has outliers: {value:.1f} times the nominal share outside the recordings' range ({feature})"),
    Sign("memorisation", "memorised_share", (), "value", False, lambda floor: floor and floor["value"] + COPIED,
         "copies training utterances in {value:.0%} of its samples ({feature})"),
    Sign("instability", "explosive_share", (), "value", False, lambda floor: 0.0,
         "is unstable: {value:.2%} of its values are not finite or explode ({feature})"),
    Sign("instability", "error_tail", (), "value", False, lambda floor: TAILED,
         "is unstable: at some temperature its worst utterances err {value:.1f} times as much more than the median "
         "one as at the lowest ({feature})"),
)  # fmt: skip


class Finding(NamedTuple):
    """What one sign says of one system."""

    sign: str
    system: str
    row: dict
    bound: float
    found: bool
    sentence: str


def findings(shown: Sequence[dict], rows: Sequence[dict]) -> list[Finding]:
    """Of every sign that can be judged. shown: rows of one task and split, each family at one temperature, the floor
    among them; rows: those of all temperatures, by which instability is judged."""
    floor = {(r["feature"], r["metric"]): r for r in shown if r["family"] == "floor" and r["value"] is not None}
    judged_rows = [r for r in models(shown) if r["value"] is not None]
    found = []
    for row in judged_rows:
        for sign in SIGNS:
            if sign.metric != row["metric"] or (sign.features and row["feature"] not in sign.features):
                continue
            judged = _against_the_lowest(row, rows) if sign.metric == "error_tail" else row
            bound = sign.bound(floor.get((row["feature"], row["metric"])))
            if bound is None or judged is None or judged[sign.end] is None:
                continue
            beyond = judged[sign.end] < bound if sign.below else judged[sign.end] > bound
            name = system(row, judged_rows)
            text = f"{LABELS.get(name, name)} {sign.sentence.format(**judged)}."
            found.append(Finding(sign.name, name, judged, bound, beyond, text))
    return found


def _against_the_lowest(row: dict, rows: Sequence[dict]) -> dict | None:
    """The row with the largest value at any of several temperatures relative to that at the lowest."""
    same = ("family", "run", "split", "feature", "metric", "scope")
    of = [r for r in rows if all(r[f] == row[f] for f in same) and r["value"] is not None]
    of.sort(key=lambda r: r["temperature"] or 0)
    if len(of) < 2:
        return None
    return row | {"value": max(r["value"] for r in of) / of[0]["value"]}


def table(found: Sequence[Finding]) -> tuple[list[str], list[list[str]]]:
    """Header and cells; what was found first."""
    cells = [
        [LABELS.get(f.system, f.system), f.sign, f.row["feature"], f.row["metric"], figure(f.row), f"{f.bound:.3g}",
         "found" if f.found else "–"]
        for f in sorted(found, key=lambda f: not f.found)
    ]  # fmt: skip
    return ["", "sign", "feature", "metric", "figure", "threshold", ""], cells
