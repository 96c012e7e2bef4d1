"""Runs on a corpus that they were not trained on: what is known of it, what is left out, and the difference."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import AUDIO, make_store, simulated, small_config, small_decoder, write_untrained

from tts_gen import command, doors
from tts_gen.config import UserError
from tts_gen.corpora import Utterance
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.studies.transfer import Heard, difference, known_part
from tts_gen.features.store import FeatureStore
from tts_gen.features.writer import write_store
from tts_gen.runs import load

STRANGE = ("t3", "t5")
"""test utterances with a phoneme of their own"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("home"))


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> FeatureStore:
    """Speaker cleo, phonemes in another order of ids, ZZ in two test utterances."""
    root, rng, items = tmp_path_factory.mktemp("abroad"), np.random.default_rng(5), []
    for split, count in (("train", 12), ("val", 2), ("test", 10)):
        for i in range(count):
            name, record = f"{split[0] if split == 'test' else split}{i}", simulated(12, "ann", rng)
            phonemes = [replace(p, symbol="B") if p.symbol == "T" and split == "train" else p for p in record.phonemes]
            if name in STRANGE:
                phonemes[3] = replace(phonemes[3], symbol="ZZ")
            utterance = Utterance(name, root / f"{name}.wav", "Text.", "cleo", "glad", split)
            items.append((utterance, replace(record, phonemes=phonemes)))
    write_store(root, AUDIO, items)
    return FeatureStore(root)


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    for task, family, changes in (("prosody", "flow", {}), ("acoustic", "regression", {"loss": "l1"})):
        config = replace(small_config(task, family, store.root), decoder=small_decoder(family, **changes))
        write_untrained(config, store, folder / task)
    return [folder / "prosody", folder / "acoustic"]


def test_a_corpus_is_heard_by_the_names_of_its_phonemes(runs, store, other):
    run, split = load(runs[0]), Split.read(other, "test")
    kept, (told,) = known_part(split, run)
    assert [e.id for e in kept.entries] == [f"t{i}" for i in range(10) if f"t{i}" not in STRANGE]
    assert "ZZ (2), 2 of 120; 2 of 10 utterances have one and are left out" in told
    heard = Heard(kept.name, other, kept.positions, run, "unknown")
    for u, given in zip(heard.utterances, kept.utterances, strict=True):
        assert u.speaker == u.style == 0
        names = [run.inventory.phonemes[p] for p in u.phoneme]
        assert names == [other.inventory.phonemes[p] for p in given.phoneme]
        cleo = other.inventory.speaker_id("cleo")
        ours = run.stats.normalise_log_f0(u.log_f0, np.asarray(0))
        np.testing.assert_allclose(ours, other.stats.normalise_log_f0(given.log_f0, np.asarray(cleo)), atol=1e-4)
    assert heard.content != kept.content


def test_rows_of_both_corpora_and_their_difference(runs, store, other, tmp_path, capsys):
    arguments = ["transfer", *map(str, runs), "--features", str(other.root), "--out", str(tmp_path), "--samples", "2"]
    assert doors.evaluate(arguments) == command.DONE
    said = capsys.readouterr().out
    assert "2 of 10 utterances have one and are left out" in said
    rows = json.loads((tmp_path / "summary.json").read_text())
    home, abroad = store.root.name, other.root.name
    at = {(r["corpus"], r["scope"], r["feature"], r["metric"]): r for r in rows}
    assert {key[:2] for key in at} == {
        (home, "overall"), (home, "as:unknown"), (abroad, "overall"), (abroad, f"minus:{home}")
    }  # fmt: skip
    for feature, metric in (("log_f0", "std_ratio"), ("duration", "js"), ("mel", "js")):
        own, there, gap = (at[*where, feature, metric] for where in
                           ((home, "overall"), (abroad, "overall"), (abroad, f"minus:{home}")))  # fmt: skip
        assert gap["value"] == pytest.approx(there["value"] - own["value"])
        assert gap["low"] < gap["value"] < gap["high"]
    assert at[abroad, "overall", "mel", "js"]["n"] == sum(
        e.n_frames for e in Split.read(other, "test").entries if e.id not in STRANGE
    )


@pytest.mark.parametrize("more, message", [
    ([], "transfer needs the features of another corpus: --features DIR"),
    (["--speaker", "dora"], "unknown speaker 'dora'; this corpus has unknown, ann, bob"),
])  # fmt: skip
def test_what_cannot_be_transferred_is_said(more, message, runs, other, tmp_path, capsys):
    features = ["--features", str(other.root)] if more else []
    assert doors.evaluate(["transfer", str(runs[0]), "--out", str(tmp_path), *features, *more]) == command.FAILED
    assert message in capsys.readouterr().err


def test_a_corpus_of_strange_phonemes_alone_is_refused(runs, other, tmp_path):
    only = [i for i, e in enumerate(other.index) if e.id in STRANGE]
    with pytest.raises(UserError, match=r"every test utterance has a phoneme that .* does not know: ZZ \(2\)"):
        known_part(Split("test", other, np.array(only)), load(runs[0]))


def test_a_speaker_that_was_never_trained_is_told(other, tmp_path, capsys):
    """All of the corpus is cleo's."""
    write_untrained(small_config("prosody", "regression", other.root), other, tmp_path / "run")
    arguments = ["transfer", str(tmp_path / "run"), "--features", str(other.root), "--out", str(tmp_path / "out")]
    assert doors.evaluate(arguments) == command.DONE
    assert "No training utterance is of the speaker unknown" in capsys.readouterr().out


def test_a_corpus_that_moved_is_named_by_own(runs, store, other, tmp_path, capsys, monkeypatch):
    write_untrained(small_config("prosody", "regression", store.root), store, tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    config["data"]["features"] = str(tmp_path / "gone")
    (tmp_path / "run" / "config.json").write_text(json.dumps(config))
    arguments = ["transfer", str(tmp_path / "run"), "--features", str(other.root), "--out", str(tmp_path / "out")]
    assert doors.evaluate(arguments) == command.FAILED
    assert "(of transfer, --own DIR)" in capsys.readouterr().err
    assert doors.evaluate([*arguments, "--own", str(store.root)]) == command.DONE
    (tmp_path / other.root.name).symlink_to(store.root)
    assert doors.evaluate([*arguments, "--own", str(tmp_path / other.root.name)]) == command.FAILED
    assert "have one name" in capsys.readouterr().err


def test_intervals_of_differences_cover_the_truth():
    """Of two means of 40 Gaussian values, each with its own 95 % interval: 1,000 times."""
    rng, covered = np.random.default_rng(0), 0
    for _ in range(1000):
        of = []
        for mean, std in ((1.0, 1.0), (0.4, 2.0)):
            x = rng.normal(mean, std, 40)
            half = 2.0227 * x.std(ddof=1) / np.sqrt(40)
            of.append({"value": x.mean(), "low": x.mean() - half, "high": x.mean() + half})
        found = difference(*of)
        covered += found["low"] <= 0.6 <= found["high"]
    assert 0.93 <= covered / 1000 <= 0.97
