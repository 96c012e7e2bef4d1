"""Which metrics tell models from controls on a corpus. The others are shown all the same, and marked."""

from collections.abc import Sequence
from typing import NamedTuple

BEST_IN_BETWEEN = ("ratio", "difference")
"""Ends of the names of metrics that are best at 1 or 0, between extremes; of all others that are judged, but for those
of MORE_IS_BETTER, less is better."""
MORE_IS_BETTER = ("coverage",)
SCORES = ("rmse", "mae", "best_of_k", "energy_score", "crps", "mel_l1", "mcd", "mcd_dtw")
"""Metrics without a floor, since they compare with the oracle value by value, that are judged against the best
family."""


class Verdict(NamedTuple):
    discriminates: bool | None
    """None: cannot be said, for want of controls, of a reference, or of intervals"""
    reference: str
    """what the controls were compared with: "floor", or a family's label"""
    reached_by: tuple[str, ...]
    """controls whose interval does not lie beyond the reference's"""


def discriminating(rows: Sequence[dict]) -> dict[tuple[str, str], Verdict]:
    """(feature, metric) -> Verdict, from the overall rows of one task and split, each family at one temperature.

    A metric discriminates if the 95 % interval of every control lies beyond the floor's: wholly above it where less is
    better, below it where more is, apart from it on either side for ratios and differences. That floor is one half of
    the oracle against the other, so it is wide, and the judgement strict, where utterances are few. SCORES have no
    floor: there the controls must lie above the interval of the best family, which is the one with the least value; the
    intervals are not paired, which is strict again. Bits per dimension and plain statistics (std, diversity, ...) are
    not judged."""
    found = {}
    for key in {(row["feature"], row["metric"]): None for row in rows}:
        of = [r for r in rows if (r["feature"], r["metric"]) == key and r["scope"] == "overall"]
        controls = [r for r in of if r["family"].startswith("control:") and r["value"] is not None]
        reference = _reference(of, key[1])
        if not controls or reference is None or any(r["low"] is None for r in controls):
            found[key] = Verdict(None, reference["family"] if reference else "", ())
            continue
        reached = tuple(r["family"] for r in controls if not _beyond(r, reference))
        found[key] = Verdict(not reached, reference["family"], reached)
    return found


def _reference(rows: Sequence[dict], metric: str) -> dict | None:
    """The floor's row, or of SCORES the best family's; None without an interval."""
    known = [r for r in rows if r["low"] is not None]
    floor = [r for r in known if r["family"] == "floor"]
    families = [r for r in known if metric in SCORES and not r["family"].startswith("control:")]
    return floor[0] if floor else min(families, key=lambda r: r["value"], default=None)


def _beyond(control: dict, reference: dict) -> bool:
    above, below = control["low"] > reference["high"], control["high"] < reference["low"]
    if control["metric"] in MORE_IS_BETTER:
        return below
    return above or (below and control["metric"].endswith(BEST_IN_BETWEEN))
