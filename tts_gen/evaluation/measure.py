"""`tts-gen metrics REF GEN`: any two files or folders compared; a table, and the rows that eval.py writes too."""

from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from tts_gen.config import Audio, UserError
from tts_gen.evaluation import rows as row_files
from tts_gen.evaluation.headline import LABELS

WIDTH = 120
"""columns, where the output is no terminal"""


def measure(
    reference: Path, generated: Path, out: Path | None, f0_method: str, normalised: bool, frame_seconds: float | None,
    seed: int,
) -> list[dict]:  # fmt: skip
    """Rows of two .npz files (flat_files.py) or two folders of wavs (wav_folders.py), written to `out`, a JSON file.

    Raises UserError when there is nothing at a path, or a file and a folder are given."""
    for path in (reference, generated):
        if not path.exists():
            raise UserError(f"{path}: no such file or folder")
    if reference.is_dir() != generated.is_dir():
        raise UserError(f"{reference} and {generated}: give two .npz files, or two folders of .wav files")
    if reference.is_dir():
        from tts_gen.evaluation.wav_folders import rows_of_folders

        found = rows_of_folders(reference, generated, f0_method, seed=seed)
    else:
        from tts_gen.evaluation.flat_files import rows_of_files

        found = rows_of_files(reference, generated, frame_seconds or Audio().frame_seconds, normalised, seed)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        row_files.write(found, out)
    return found


def show(rows: list[dict], console: Console | None = None) -> None:
    """Overall rows, a block a feature, with the floor's beside them; what is null says why below."""
    console = console or Console()
    if not console.is_terminal:
        console.width = max(console.width, WIDTH)
    overall = [row for row in rows if row["scope"] == "overall"]
    floor = {(r["feature"], r["metric"]): r for r in overall if r["family"] == "floor"}
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("", "", "value", "95 % interval", LABELS["floor"].lower(), "range", "n"):
        table.add_column(name, justify="left" if not name else "right")
    before, reasons = None, {}
    for row in overall:
        if row["family"] == "floor":
            continue
        if before not in (None, row["feature"]):
            table.add_section()
        feature = "" if row["feature"] == before else row["feature"]
        before = row["feature"]
        beside = floor.get((row["feature"], row["metric"]))
        table.add_row(feature, row["metric"], *_cells(row), *_cells(beside), str(row["n"]))
        if row["value"] is None:
            reasons.setdefault(f"{row['feature']}: {row['why']}", []).append(row["metric"])
    console.print(table)
    for reason, names in reasons.items():
        console.print(f"– {reason} ({', '.join(names)})", highlight=False)


def _cells(row: dict | None) -> tuple[str, str]:
    if row is None:
        return "", ""
    if row["value"] is None:
        return "–", ""
    return f"{row['value']:.4g}", "" if row["low"] is None else f"{row['low']:.4g} – {row['high']:.4g}"
