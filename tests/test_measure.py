"""`tts-gen metrics`: two files or two folders of anyone's."""

import json
import sys

import numpy as np
import pytest
import soundfile
from evaluated import pick, world

from tts_gen import cli
from tts_gen.config import UserError
from tts_gen.evaluation import flat_files
from tts_gen.evaluation.flat_files import rows_of_files
from tts_gen.evaluation.wav_folders import rows_of_folders

FRAME = 256 / 22050


@pytest.fixture
def files(tmp_path):
    """(arrays of the reference, arrays of two samples, a function that saves both and gives their rows)"""
    rng = np.random.default_rng(0)
    oracle, *_ = world(rng, utterances=60)
    reference = {name: getattr(oracle, name) for name in ("duration", "voiced", "utterance", "pause", "speaker")}
    reference["log_f0"] = 5 + np.where(oracle.speaker == "ann", 0.4, 0) + 0.2 * oracle.log_f0
    noise = rng.standard_normal((2, len(oracle.voiced)))
    generated = {"log_f0": reference["log_f0"] + 0.05 * noise, "duration": reference["duration"] + [[0], [1]]}

    def save(ref=None, gen=None):
        for name, arrays in (("ref", reference | (ref or {})), ("gen", generated | (gen or {}))):
            np.savez(tmp_path / f"{name}.npz", **{k: v for k, v in arrays.items() if v is not None})
        return tmp_path / "ref.npz", tmp_path / "gen.npz"

    return reference, generated, save


def test_rows_of_files(files):
    reference, generated, save = files
    found = [r for r in rows_of_files(*save(), FRAME) if r["family"] == "gen"]
    pool = reference["voiced"] & ~reference["pause"]
    error = (generated["log_f0"] - reference["log_f0"])[:, pool]
    cents = 1200 / np.log(2) * np.sqrt((error**2).mean(axis=1)).mean()
    assert pick(found, "log_f0", "rmse_cents")["value"] == pytest.approx(cents)
    assert pick(found, "duration", "rmse")["value"] == pytest.approx(0.5), "one sample is right, one off by a frame"
    assert pick(found, "duration", "rmse_ms")["value"] == pytest.approx(500 * FRAME)
    assert pick(found, "log_f0", "std_ratio")["value"] == pytest.approx(1, abs=0.1), "speakers' means play no part"
    assert {r["scope"].split(":")[0] for r in found} >= {"overall", "speaker"}
    ann = [r for r in found if r["scope"] == "speaker:ann" and r["metric"] == "std"]
    assert ann[0]["value"] == pytest.approx(np.hypot(1, 0.05 / 0.2), rel=0.1), "each speaker's unit is his own"


def test_the_command_prints_and_writes(files, tmp_path, monkeypatch, capsys):
    *_, save = files
    ref, gen = save(gen={"log_f0": files[0]["log_f0"], "duration": files[0]["duration"]})
    out = tmp_path / "new" / "summary.json"
    monkeypatch.setattr(sys, "argv", ["tts-gen", "metrics", str(ref), str(gen), "--json", str(out)])
    assert cli.main() == 0
    printed = capsys.readouterr().out
    assert "two_sample_accuracy" in printed and "utt_slope_log_f0" in printed
    assert {r["family"] for r in json.loads(out.read_text())} == {"gen", "floor"} and "NaN" not in out.read_text()
    monkeypatch.setattr(sys, "argv", ["tts-gen", "metrics", str(ref), str(tmp_path)])
    assert cli.main() == 1 and "two folders" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ref", "gen", "message"),
    [
        ({"voiced": None}, {}, "ref.npz: lacks voiced"),
        ({}, {"duration": None}, "gen.npz: lacks duration; it holds log_f0"),
        ({"speaker": np.array(["ann"])}, {}, "speaker has shape"),
        ({}, {"log_f0": np.zeros((2, 5)), "duration": np.zeros((2, 5))}, r"has 840 phonemes: give both as \[840\]"),
        ({}, {"log_f0": np.zeros((3, 840))}, r"log_f0 \(3, 840\) and duration \(2, 840\)"),
        ({"utterance": np.arange(840) % 2}, {}, "several places"),
        ({"utterance": np.zeros(840)}, {}, "integer id"),
        ({"duration": np.zeros(840)}, {}, "840 values that are no positive number"),
        ({"voiced": np.full(840, 0.5)}, {}, "voiced holds other values"),
        ({"log_f0": np.full(840, np.nan)}, {}, "voiced phonemes is not finite"),
        ({"log_f0": np.full(840, 0.1)}, {}, "no natural log of Hz"),
        ({"log_f0": np.full(840, "x")}, {}, "give numbers"),
        ({"speaker": np.full(840, None)}, {}, "cannot be read as .npz"),
        ({}, {"utterance": np.zeros(840, int)}, "utterance differs"),
        ({"duration": np.full(840, 0.08)}, {}, r"ref.npz: the median of duration is 0.08; give frames"),
        ({}, {"duration": np.full((2, 840), 0.08)}, r"gen.npz: the median of duration is 0.08; give frames"),
        ({}, {"duration": np.full((2, 840), -3.0)}, "gen.npz: duration holds 1[0-9]+ values below 0"),
        ({}, {"log_f0": np.full((2, 840), 180.0)}, "gen.npz: the median of log_f0 is 180, no natural log"),
    ],
)
def test_files_that_do_not_fit_are_errors(files, ref, gen, message):
    with pytest.raises(UserError, match=message):
        rows_of_files(*files[2](ref, gen), FRAME)


def test_no_file_at_all(files, tmp_path):
    ref, _ = files[2]()
    (tmp_path / "text.npz").write_text("log_f0")
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.ones(3))
    for name in ("none.npz", "text.npz", "array.npz"):
        with pytest.raises(UserError, match=f"{name}: (cannot be read|lacks .* no named arrays)"):
            rows_of_files(ref, tmp_path / name, FRAME)


def test_a_damaged_byte_anywhere_is_told_or_harmless(files, tmp_path):
    """Of a compressed file, where zlib meets it before the checksum does."""
    ref, gen = files[2]()
    np.savez_compressed(gen, **np.load(gen))
    whole = gen.read_bytes()
    told = 0
    for at in range(40, len(whole), len(whole) // 40):
        gen.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            flat_files._read(gen, ("log_f0", "duration"))
        except UserError:
            told += 1
    assert told > 20


def test_nothing_voiced_one_utterance_constants_and_nan_give_nulls_with_reasons(files):
    reference, generated, save = files
    n = len(reference["voiced"])

    def rows(ref=None, gen=None, **options):
        found = rows_of_files(*save(ref, gen), FRAME, **options)
        assert all(r["value"] is not None or r["why"] for r in found)
        assert all(r["value"] is None or np.isfinite(r["value"]) for r in found)
        return [r for r in found if r["family"] == "gen"]

    assert "no voiced" in pick(rows({"voiced": np.zeros(n, bool)}), "log_f0", "js")["why"]
    one = rows({"utterance": np.zeros(n, int)})
    assert pick(one, "log_f0", "rmse")["value"] > 0 and pick(one, "log_f0", "rmse")["low"] is None
    flat = rows({"log_f0": np.full(n, 5.0)}, {"log_f0": np.full((2, n), 5.0)})
    assert "oracle is constant" in pick(flat, "log_f0", "std_ratio")["why"]
    broken = generated["log_f0"].copy()
    broken[0, np.flatnonzero(reference["voiced"])[3]] = np.nan
    assert "1 of" in pick(rows(gen={"log_f0": broken}), "log_f0", "rmse")["why"]
    assert "not known" in pick(rows(normalised=True), "log_f0", "rmse_cents")["why"]


def speech(hz, seconds=1.2, rate=22050, seed=0):
    """A buzz with silence around it."""
    t = np.arange(int(seconds * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * h * hz * t) / h for h in range(1, 15))
    noise = 1e-3 * np.random.default_rng(seed).standard_normal(len(t))
    return 0.2 * buzz * ((t > 0.3) & (t < seconds - 0.3)) + noise


@pytest.fixture
def folders(tmp_path):
    ref, gen = tmp_path / "ref", tmp_path / "gen"
    for folder in (ref, gen):
        folder.mkdir()
    for i, hz in enumerate((110, 150, 200, 240)):
        soundfile.write(ref / f"{i}.wav", speech(hz), 22050)
        soundfile.write(gen / f"{i}.wav", speech(hz * 2 ** (1 / 12), seed=1), 22050)
    return ref, gen


def test_rows_of_folders(folders, caplog):
    ref, gen = folders
    (gen / "4.wav").write_bytes(b"RIFF")
    (ref / "4.wav").write_bytes((ref / "0.wav").read_bytes())
    soundfile.write(ref / "lone.wav", speech(100), 22050)
    found = [r for r in rows_of_folders(ref, gen) if r["family"] == "gen"]
    assert pick(found, "f0", "rmse_cents")["value"] == pytest.approx(100, abs=10), "a semitone"
    assert pick(found, "f0", "gpe")["value"] < 0.02 and pick(found, "f0", "vde")["value"] < 0.1
    assert pick(found, "mel", "mcd")["value"] >= pick(found, "mel", "mcd_dtw")["value"] > 0
    assert "lone.wav" in caplog.text and "left out: 4.wav (unreadable audio" in caplog.text
    same = [r for r in rows_of_folders(ref, ref) if r["family"] == "ref"]
    assert [pick(same, "f0", m)["value"] for m in ("gpe", "vde", "ffe", "rmse_cents")] == [0] * 4
    assert pick(same, "mel", "mcd")["value"] == pick(same, "mel", "mcd_dtw")["value"] == 0


def test_other_lengths_are_warped(folders):
    ref, gen = folders
    soundfile.write(gen / "0.wav", speech(110, seconds=1.5), 16000)
    found = [r for r in rows_of_folders(ref, gen) if r["family"] == "gen"]
    assert pick(found, "mel", "mcd")["value"] is None if any(r["metric"] == "mcd" for r in found) else True
    assert pick(found, "mel", "mcd_dtw")["value"] > 0 and "durations of its own" in pick(found, "mel", "mel_l1")["why"]


def test_folders_without_a_pair(folders, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(UserError, match="no .wav of the same name"):
        rows_of_folders(folders[0], empty)
    soundfile.write(empty / "0.wav", np.zeros(100), 22050)
    with pytest.raises(UserError, match="no pair of recordings can be used"):
        rows_of_folders(folders[0], empty)


def test_silence_has_no_f0_and_says_so(folders):
    ref, gen = folders
    for i in range(4):
        soundfile.write(gen / f"{i}.wav", np.zeros(26460), 22050)
    found = [r for r in rows_of_folders(ref, gen) if r["family"] == "gen"]
    assert "voiced in both" in pick(found, "f0", "gpe")["why"] and pick(found, "f0", "vde")["value"] > 0.3
