"""Whether the training split has what the others need."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from tts_gen.corpora import Utterance
from tts_gen.features.journal import Row


def judge(rows: Mapping[str, Row], utterances: Sequence[Utterance]) -> dict[str, Row]:
    """The rows, with a reason where an utterance outside the training split has a phoneme that none within it has:
    nothing would have trained its embedding."""
    kept = [(u.split, rows[u.id]) for u in utterances if not rows[u.id].reason]
    trained = {symbol for split, row in kept if split == "train" for symbol in row.phonemes.split("\t")}
    unknown = {row.id: sorted(set(row.phonemes.split("\t")) - trained) for split, row in kept if split != "train"}
    return {
        name: replace(row, reason="phonemes not in training", detail=" ".join(unknown[name]))
        if unknown.get(name)
        else row
        for name, row in rows.items()
    }
