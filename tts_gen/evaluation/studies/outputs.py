"""What a study leaves in OUT: summary.json and .csv, tables.md and .tex, report.html, TensorBoard logs."""

import html
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from tts_gen.evaluation import rows
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.headline import figure, print_tables
from tts_gen.evaluation.report import Section, commands, write_report
from tts_gen.evaluation.seeds import but_the_seed, pooled


class Study(NamedTuple):
    """The answer to one question."""

    title: str
    answer: list[str]
    """sentences for people, each with its figures; plain text"""
    rows: list[dict]
    sections: list[Section]


def write(study: Study, c: Comparison, command_line: str, console: Console | None = None) -> Path:
    """Writes everything, prints the tables and the answer; the report's path. Rows of runs that differ in their seed
    alone have their mean beside them."""
    c.out.mkdir(parents=True, exist_ok=True)
    if not any(rows.RUN_COUNT in row for row in study.rows):
        means = pooled(study.rows, {}, {str(run.path): but_the_seed(run) for run in c.runs})
        study = study._replace(rows=[*study.rows, *means], sections=[*study.sections, *_over_seeds(means)])
    rows.write(study.rows, c.out / "summary.json")
    rows.write_csv(study.rows, c.out / "summary.csv")
    tables = [table for section in study.sections if not section.collapsed for table in section.tables]
    answer = "".join(f"- {sentence}\n" for sentence in study.answer)
    (c.out / "tables.md").write_text(f"# {study.title}\n\n{answer}\n{rows.markdown_tables(tables)}", encoding="utf-8")
    (c.out / "tables.tex").write_text("\n".join(latex(*table) for table in tables), encoding="utf-8")
    _to_tensorboard(study, c.out)
    print_tables(tables, console)
    for sentence in study.answer:
        print(sentence)
    header, cells = rows.table(study.rows)
    every = Section("All figures", "As in summary.json.", tables=[("", header, cells)], collapsed=True)
    settings = Section("Commands and settings", commands([command_line]), tables=[_settings(c)])
    lead = "".join(f"<p>{html.escape(sentence)}</p>" for sentence in study.answer) or "<p></p>"
    lead += f"<p>Corpus {html.escape(c.store.root.name)}, split {html.escape(c.split)}, seed {c.seed}.</p>"
    path = c.out / "report.html"
    write_report(path, study.title, lead, None, [*study.sections, every, settings])
    return path


def _over_seeds(means: list[dict]) -> list[Section]:
    cells = [[r["family"], r[rows.RUNS], r["scope"], r["feature"], r["metric"], figure(r)] for r in means]
    if not cells:
        return []
    text = (
        "Runs of a family that differ in their seed alone; the interval holds what other seeds and utterances change."
    )
    table = ("", ["family", "runs", "scope", "feature", "metric", "value"], cells)
    return [Section("Means over seeds", text, tables=[table], collapsed=True)]


def _settings(c: Comparison) -> tuple[str, list[str], list[list[str]]]:
    cells = [
        [run.path.name, run.label, str(run.step), str(getattr(getattr(run.config, "train", None), "seed", "–")),
         str(run.config.decoder)]
        for run in c.runs
    ]  # fmt: skip
    return "Runs", ["run", "family", "step", "training seed", "decoder"], cells


SPECIAL = {"\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
           "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "τ": r"$\tau$", "Δ": r"$\Delta$",
           "–": "--", "×": r"$\times$", "±": r"$\pm$"}  # fmt: skip


def latex(caption: str, header: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    r"""A table for \usepackage{booktabs}; a cell's second line (its interval) stands small in brackets."""

    def cell(text: str) -> str:
        value, _, interval = text.partition("\n")
        clean = lambda t: "".join(SPECIAL.get(ch, ch) for ch in t)  # noqa: E731
        return clean(value) + (rf" {{\scriptsize ({clean(interval)})}}" if interval else "")

    lines = [" & ".join(map(cell, line)) + r" \\" for line in (header, *cells)]
    columns = "l" + "r" * (len(header) - 1)
    body = "\n".join([lines[0], r"\midrule", *lines[1:]])
    return (
        f"\\begin{{table}}\n\\centering\n\\caption{{{cell(caption)}}}\n\\begin{{tabular}}{{{columns}}}\n"
        f"\\toprule\n{body}\n\\bottomrule\n\\end{{tabular}}\n\\end{{table}}\n"
    )


def _to_tensorboard(study: Study, out: Path) -> None:
    from PIL import Image
    from tensorboardX import SummaryWriter

    with SummaryWriter(str(out / "tensorboard")) as writer:
        for row in study.rows:
            if row["scope"] == "overall" and row["value"] is not None:
                name = Path(rows.source(row) or row["family"]).name
                step = round(1000 * (row["temperature"] or 0))  # TensorBoard's axis holds whole numbers
                solver = f" {row['solver']} {row['steps']}" if row["solver"] else ""
                tag = f"{row['split']}/{row['feature']}/{row['metric']}/{name}{solver}"
                writer.add_scalar(tag, row["value"], step)
        for section in study.sections:
            for i, (caption, png) in enumerate(section.images):
                picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
                writer.add_image(f"{section.title}/{i} {caption}", picture, 0, dataformats="HWC")
