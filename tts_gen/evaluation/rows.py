"""Rows of summary.json: one figure each, with its interval and everything needed to say where it comes from."""

import csv
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from tts_gen.config import UserError
from tts_gen.evaluation.bootstrap import Groups
from tts_gen.evaluation.metrics import METRICS

FIELDS = (
    "task family temperature feature metric value low high n scope corpus split run seed solver steps samples"
).split()
IDENTITY = "task family temperature corpus split run seed solver steps samples".split()
"""What `identity` may hold; what it lacks is null."""
GUIDANCE = "guidance"
"""Scale of classifier-free guidance: `identity` and a row have it only where samples were guided."""
RUN_COUNT, RUNS = "run_count", "runs"
"""A row has them only where it is of several runs (seeds.py): how many, and `mean_of` their names."""
GROUPS = "groups"
"""What a row was estimated from, never written."""


def make_row(
    identity: dict,
    feature: str,
    metric: str,
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    groups: Groups | None = None,
    n: int = 0,
    scope: str = "overall",
    why: str | None = None,
) -> dict:
    """One row, with `groups` in memory alone: significance.py compares rows by them. A value that is no finite number
    becomes null with `why`; raises ValueError for names that do not exist."""
    if unknown := sorted(set(identity) - {*IDENTITY, GUIDANCE}):
        raise ValueError(f"identity has no {', '.join(unknown)}; valid names are {', '.join(IDENTITY)}")
    if metric not in METRICS:
        raise ValueError(f"no metric {metric!r}; metrics.METRICS lists them")
    row = dict.fromkeys(FIELDS) | identity
    row |= {"feature": feature, "metric": metric, "n": int(n), "scope": scope}
    row |= {"value": _finite(value), "low": _finite(low), "high": _finite(high)}
    if row["value"] is None:
        return row | {"low": None, "high": None, "why": why or f"{metric} is not defined here"}
    return row | {GROUPS: groups} if groups else row


def _finite(x: float | None) -> float | None:
    return float(x) if x is not None and math.isfinite(x) else None


def source(row: dict) -> str | None:
    """What tells a row's system from others of its family: its run, or what it is the mean of."""
    return row.get(RUNS) or row["run"]


def mean_of(names: Iterable[str]) -> str:
    return f"mean of {', '.join(sorted(names))}"


def write(rows: Sequence[dict], path: str | Path) -> None:
    """Writes summary.json, overall rows first; atomic. Raises ValueError rather than write NaN."""
    lines = [
        json.dumps({name: x for name, x in row.items() if name != GROUPS}, allow_nan=False)
        for row in sorted(rows, key=lambda row: row["scope"] != "overall")
    ]
    _replace(path, "[\n" + ",\n".join(lines) + "\n]\n")


def read(path: str | Path) -> list[dict]:
    """Rows of a summary.json. Raises UserError when the file is missing or is not a list of rows."""
    try:
        rows = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; eval.py writes it") from None
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); run the evaluation again") from error
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a list of rows, found {type(rows).__name__}")
    for i, row in enumerate(rows):
        missing = [f for f in FIELDS if f not in row] if isinstance(row, dict) else FIELDS
        if missing:
            raise UserError(f"{path}: row {i} lacks {', '.join(missing)}; run the evaluation again")
    return rows


def write_csv(rows: Sequence[dict], path: str | Path) -> None:
    """All rows as CSV, full precision, `why` last."""
    write_cells(*table(rows, digits=None), path)


def write_cells(header: Sequence[str], cells: Sequence[Sequence[str]], path: str | Path) -> None:
    with open(f"{path}.partial", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *cells])
    os.replace(f"{path}.partial", path)


def markdown(header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a cell's second line (its interval) goes in brackets, `|` is escaped."""

    def line(values: Sequence[str]) -> str:
        return (
            "| " + " | ".join(v.replace("|", "\\|").replace("\n", " (", 1) + ")" * ("\n" in v) for v in values) + " |"
        )

    return "\n".join([line(header), "|" + " --- |" * len(header), *map(line, cells)]) + "\n"


def markdown_tables(tables: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]]) -> str:
    """Tables (caption, header, cells) one below the other."""
    return "\n".join(f"**{caption}**\n\n{markdown(header, cells)}" for caption, header, cells in tables)


def table(rows: Sequence[dict], digits: int | None = 4) -> tuple[list[str], list[list[str]]]:
    """Header and cells of all rows: floats to that many significant digits (None: all), null as an empty cell."""

    def cell(x: object) -> str:
        if isinstance(x, float):
            return repr(x) if digits is None else f"{x:.{digits}g}"
        return "" if x is None else str(x)

    header = [*FIELDS, *(f for f in (GUIDANCE, RUN_COUNT, RUNS) if any(f in row for row in rows)), "why"]
    return header, [[cell(row.get(f)) for f in header] for row in rows]


def _replace(path: str | Path, text: str) -> None:
    Path(f"{path}.partial").write_text(text, encoding="utf-8")
    os.replace(f"{path}.partial", path)
