"""The paper's own tables (arXiv 2307.16679: L2, flow and diffusion prosody; L1, flow and diffusion mels; standard
deviation, JS divergence, tuned temperature, a slot for ratings), and a verdict on each of its claims with the evidence.

What only listeners can tell is said to be not testable here, whatever the figures beside it.
"""

import argparse
from collections.abc import Sequence
from typing import NamedTuple

from tts_gen.config import UserError
from tts_gen.evaluation.compare import compare
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.headline import LABELS, figure
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.rows import mean_of, source
from tts_gen.evaluation.seeds import but_the_seed
from tts_gen.evaluation.studies.outputs import Study

GENERATIVE = ("flow", "diffusion", "flow_matching")
FAMILIES = {"prosody": ("l2", *GENERATIVE), "acoustic": ("l1", *GENERATIVE)}
REPRODUCED, NOT, UNDECIDED, UNTESTABLE = "reproduced", "not reproduced", "undecided", "not testable here"


class Claim(NamedTuple):
    text: str
    verdict: str
    evidence: str


class At(NamedTuple):
    """Looks rows up: of a family at its tuned temperature, on the reported split."""

    found: dict

    def __call__(self, family: str, feature: str, metric: str) -> dict | None:
        row = self.found.get((family, feature, metric))
        return row if row and row["value"] is not None else None


def study(c: Comparison, options: argparse.Namespace) -> Study:
    """Of runs of a family that differ in their seed alone the mean counts, of others the first. Raises UserError where
    no run is of the paper's families."""
    found, chosen = compare(c)
    found = [r for r in found if r["scope"] == "overall" and r["split"] == c.split]
    tables, ats, taus = [], {}, {}
    for task, families in FAMILIES.items():
        of_task = [r for r in found if r["task"] == task]
        taus[task], ats[task] = {}, At({})
        for family in families:
            runs = [run for run in c.of_task(task) if run.label == family]
            seeds = [run for run in runs if but_the_seed(run) == but_the_seed(runs[0])]
            if not runs:
                continue
            tuned = taus[task][family] = sorted({chosen[r.path.name] for r in seeds if r.path.name in chosen})
            counts = str(runs[0].path) if len(seeds) == 1 else mean_of(r.path.name for r in seeds)
            for r in of_task:
                at_tuned = not r["run"] or r["temperature"] in (None, *tuned)  # a mean is of these alone
                if at_tuned and (r["family"], source(r)) == (family, counts):
                    ats[task].found.setdefault((family, r["feature"], r["metric"]), r)
        if taus[task]:
            tables.append(_table(task, ats[task], taus[task]))
    if not tables:
        raise UserError("give runs of the paper's families: prosody l2, flow, diffusion; acoustic l1, flow, diffusion")
    tuned = taus["acoustic"].get("flow", [])
    claims = [*_prosody_claims(ats["prosody"]), *_acoustic_claims(ats["acoustic"], c, tuned)]
    claims += _UNTESTABLE
    cells = [[claim.text, claim.verdict, claim.evidence] for claim in claims]
    counts = {v: sum(claim.verdict == v for claim in claims) for v in (REPRODUCED, NOT, UNDECIDED, UNTESTABLE)}
    answer = ["; ".join(f"{count} claims {verdict}" for verdict, count in counts.items()) + "."]
    sections = [
        Section("The paper's tables", _TEXT, tables=tables),
        Section("Its claims", "", tables=[("", ["claim", "verdict", "evidence"], cells)]),
    ]
    return Study("The paper's comparison on this corpus", answer, found, sections)


_TEXT = """Standard deviation of what is generated over the oracle's, and the JS divergence of both, at the temperature
chosen on validation. The paper's corpus (200 hours, 116 speakers) and its ratings are not public: the
last column is for yours (see the listening test)."""


def _table(task: str, at: At, taus: dict[str, list[float]]) -> tuple:
    features = {"prosody": ("log_f0", "duration"), "acoustic": ("mel",)}[task]
    header = ["", "τ"] + [f"{f} {m}" for f in features for m in ("std ratio", "JS")] + ["rating"]
    cells = []
    for family, tuned in taus.items():
        figures = [figure(at(family, f, m)) for f in features for m in ("std_ratio", "js")]
        cells.append([LABELS[family], _listed(tuned), *figures, "–"])
    return f"{task.capitalize()} models", header, cells


def _listed(temperatures: Sequence[float]) -> str:
    return ", ".join(f"{t:g}" for t in temperatures)


Evidence = tuple[str, str]
"""verdict, figures"""


def _compared(at: At, a: str, b: str, feature: str, metric: str, higher: bool) -> Evidence | None:
    """Whether a's figure is above (below) b's; intervals that overlap decide nothing."""
    x, y = at(a, feature, metric), at(b, feature, metric)
    if not x or not y or x["low"] is None or y["low"] is None:
        return None
    above, below = x["low"] > y["high"], x["high"] < y["low"]
    verdict = UNDECIDED if not (above or below) else REPRODUCED if above == higher else NOT
    shown = (f"{LABELS[f]} {r['value']:.3f} ({r['low']:.3f}–{r['high']:.3f})" for f, r in ((a, x), (b, y)))
    return verdict, f"{feature} {metric}: {' against '.join(shown)}"


def _claim(text: str, evidence: list[Evidence | None]) -> Claim:
    """Reproduced where all evidence says so, not reproduced where any says the contrary."""
    if not evidence or None in evidence:
        return Claim(text, UNTESTABLE, "what it speaks of is not among these runs and temperatures")
    said = [verdict for verdict, _ in evidence]
    verdict = NOT if NOT in said else UNDECIDED if UNDECIDED in said else REPRODUCED
    return Claim(text, verdict, "; ".join(figures for _, figures in evidence))


def _prosody_claims(at: At) -> list[Claim]:
    claims = []
    for family in ("flow", "diffusion"):
        name = LABELS[family].lower()
        claims.append(_claim(
            f"Prosody of {name} varies more than that of L2",
            [_compared(at, family, "l2", feature, "std_ratio", True) for feature in ("log_f0", "duration")],
        ))  # fmt: skip
        claims.append(_claim(
            f"Prosody of {name} matches the oracle's distribution better than that of L2",
            [_compared(at, family, "l2", feature, "js", False) for feature in ("log_f0", "duration")],
        ))  # fmt: skip
    return [*claims, _claim("L2 predictions are over-smoothed", [_below_one(at("l2", "log_f0", "std_ratio"))])]


def _below_one(row: dict | None) -> Evidence | None:
    if not row or row["high"] is None:
        return None
    verdict = REPRODUCED if row["high"] < 1 else NOT if row["low"] > 1 else UNDECIDED
    shown = f"{row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f})"
    return verdict, f"{row['feature']} {row['metric']}: {shown}"


def _acoustic_claims(at: At, c: Comparison, tuned: list[float]) -> list[Claim]:
    """`tuned`: temperature of the flow that is shown, of each of its seeds."""
    grid = c.mel_temperatures
    by_spread = None
    if tuned and 1.0 in grid and len(grid) > 1:
        verdict = REPRODUCED if tuned == [1.0] else UNDECIDED if 1.0 in tuned else NOT
        by_spread = verdict, f"{_listed(tuned)} of {_listed(grid)}, by spread on validation"
    nearer = _claim("", [_compared(at, "flow", other, "mel", "js", False) for other in ("l1", "diffusion")])
    return [
        _claim("L1 mels are over-smoothed", [_below_one(at("l1", "mel", "d_frequency_std_ratio"))]),
        Claim("Flow mels sound better than L1's and diffusion's", UNTESTABLE,
              f"needs listeners; that they are nearer by distribution is {nearer.verdict}: {nearer.evidence}"),
        _claim("Temperature 1 is the best for flow mels", [by_spread]),
    ]  # fmt: skip


_UNTESTABLE = [
    Claim("Gains in prosody are largest for high-arousal styles", UNTESTABLE, "needs style labels: eval.py styles"),
    Claim("U-Nets capture long-term dependencies better", UNTESTABLE, "a mechanism that the paper does not isolate"),
]
