"""inspect: planted faults are found and named, nothing else is; the page stands alone, and can be listened to."""

import re
from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile
from models import AUDIO, simulated
from rich.console import Console

from tts_gen.cli import main
from tts_gen.config import UserError
from tts_gen.corpora import Utterance
from tts_gen.features.files import write_json_lines
from tts_gen.features.journal import Row
from tts_gen.features.record import pack
from tts_gen.features.store import FeatureStore
from tts_gen.features.writer import write_store
from tts_gen.inspection.measures import measure
from tts_gen.inspection.page import inspect
from tts_gen.inspection.suspects import suspects, typical

N, DAMAGED = 60, 5


def octave_error(record):
    log_f0 = record.log_f0.copy()
    log_f0[np.flatnonzero(~np.isnan(log_f0))[3:5]] += np.log(2)
    return replace(record, log_f0=log_f0)


def octave_up(record):
    return replace(record, log_f0=record.log_f0 + np.float32(np.log(2)))


def slow(record):
    longer = {name: np.repeat(getattr(record, name), 4, axis=0) for name in ("mel", "contour")}
    return replace(record, duration=4 * record.duration, **longer)


FAULTS = {
    "u10": (octave_error, "largest step of f0"),
    "u20": (octave_up, "mean f0"),
    "u30": (slow, "mean length of its phones"),
}
RECORDED = {"u40": ({"level": -45.0, "clipped": 0.0}, "level -45"), "u50": ({"level": -20.0, "clipped": 0.004}, "clip")}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Of 60 utterances five have a planted fault, the recording of one of them is missing, and a sixth is damaged."""
    root, rng, items = tmp_path_factory.mktemp("corpus") / "store", np.random.default_rng(0), []
    for i in range(N):
        name, audio = f"u{i}", root.parent / f"u{i}.flac"
        record = simulated(40, "ann", rng)
        record = replace(record, log_f0=(5.3 + 0.4 * (record.log_f0 - 5.3)).astype(np.float32))  # as smooth as speech
        record = FAULTS[name][0](record) if name in FAULTS else record
        if name != "u30":
            soundfile.write(audio, 0.1 * rng.normal(size=22050), 22050)
        items.append((Utterance(name, audio, f"<b>Text & {i}.", "ann", "calm", "train" if i < 50 else "test"), record))
    write_store(root, AUDIO, items)
    figures = [RECORDED.get(f"u{i}", ({"level": -20 + float(rng.normal()), "clipped": 0.0},))[0] for i in range(N)]
    rows = [Row(f"u{i}", "", position=i, shard="00000", **figures[i]) for i in range(N)]
    write_json_lines(root / "shards" / "00000.rows.jsonl", map(asdict, rows))
    (shard,) = (root / "shards").glob("*.array_record")
    packed, data = pack(items[DAMAGED][1]), bytearray(shard.read_bytes())
    data[data.index(packed) + len(packed) // 2] ^= 0xFF
    shard.write_bytes(data)
    return FeatureStore(root)


def measured(store):
    return measure(store, Console(quiet=True))


def test_planted_faults_are_found_and_nothing_else(store):
    ranked = suspects(store, measured(store))
    reasons = {store.index[s.position].id: s.reason for s in ranked}
    assert ranked[0].position == DAMAGED and "damaged record" in ranked[0].reason
    assert set(reasons) == FAULTS.keys() | RECORDED.keys() | {f"u{DAMAGED}"}
    for name, (_, words) in (FAULTS | RECORDED).items():
        assert words in reasons[name]


def test_measures_are_the_counts(store):
    found, readable = measured(store), [i for i in range(N) if i != DAMAGED]
    everything = store.read(readable)
    for i, symbol in enumerate(store.inventory.phonemes):
        of = np.concatenate([f.duration[f.phoneme == i] for f in everything])
        assert found.durations[i].sum() == len(of), symbol
        assert found.durations[i] @ np.arange(found.durations.shape[1]) == of.sum()
        assert found.voiced[i] == sum((f.voiced & (f.phoneme == i)).sum() for f in everything)
    assert found.f0.sum() == sum(f.voiced.sum() for f in everything)
    speech = [f.duration[f.phoneme != 0].mean() * AUDIO.frame_seconds for f in everything]
    np.testing.assert_allclose(found.figures["seconds_per_phone"][readable], speech)
    assert not {f"u{i}" for i in typical(found, 5)} & {*FAULTS, *RECORDED, f"u{DAMAGED}"}


def test_the_page_stands_alone(store, tmp_path, capsys, caplog):
    page = inspect(store.root, tmp_path / "new" / "page.html")
    text = page.read_text(encoding="utf-8")
    assert not re.search(r'(?:src|href)="(?!data:|#)', text) and "<b>Text" not in text
    assert text.count("<audio") == text.count("data:audio/flac;base64,") == 5 + 3
    assert "its mel, by Griffin-Lim" in text and "u30.flac: missing audio" in caplog.text
    assert all(words in text for _, words in (FAULTS | RECORDED).values()) and "damaged record" in text
    printed = capsys.readouterr().out
    assert "60 utterances" in printed and "speakers named: 1" in printed and "u30: mean length" in printed


def test_what_is_no_store(tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="not a feature store"):
        inspect(tmp_path)
    monkeypatch.setattr("sys.argv", ["tts-gen", "inspect", str(tmp_path)])
    assert main() == 1 and "not a feature store" in capsys.readouterr().err
