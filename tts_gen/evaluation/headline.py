"""The headline: which temperature stands for a family, and the few figures that tell the families apart."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tts_gen.evaluation import significance
from tts_gen.evaluation.discriminating import discriminating
from tts_gen.evaluation.rows import source
from tts_gen.evaluation.significance import STAR

LABELS = {
    "l1": "L1 regression",
    "l2": "L2 regression",
    "gaussian": "Gaussian regression",
    "mdn": "Mixture regression",
    "flow": "Flow",
    "diffusion": "Diffusion",
    "flow_matching": "Flow matching",
    "control:l2+noise": "Control: L2 + noise",
    "control:l2+ar_noise": "Control: L2 + AR noise",
    "control:l2_rescaled": "Control: L2 rescaled",
    "control:l1+noise": "Control: L1 + noise",
    "control:l1+ar_noise": "Control: L1 + AR noise",
    "control:l1_rescaled": "Control: L1 rescaled",
    "control:shuffled": "Control: oracle shuffled",
    "control:other_utterance": "Control: other utterance",
    "floor": "Floor: oracle halves",
}
"""Families in the order in which tables and plots show them."""

FEATURES = {"prosody": ("log_f0", "duration", "energy"), "acoustic": ("mel",), "joint": ("mel",)}
CAPTIONS = {
    "log_f0": "Log-f0 of voiced phonemes (in standard deviations of the speaker)",
    "duration": "Phoneme duration (frames)",
    "energy": "Phoneme energy (in standard deviations)",
    "mel": "Log-mel spectrogram (nats)",
}
COLUMNS = {
    "prosody": {
        "std ratio": ("{}", "std_ratio"),
        "std of Δ": ("d_{}", "std_ratio"),
        "JS": ("{}", "js"),
        "JS halves": ("{}", "js_half"),
        "JS of Δ": ("d_{}", "js"),
        "energy score": ("{}", "energy_score"),
        "best of K": ("{}", "best_of_k"),
        "two-sample": ("log_f0+duration", "two_sample_accuracy"),
        "bits/dim": ("log_f0+duration", "bits_per_dim"),
        "bits/dim with energy": ("log_f0+duration+energy", "bits_per_dim"),
    },
    "acoustic": {
        "std ratio": ("{}", "std_ratio"),
        "Δ time": ("{}", "d_time_std_ratio"),
        "Δ frequency": ("{}", "d_frequency_std_ratio"),
        "modulation": ("{}", "modulation_distance"),
        "JS": ("{}", "js"),
        "JS halves": ("{}", "js_half"),
        "L1": ("{}", "mel_l1"),
        "MCD": ("{}", "mcd"),
        "bits/dim": ("{}", "bits_per_dim"),
    },
}
COLUMNS["joint"] = {heading: column for heading, column in COLUMNS["acoustic"].items() if heading not in ("L1", "MCD")}
COLUMNS["joint"]["MCD by DTW"] = ("{}", "mcd_dtw")
"""Heading -> (feature, with {} for the table's own, and metric). A heading without any row is left out."""
CHOSEN_BY = ("log_f0", "duration", "energy", "d_log_f0", "d_duration", "d_energy")
"""Features whose JS chooses the temperature of prosody."""
MARK = " ¹"
FOOTNOTE = (
    "¹ does not discriminate on this corpus: a control, which is no model of speech, reaches the floor's interval or, "
    "where there is no floor, that of the best family."
)

STARRED = (
    f"{STAR} differs from the best family of its column, more than by chance (paired tests over groups of utterances, "
    "Holm-Bonferroni over the pairs of families, 5 %)."
)

Key = tuple[str, str | None]
"""(family, run)"""


def choose_temperatures(rows: Sequence[dict], task: str) -> dict[Key, float]:
    """The temperature of each family and run that is best on these rows, which must be of the validation split.

    Prosody: the least mean JS divergence over log-f0, duration, energy where there is any, and their first differences.
    Mels: the least mean |log(std ratio)| over the mel and its differences in time and frequency, since JS alone does
    not see grain. Of equals, the lowest. Raises ValueError for rows of another split."""
    if wrong := {row["split"] for row in rows} - {"val"}:
        raise ValueError(f"temperatures are chosen on split 'val', found rows of {sorted(map(str, wrong))}")
    costs: dict[Key, dict[float, list[float]]] = {}
    for row in rows:
        if row["task"] != task or row["scope"] != "overall" or row["temperature"] is None:
            continue
        counts = row["metric"].endswith("std_ratio")
        if task == "prosody":
            counts = row["metric"] == "js" and row["feature"] in CHOSEN_BY
        if counts:
            cost = _cost(row["value"], task)
            costs.setdefault((row["family"], row["run"]), {}).setdefault(row["temperature"], []).append(cost)
    return {key: min(sorted(of), key=lambda t: np.mean(of[t])) for key, of in costs.items()}


def _cost(value: float | None, task: str) -> float:
    if value is None or (task != "prosody" and value <= 0):
        return np.inf
    return value if task == "prosody" else abs(np.log(value))


def features_of(rows: Sequence[dict], task: str) -> list[str]:
    """Those with a table of their own; energy only where some run models it."""
    modelled = any(row["feature"] == "energy" for row in rows)
    return [feature for feature in FEATURES[task] if modelled or feature != "energy"]


Tables = list[tuple[str, list[str], list[list[str]]]]
"""(caption, header, cells)"""


def headline(rows: Sequence[dict], task: str, chosen: dict[Key, float] | None = None, split: str = "test") -> Tables:
    """One table a feature. A cell is a value, with its interval on a second line.

    A family and run in `chosen` is shown at that temperature, any other at all it has. The heading of a metric that
    does not discriminate (discriminating.py) ends in MARK, which FOOTNOTE explains; STARRED explains the star behind
    the value of a family that differs significantly from the best (significance.py)."""
    lines, of_lines = shown(rows, task, chosen or {}, split)
    lines.sort(key=_order)
    at = {(r["family"], source(r), r["temperature"], r["feature"], r["metric"]): r for r in of_lines}
    # Likelihoods are the model's, at no temperature: they stand in the line of any.
    bits = {(r["family"], source(r), r["feature"]): r for r in of_lines if r["metric"] == "bits_per_dim"}
    verdicts = discriminating(of_lines)
    stars = [id(row) for row in significance.behind(of_lines, significance.differences(of_lines))]
    present = {(r["feature"], r["metric"]) for r in of_lines}

    tables = []
    for feature in features_of(of_lines, task):
        columns = {h: (f.format(feature), m) for h, (f, m) in COLUMNS[task].items()}
        columns = {h: column for h, column in columns.items() if column in present}
        cells = []
        for family, run, temperature in lines:
            found = [
                bits.get((family, run, f)) if m == "bits_per_dim" else at.get((family, run, temperature, f, m))
                for f, m in columns.values()
            ]
            values = [figure(row, STAR * (id(row) in stars)) for row in found]
            label = _name((family, run, temperature), lines)
            cells.append([label, "" if temperature is None else f"{temperature:g}", *values])
        marked = {c for c in columns.values() if c in verdicts and verdicts[c].discriminates is False}
        header = ["", "τ", *(h + MARK * (column in marked) for h, column in columns.items())]
        tables.append((CAPTIONS[feature], header, cells))
    return tables


def judged(rows: Sequence[dict], task: str, chosen: dict[Key, float] | None = None, split: str = "test") -> Tables:
    """One table of all metrics that discriminating.py can judge: every system's figure, what the controls were compared
    with, and those that reach it."""
    lines, of_lines = shown(rows, task, chosen or {}, split)
    lines.sort(key=_order)
    at = {(r["family"], source(r), r["temperature"], r["feature"], r["metric"]): r for r in of_lines}
    cells = []
    for (feature, metric), verdict in discriminating(of_lines).items():
        if verdict.discriminates is not None:
            figures = [figure(at.get((*line, feature, metric))) for line in lines]
            reached = ", ".join(name.removeprefix("control:") for name in verdict.reached_by)
            reference = LABELS.get(verdict.reference, verdict.reference)
            cells.append([feature, metric, *figures, reference, reached or "none"])
    systems = [_name(line, lines) for line in lines]
    return [(task.capitalize(), ["feature", "metric", *systems, "compared with", "reached by"], cells)]


def _order(line: tuple[str, str | None, float | None]) -> tuple:
    order = list(LABELS)
    return order.index(line[0]) if line[0] in order else len(order), str(line[1]), line[2] or 0


def _name(line: tuple[str, str | None, float | None], lines: Sequence[tuple]) -> str:
    """The family, with its run where it has several among the lines."""
    family, run, _ = line
    runs = {r for f, r, _ in lines if f == family}
    return LABELS.get(family, family) + (f" ({Path(run).name})" if len(runs) > 1 else "")


def shown(
    rows: Sequence[dict], task: str, chosen: dict[Key, float], split: str
) -> tuple[list[tuple[str, str | None, float | None]], list[dict]]:
    """The lines (family, run, temperature) of the headline, and all overall rows of theirs."""
    rows = [r for r in rows if r["task"] == task and r["split"] == split and r["scope"] == "overall"]
    lines = []
    for row in rows:
        line = row["family"], source(row), row["temperature"]
        if line not in lines and row["metric"] != "bits_per_dim" and line[2] == chosen.get(line[:2], line[2]):
            lines.append(line)
    known = {line[:2] for line in lines}
    bits = [r for r in rows if r["metric"] == "bits_per_dim" and (r["family"], source(r)) in known]
    return lines, bits + [r for r in rows if (r["family"], source(r), r["temperature"]) in lines and r not in bits]


def figure(row: dict | None, mark: str = "") -> str:
    """A value for a table, with its interval on a second line."""
    if row is None or row["value"] is None:
        return "–"
    digits = 3 if row["metric"].startswith(("js", "copula_js", "mutual_information")) else 2
    if row["low"] is None:
        return f"{row['value']:.{digits}f}{mark}"
    return f"{row['value']:.{digits}f}{mark}\n{row['low']:.{digits}f}–{row['high']:.{digits}f}"


def print_tables(tables: Tables, console: Console | None = None) -> None:
    """The headline for the terminal; an interval is shown as plus or minus half its width."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, 130)
    for caption, header, cells in tables:
        table = Table(
            title=caption, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0)
        )
        for i, name in enumerate(header):
            table.add_column(name, justify="left" if i == 0 else "right")
        for line in cells:
            table.add_row(*map(_terminal_cell, line))
        console.print(table)
    if any(name.endswith(MARK) for _, header, _ in tables for name in header):
        console.print(FOOTNOTE)
    if any(STAR in cell for *_, cells in tables for line in cells for cell in line[1:]):
        console.print(STARRED)


def _terminal_cell(cell: str) -> Text:
    value, _, interval = cell.partition("\n")
    if not interval:
        return Text(value)
    low, high = map(float, interval.split("–"))
    digits = len(value.rstrip(STAR).partition(".")[2])
    return Text.assemble(value, (f"\n±{(high - low) / 2:.{digits}f}", "dim"))
