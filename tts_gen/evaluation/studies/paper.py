"""The paper's own tables (arXiv 2307.16679: L2, flow and diffusion prosody; L1, flow and diffusion mels; standard
deviation, JS divergence, tuned temperature, a slot for ratings), and a verdict on each of its claims with the evidence.

What only listeners can tell is said to be not testable here, whatever the figures beside it.
"""

import argparse
from typing import NamedTuple

from tts_gen.config import UserError
from tts_gen.evaluation import rows as tables_of_rows
from tts_gen.evaluation.compare import Comparison, compare
from tts_gen.evaluation.headline import LABELS, figure
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.studies.outputs import Study

GENERATIVE = ("flow", "diffusion", "flow_matching")
FAMILIES = {"prosody": ("l2", *GENERATIVE), "acoustic": ("l1", *GENERATIVE)}
REPRODUCED, NOT, UNTESTABLE = "reproduced", "not reproduced", "not testable here"


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
    found, chosen = compare(c)
    by_run = {(run.label, str(run.path)): chosen.get(run.path.name) for run in c.runs}
    at: dict = {"prosody": {}, "acoustic": {}}
    for r in found:
        tuned = by_run.get((r["family"], r["run"]))
        counts = r["scope"] == "overall" and r["split"] == c.split and r["temperature"] in (None, tuned)
        if counts and r["task"] in at:
            at[r["task"]].setdefault((r["family"], r["feature"], r["metric"]), r)
    tables, sections = [], []
    for task, families in FAMILIES.items():
        here = [f for f in families if any(run.label == f for run in c.of_task(task))]
        if here:
            tuned = {run.label: chosen.get(run.path.name) for run in c.of_task(task)}
            tables.append(_table(task, here, At(at[task]), tuned))
    if not tables:
        raise UserError("give runs of the paper's families: prosody l2, flow, diffusion; acoustic l1, flow, diffusion")
    sections.append(Section("The paper's tables", _TEXT, tables=tables))
    claims = [*_prosody_claims(At(at["prosody"])), *_acoustic_claims(At(at["acoustic"]), c, chosen), *_UNTESTABLE]
    cells = [[claim.text, claim.verdict, claim.evidence] for claim in claims]
    sections.append(Section("Its claims", "", tables=[("", ["claim", "verdict", "evidence"], cells)]))
    counts = {v: sum(claim.verdict == v for claim in claims) for v in (REPRODUCED, NOT, UNTESTABLE)}
    answer = ["; ".join(f"{count} claims {verdict}" for verdict, count in counts.items()) + "."]
    (c.out / "claims.md").write_text(tables_of_rows.markdown(["claim", "verdict", "evidence"], cells), encoding="utf-8")
    return Study("The paper's comparison on this corpus", answer, found, sections)


_TEXT = """Standard deviation of what is generated over the oracle's, and the JS divergence of both, at the temperature
chosen on validation. The paper's corpus (200 hours, 116 speakers) and its ratings are not public: the
last column is for yours (see the listening test)."""


def _table(task: str, families: list[str], at: At, tau: dict) -> tuple:
    features = {"prosody": ("log_f0", "duration"), "acoustic": ("mel",)}[task]
    header = ["", "τ"] + [f"{f} {m}" for f in features for m in ("std ratio", "JS")] + ["rating"]
    cells = []
    for family in families:
        figures = [figure(at(family, f, m)) for f in features for m in ("std_ratio", "js")]
        t = tau.get(family)
        cells.append([LABELS[family], "" if t is None else f"{t:g}", *figures, "–"])
    return f"{task.capitalize()} models", header, cells


def _compared(at: At, a: str, b: str, feature: str, metric: str, higher: bool) -> tuple[bool, str] | None:
    """Whether a's figure is above (below) b's with intervals apart, and both for people."""
    x, y = at(a, feature, metric), at(b, feature, metric)
    if not x or not y or x["low"] is None or y["low"] is None:
        return None
    apart = x["low"] > y["high"] if higher else x["high"] < y["low"]
    shown = (f"{LABELS[f]} {r['value']:.3f} ({r['low']:.3f}–{r['high']:.3f})" for f, r in ((a, x), (b, y)))
    return apart, f"{feature} {metric}: {' against '.join(shown)}"


def _claim(text: str, evidence: list[tuple[bool, str] | None]) -> Claim:
    if not evidence or None in evidence:
        return Claim(text, UNTESTABLE, "a run of a family that it speaks of is not among these")
    return Claim(text, REPRODUCED if all(e[0] for e in evidence) else NOT, "; ".join(e[1] for e in evidence))


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


def _below_one(row: dict | None) -> tuple[bool, str] | None:
    if not row or row["high"] is None:
        return None
    shown = f"{row['value']:.3f} ({row['low']:.3f}–{row['high']:.3f})"
    return row["high"] < 1, f"{row['feature']} {row['metric']}: {shown}"


def _acoustic_claims(at: At, c: Comparison, chosen: dict) -> list[Claim]:
    smeared = _below_one(at("l1", "mel", "d_frequency_std_ratio"))
    js = [_compared(at, "flow", other, "mel", "js", False) for other in ("l1", "diffusion")]
    flows = [chosen[run.path.name] for run in c.of_task("acoustic") if run.label == "flow" and run.path.name in chosen]
    by_spread = f"chosen on validation by spread: {', '.join(f'{t:g}' for t in flows)}"
    tuned = (all(t == 1.0 for t in flows), by_spread) if flows else None
    nearer = _claim("", js)
    which = "they are nearer" if nearer.verdict == REPRODUCED else "that is not so"
    return [
        _claim("L1 mels are over-smoothed", [smeared]),
        Claim("Flow mels sound better than L1's and diffusion's", UNTESTABLE,
              f"needs listeners; by distribution {which}: {nearer.evidence}"),
        _claim("Temperature 1 is the best for flow mels", [tuned]),
    ]  # fmt: skip


_UNTESTABLE = [
    Claim("Gains in prosody are largest for high-arousal styles", UNTESTABLE, "needs style labels: eval.py styles"),
    Claim("U-Nets capture long-term dependencies better", UNTESTABLE, "a mechanism that the paper does not isolate"),
]
