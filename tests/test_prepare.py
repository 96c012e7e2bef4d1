"""prepare: exact truth from synthetic speech, and what is dropped and why."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from prepared import make_corpus, run

from tts_gen.align import Segment, textgrid
from tts_gen.config import Audio, UserError
from tts_gen.corpora import Utterance, write_manifest
from tts_gen.features.extract import extract
from tts_gen.features.loudness import PEAK, levelled, loudness
from tts_gen.features.prepare import prepare
from tts_gen.features.store import FeatureStore
from tts_gen.text import PAUSE, parse

AUDIO = Audio()


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> list[Utterance]:
    return make_corpus(tmp_path_factory.mktemp("espeak"))


def test_features_agree_with_the_truth(corpus, tmp_path):
    report, store = run(tmp_path, corpus)
    assert report.kept == len(corpus) and not report.drops
    assert [e.id for e in store.index] == [u.id for u in corpus]
    for utterance, features in zip(corpus, store.read(range(len(corpus))), strict=True):
        found = store.inventory.decode(features.phoneme, features.stress, features.edge, features.punctuation)
        assert found == parse(utterance.phonemes)
        n_frames = round(soundfile.info(utterance.audio).duration * AUDIO.sample_rate) // AUDIO.hop
        assert features.duration.sum() == len(features.mel) == n_frames
        ends = np.cumsum(utterance.durations) / AUDIO.frame_seconds
        assert np.abs(np.cumsum(features.duration) - ends).max() < 2.5  # 0.5, but where a phoneme of no length borrows
        pauses = np.array([p.symbol == PAUSE for p in found])
        assert not features.voiced[pauses].any() and features.voiced[~pauses].mean() > 0.4
        assert ((features.log_f0 > np.log(60)) & (features.log_f0 < np.log(500)))[features.voiced].all()
    settings = json.loads((store.root / "prepare.json").read_text())
    assert settings["f0_method"] == "dio" and "pyworld-prebuilt" in settings["versions"]


def test_text_is_aligned_where_no_times_are_given(corpus, tmp_path):
    spoken = [replace(u, phonemes=None, durations=None) for u in corpus[:3]]
    report, store = run(tmp_path, [*spoken, *corpus[3:]])
    aligned = store.read([i for i, e in enumerate(store.index) if e.id in {u.id for u in spoken}])
    assert aligned, report.drops
    assert all(f.duration.sum() == len(f.mel) for f in aligned)
    assert any(store.inventory.phonemes[i] in ("AH", "IH", "T", "N") for i in aligned[0].phoneme)


def test_a_textgrid_is_used(corpus, tmp_path):
    ends = np.cumsum(corpus[0].durations).tolist()
    segments = [
        Segment(phoneme, start, end)
        for phoneme, start, end in zip(parse(corpus[0].phonemes), [0.0, *ends[:-1]], ends, strict=True)
        if start < end
    ]
    textgrid.write(tmp_path / "a.TextGrid", segments)
    named = replace(corpus[0], phonemes=None, durations=None, alignment=tmp_path / "a.TextGrid")
    (tmp_path / "b.TextGrid").write_text("nothing of the kind")
    broken = replace(corpus[1], phonemes=None, durations=None, alignment=tmp_path / "b.TextGrid")
    report, store = run(tmp_path, [named, broken, *corpus[2:]])
    assert [drop.reason for drop in report.drops] == ["unusable alignment file"]
    found = np.cumsum(store.read([0])[0].duration)
    truth = np.array([s.end for s in segments]) / AUDIO.frame_seconds
    assert len(found) == len(truth) and np.abs(found - truth).max() < 2.5


def test_formats_rates_and_channels(corpus, tmp_path):
    wave, rate = soundfile.read(corpus[0].audio, dtype="float32")
    stereo = np.stack([1.5 * wave, 0.5 * wave], axis=1)
    soundfile.write(tmp_path / "stereo.flac", stereo, rate)
    soundfile.write(tmp_path / "loud.wav", 40000 * wave, rate, subtype="FLOAT")
    variants = [
        replace(corpus[0], id="stereo", audio=tmp_path / "stereo.flac"),
        replace(corpus[0], id="loud", audio=tmp_path / "loud.wav"),
    ]
    report, store = run(tmp_path, [*corpus, *variants])
    assert [(drop.id, drop.reason) for drop in report.drops] == [("loud", "samples not in -1..1")]
    mono, mixed = store.read([0, len(corpus)])
    np.testing.assert_array_equal(mixed.duration, mono.duration)
    assert np.abs(mixed.mel - mono.mel).mean() < 0.05


def test_recordings_are_brought_to_one_loudness(corpus, tmp_path):
    wave, rate = soundfile.read(corpus[0].audio, dtype="float32")
    soundfile.write(tmp_path / "quiet.wav", 0.1 * wave, rate, subtype="FLOAT")
    quiet = replace(corpus[0], id="quiet", audio=tmp_path / "quiet.wav", split="train")
    _, store = run(tmp_path, [corpus[0], quiet], loudness=-30.0)
    loud, quiet = store.read([0, 1])
    np.testing.assert_allclose(quiet.mel, loud.mel, atol=0.02)
    assert levelled(wave, rate, -30.0) == pytest.approx(levelled(0.1 * wave, rate, -30.0), rel=1e-4)
    assert loudness(levelled(wave, rate, -30.0), rate) == pytest.approx(-30.0, abs=0.01)
    assert np.abs(levelled(wave, rate, 0.0)).max() == pytest.approx(10 ** (PEAK / 20))


def test_silence_at_the_ends_is_cut_by_the_alignment(corpus, tmp_path):
    padded = []
    for u in corpus[:4]:
        wave, rate = soundfile.read(u.audio, dtype="float32")
        silence = np.zeros(2 * rate, np.float32)
        soundfile.write(tmp_path / u.audio.name, np.concatenate([silence, wave, silence]), rate)
        times = {"phonemes": ("pau", *u.phonemes, "pau"), "durations": (2.0, *u.durations, 2.0)}
        padded.append(replace(u, audio=tmp_path / u.audio.name, **times))
        padded.append(replace(padded[-1], id=f"{u.id}-heard", phonemes=None, durations=None))
    report, store = run(tmp_path, padded, trim=0.1)
    kept = {e.id: f for e, f in zip(store.index, store.read(range(len(store.index))), strict=True)}
    heard = {name for name in kept if name.endswith("heard")}
    assert heard and {u.id for u in corpus[:4]} <= kept.keys()
    for u in corpus[:4]:
        features, seconds = kept[u.id], soundfile.info(u.audio).duration
        assert features.duration.sum() == len(features.mel)
        assert max(features.duration[0], features.duration[-1]) <= 0.1 / AUDIO.frame_seconds + 1.5
        assert len(features.mel) * AUDIO.frame_seconds == pytest.approx(seconds + 0.2, abs=0.05)
        inner = np.cumsum(u.durations) / AUDIO.frame_seconds
        assert np.abs(np.cumsum(features.duration[1:-1]) - inner).max() < 2.5
    (tmp_path / "untrimmed").mkdir()
    report, _ = run(tmp_path / "untrimmed", padded)
    assert heard <= {d.id for d in report.drops if d.reason == "alignment: longest pause"}
    with pytest.raises(UserError, match="prepare.json: trim was 0.1 and is now None"):
        run(tmp_path, padded)


def test_one_bad_file_never_ends_the_run(corpus, tmp_path):
    wave, rate = soundfile.read(corpus[0].audio, dtype="float32")

    def sound(name: str, samples: np.ndarray) -> Path:
        soundfile.write(tmp_path / f"{name}.wav", samples, rate, subtype="FLOAT")
        return tmp_path / f"{name}.wav"

    (tmp_path / "noise.wav").write_bytes(b"not audio at all")
    (tmp_path / "empty.wav").touch()
    nan = wave.copy()
    nan[100] = np.nan
    untimed = replace(corpus[0], phonemes=None, durations=None)
    bad = {
        "missing audio": replace(corpus[0], audio=tmp_path / "nowhere.wav"),
        "unreadable audio": replace(corpus[0], audio=tmp_path / "noise.wav"),
        "samples not finite": replace(corpus[0], audio=sound("nan", nan)),
        "silence": replace(corpus[0], audio=sound("silence", 0 * wave)),
        "too short": replace(corpus[0], audio=sound("short", wave[: rate // 4])),
        "too long": replace(corpus[0], audio=sound("long", np.tile(wave, 1 + 13 * rate // len(wave)))),
        "durations do not fill": replace(corpus[0], durations=tuple(0.9 * d for d in corpus[0].durations)),
        "phonemes without times": replace(corpus[0], durations=None),
        "language without aligner": replace(untimed, language="de"),
        "unusable text": replace(untimed, text="?!"),
        "alignment: too short": replace(untimed, text="This sentence is much too long for it. " * 20),
        "too few phonemes": replace(
            corpus[0], phonemes=("pau", "a", "b", "pau"), durations=(len(wave) / rate / 4,) * 4
        ),
    }
    manifest = [*corpus, *(replace(u, id=f"bad{i}") for i, u in enumerate(bad.values()))]
    manifest.append(replace(corpus[0], id="empty", audio=tmp_path / "empty.wav"))
    write_manifest(tmp_path / "manifest.jsonl", manifest)
    with (tmp_path / "manifest.jsonl").open("a") as file:
        file.write("{half a line\n")
    report = prepare(tmp_path / "manifest.jsonl", tmp_path / "features", workers=1)
    assert report.kept == len(corpus)
    drops = {drop.id: drop for drop in report.drops}
    assert {f"bad{i}": drops[f"bad{i}"].reason for i in range(len(bad))} == {f"bad{i}": r for i, r in enumerate(bad)}
    assert drops["empty"].reason == "unreadable audio" and drops[f"line {len(manifest) + 1}"].reason == "not JSON"
    assert "nowhere.wav" in drops["bad0"].detail and "0.25" in drops["bad4"].detail
    written = [json.loads(line) for line in (tmp_path / "features" / "drops.jsonl").read_text().splitlines()]
    assert {row["id"]: row["reason"] for row in written} == {id: drop.reason for id, drop in drops.items()}


def test_an_unexpected_error_costs_one_utterance(corpus, tmp_path, monkeypatch):
    def fail_once(utterance, *arguments):
        if utterance.id == corpus[0].id:
            raise ZeroDivisionError("a case not thought of")
        return extract(utterance, *arguments)

    monkeypatch.setattr("tts_gen.features.prepare.extract", fail_once)
    report, store = run(tmp_path, corpus)
    assert [(drop.id, drop.reason) for drop in report.drops] == [(corpus[0].id, "unexpected error")]
    assert "a case not thought of" in report.drops[0].detail and len(store.index) == len(corpus) - 1
    monkeypatch.undo()
    report, store = run(tmp_path, corpus)  # and is tried again
    assert report.processed == 1 and len(store.index) == len(corpus)


def test_the_utterance_that_kills_its_worker_is_found(corpus, tmp_path, monkeypatch):
    def run_with_a_killer(function, tasks, workers):
        for task in tasks:
            yield task, None if corpus[3] in task.utterances else function(task)

    write_manifest(tmp_path / "manifest.jsonl", corpus)
    monkeypatch.setattr("tts_gen.features.pool.run", run_with_a_killer)
    report = prepare(tmp_path / "manifest.jsonl", tmp_path / "features", workers=2)
    assert [(drop.id, drop.reason) for drop in report.drops] == [(corpus[3].id, "worker died")]
    assert len(FeatureStore(tmp_path / "features").index) == len(corpus) - 1


def test_a_missing_package_is_named_at_once(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pyworld is not installed"):
        run(tmp_path, corpus)


def test_nothing_to_train_on_is_an_error(corpus, tmp_path):
    with pytest.raises(UserError, match="training split"):
        run(tmp_path, [replace(u, split="test") for u in corpus])


def test_names_and_texts_that_nothing_is_prepared_for(corpus, tmp_path, capsys):
    untimed = replace(corpus[0], phonemes=None, durations=None)
    odd = [
        replace(corpus[0], id="zero", audio=tmp_path / "a\0.wav"),
        replace(corpus[0], id="long", audio=tmp_path / ("x" * 300)),
        replace(corpus[0], id="folder", audio=tmp_path),
        replace(untimed, id="markup", text="[/]\x1b ?!"),
    ]
    report, _ = run(tmp_path, [*corpus, *odd])
    reasons = {drop.id: drop.reason for drop in report.drops}
    assert reasons == dict.fromkeys(("zero", "long", "folder"), "unreadable audio") | {"markup": "unusable text"}
    printed = capsys.readouterr().out
    assert "unusable text" in printed and "\x1b" not in printed


def test_phonemes_that_nothing_trains_are_listed(corpus, tmp_path, caplog):
    seconds = soundfile.info(corpus[0].audio).duration
    given = {"phonemes": ("a", "qq", "a", "ww", "a"), "durations": (seconds / 5,) * 5}
    strange = replace(corpus[0], id="strange", split="test", **given)
    run(tmp_path, [*corpus, strange])
    (warning,) = (r.message for r in caplog.records if r.message.startswith("phonemes "))
    assert {"qq", "ww"} <= set(warning.split(":")[0].removeprefix("phonemes ").split(", "))
    rows = {row["id"]: row for row in csv.DictReader((tmp_path / "features" / "alignment.csv").open(encoding="utf-8"))}
    assert "not in the training split: qq ww" in rows["strange"]["doubt"] and rows["strange"]["audio"].endswith(".wav")
    run(tmp_path, [*corpus, strange, replace(strange, id="train", split="train")])
    rows = csv.DictReader((tmp_path / "features" / "alignment.csv").open(encoding="utf-8"))
    assert not [row for row in rows if "training split" in row["doubt"] and "qq" in row["doubt"]]
