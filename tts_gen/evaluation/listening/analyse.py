"""`tts-gen listen analyse`: result files -> tables, tests and a figure."""

from collections.abc import Sequence
from pathlib import Path

from tts_gen.evaluation.listening import statistics
from tts_gen.evaluation.listening.collect import Collected, collect, preferences, rating_array
from tts_gen.evaluation.listening.design import RANGE
from tts_gen.evaluation.listening.plot import preference_plot, rating_plot
from tts_gen.evaluation.listening.results import read_key
from tts_gen.evaluation.rows import markdown
from tts_gen.features.files import write_json, write_text

SHOWN = 20
"""problems listed in analysis.md; analysis.json has all"""
UNITS = {
    "ratings": "single ratings, one of every listener for every utterance (those of one listener are not independent)",
    "listeners": "listeners, each once, by mean or majority (what generalises to other listeners)",
}


def analyse(folder: Path, results: Sequence[Path] = (), out: Path | None = None) -> dict:
    """Analyses the results of the test in `folder` (default: folder/results/*.json) and writes analysis.json,
    analysis.md and analysis.png to `out` (default: folder). Raises UserError when nothing is usable."""
    key = read_key(folder)
    collected = collect(list(results) or [folder / "results"], key)
    out = out or folder
    out.mkdir(parents=True, exist_ok=True)
    found = {
        "test": key["test"], "kind": key["kind"], "files": collected.files,
        "listeners": collected.listeners, "problems": collected.problems,
        "superseded": collected.superseded, "incomplete": collected.incomplete(len(key["trials"])),
    }  # fmt: skip
    if key["kind"] == "ab":
        found |= {"excluded": {}, "tests": statistics.preference_rows(preferences(collected.ratings, key))}
        png = preference_plot(found["tests"])
    else:
        found |= _ratings(collected, key)
        png = rating_plot(RANGE[key["kind"]], found.pop("listener_means"), found["means"])
    write_json(out / "analysis.json", found)
    write_text(out / "analysis.md", text(found))
    (out / "analysis.png").write_bytes(png)
    return found


def _ratings(collected: Collected, key: dict) -> dict:
    names = [*key["systems"], *key["anchors"]]
    ratings = rating_array(collected.ratings, key, names)
    why = [None] * len(ratings)
    if key["kind"] == "mushra":
        mid = ratings[:, :, names.index("mid anchor")] if "mid anchor" in names else None
        why = statistics.screen(ratings[:, :, names.index(key["reference"])], mid)
    kept = ratings[[reason is None for reason in why]]
    means = statistics.listener_means(kept)
    return {
        "excluded": {name: reason for name, reason in zip(collected.listeners, why, strict=True) if reason},
        "means": [{"system": name} | statistics.mean_interval(means[:, i]) for i, name in enumerate(names)],
        "tests": statistics.paired_rows(kept[:, :, : len(key["systems"])], key["systems"]),
        "listener_means": means,
    }


def text(found: dict) -> str:
    """analysis.md, also what is printed."""
    used = len(found["listeners"]) - len(found["excluded"])
    parts = [f"# Listening test {found['test']} ({found['kind']})", f"{found['files']} result files, {used} of "
             f"{len(found['listeners'])} listeners used, {len(found['problems'])} files or rows left out."]  # fmt: skip
    if found["superseded"]:
        parts.append(f"{found['superseded']} trials were rated again by the same listener; the last rating counts.")
    if found["incomplete"]:
        lacking = ", ".join(f"{name} {n}" for name, n in found["incomplete"].items())
        parts.append(f"Trials lacking, by listener: {lacking}.")
    if found["kind"] == "mushra":
        parts.append(statistics.SCREENING)
        parts += [f"- Excluded: {name}, {reason}." for name, reason in found["excluded"].items()]
    if "means" in found:
        parts.append("Means over listeners with 95 % t intervals:")
        header = ("system", "mean", "95 % interval", "listeners", "")
        parts.append(markdown(header, [_mean_cells(row) for row in found["means"]]))
    for unit, meaning in UNITS.items():
        kind = "Sign" if found["kind"] == "ab" else "Paired"
        parts.append(f"{kind} tests on {meaning}. p adjusted by Holm-Bonferroni:")
        rows = [row for row in found["tests"] if row["unit"] == unit]
        if found["kind"] == "ab":
            header = ("a", "b", "a preferred", "no preference", "b preferred", "share of a", "p", "p (Holm)", "")
            parts.append(markdown(header, [_preference_cells(row) for row in rows]))
        else:
            header = ("a", "b", "a - b", "n", "Wilcoxon W", "p (Holm)", "t", "p (Holm)", "")
            parts.append(markdown(header, [_paired_cells(row) for row in rows]))
    if found["problems"]:
        listed = "\n".join(f"- `{problem.replace('`', '')}`" for problem in found["problems"][:SHOWN])
        more = len(found["problems"]) - SHOWN
        parts.append("Left out:\n\n" + listed + (f"\n- and {more} more, in analysis.json" if more > 0 else ""))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _number(x: float | None, digits: str = ".3g") -> str:
    return "" if x is None else format(x, digits)


def _mean_cells(row: dict) -> list[str]:
    interval = "" if row["low"] is None else f"{row['low']:.1f} to {row['high']:.1f}"
    return [row["system"], _number(row["mean"], ".2f"), interval, str(row["listeners"]), row.get("why", "")]


def _significant(p: float | None) -> str:
    return _number(p) + ("*" if p is not None and p < 0.05 else "")


def _paired_cells(row: dict) -> list[str]:
    return [
        row["a"], row["b"], _number(row["difference"], ".2f"), str(row["n"]), _number(row["wilcoxon"]),
        _significant(row["wilcoxon_p_holm"]), _number(row["t"]), _significant(row["t_p_holm"]), row.get("why", ""),
    ]  # fmt: skip


def _preference_cells(row: dict) -> list[str]:
    share = "" if row["share"] is None else f"{row['share']:.2f} ({row['low']:.2f} to {row['high']:.2f})"
    counts = [str(row[name]) for name in ("prefer_a", "no_preference", "prefer_b")]
    return [row["a"], row["b"], *counts, share, _number(row["p"]), _significant(row["p_holm"]), row.get("why", "")]
