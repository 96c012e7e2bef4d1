"""Which alignments are doubtful beside the others of the corpus, and the list of all, worst first."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tts_gen.align.quality import deviations, implausible
from tts_gen.corpora import Utterance
from tts_gen.features.files import write_text
from tts_gen.features.journal import Row

FIGURES = ("score", "seconds_per_phone", "share_at_floor", "longest_phone", "longest_pause")


def judge(rows: Mapping[str, Row], utterances: Sequence[Utterance], min_score: float | None) -> dict[str, Row]:
    """The rows, with a reason where the deviation of the alignment's score is below `min_score`."""
    if min_score is None:
        return dict(rows)
    deviation = _deviations(rows, utterances)
    doubtful = {name for name, value in deviation.items() if value < min_score and not rows[name].reason}
    return {
        name: replace(row, reason="alignment: score", detail=f"deviation {deviation[name]:.1f}, below {min_score:g}")
        if name in doubtful
        else row
        for name, row in rows.items()
    }


def write(path: Path, rows: Mapping[str, Row], utterances: Sequence[Utterance]) -> None:
    """CSV, an alignment a line, the lowest deviation first; those without score (given ones) have none, and stand at 0.
    `doubt`: which figure is implausible, which phonemes nothing trains, or why it was left out."""
    deviation, unseen = _deviations(rows, utterances), _unseen(rows, utterances)
    lines = []
    for u in utterances:
        row = rows[u.id]
        if not row.figures:
            continue
        fault = implausible(row.figures)
        faults = [" ".join(fault)] if fault else []
        faults += [unseen[u.id]] if u.id in unseen else []
        doubt = f"{row.reason} {row.detail}".strip() or "; ".join(faults)
        figures = [f"{row.figures[name]:.3f}" if name in row.figures else "" for name in FIGURES]
        shown = f"{deviation[u.id]:.2f}" if u.id in deviation else ""
        lines.append((deviation.get(u.id, 0.0), not doubt, [u.id, shown, *figures, doubt, u.audio, u.text]))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["id", "deviation", *FIGURES, "doubt", "audio", "text"])
    writer.writerows(line for _, _, line in sorted(lines, key=lambda entry: entry[:2]))
    write_text(path, table.getvalue())


def _unseen(rows: Mapping[str, Row], utterances: Sequence[Utterance]) -> dict[str, str]:
    """id -> phonemes that no kept utterance of the training split has, of the kept ones outside it."""
    kept = [(u.split, rows[u.id]) for u in utterances if not rows[u.id].reason]
    trained = {symbol for split, row in kept if split == "train" for symbol in row.phonemes.split("\t")}
    unseen = {row.id: sorted(set(row.phonemes.split("\t")) - trained) for split, row in kept if split != "train"}
    return {name: f"not in the training split: {' '.join(symbols)}" for name, symbols in unseen.items() if symbols}


def _deviations(rows: Mapping[str, Row], utterances: Sequence[Utterance]) -> dict[str, float]:
    scores = {name: row.figures["score"] for name, row in rows.items() if "score" in row.figures}
    return deviations(scores, {u.id: u.speaker for u in utterances})
