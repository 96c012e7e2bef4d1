"""Listening tests: what is played, in which order, and that the page tells nobody what is what."""

import base64
import io
import json
import logging
import re
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import soundfile
import yaml
from scipy import signal

from tts_gen.cli import main
from tts_gen.config import UserError
from tts_gen.evaluation.listening import page, stimuli
from tts_gen.evaluation.listening.design import make_trials, positions, williams
from tts_gen.evaluation.listening.make import make
from tts_gen.features.loudness import k_weighting

RATE = 22050
SYSTEMS = ("naturalvoice", "glowing", "diffusing")


def speech(seed: int, seconds: float) -> np.ndarray:
    """Noise in syllables, louder and softer, peak 0.5."""
    n = round(seconds * RATE)
    wave = np.random.default_rng(seed).standard_normal(n) * (0.1 + np.sin(np.arange(n) * 9 / RATE) ** 2)
    return wave / np.abs(wave).max() / 2


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three systems of four utterances, differently loud and long."""
    root = tmp_path_factory.mktemp("systems")
    for i, system in enumerate(SYSTEMS):
        (root / system).mkdir()
        for u in range(4):
            wave = speech(u, 1.2 + 0.2 * u + 0.1 * i) * (1.0, 0.02, 1.9)[i]
            soundfile.write(root / system / f"u{u}.wav", wave, RATE, subtype="FLOAT")
    return {system: root / system for system in SYSTEMS}


@pytest.fixture(scope="module")
def made(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("test")
    return out, make(folders, out, reference="naturalvoice", utterances=3)


@pytest.mark.parametrize("n", range(1, 13))
def test_williams_square_is_balanced(n):
    square = williams(n)
    assert len(square) == (n if n % 2 == 0 or n == 1 else 2 * n)
    assert (np.sort(square) == np.arange(n)).all()
    assert (np.array([np.bincount(column, minlength=n) for column in square.T]) == len(square) // n).all()
    after = Counter(pair for row in square.tolist() for pair in pairwise(row))
    assert len(after) == n * (n - 1) and len(set(after.values())) <= 1


def test_every_system_stands_everywhere_equally_often():
    systems = ["a", "b", "c", "low anchor", "mid anchor"]
    trials = make_trials("mushra", [f"u{i}" for i in range(10)], systems, "a", np.random.default_rng(0))
    rows = [[list(t.stimuli.values())[i] for i in row] for t in trials[:1] for row in positions(t, 0, systems)]
    for place in zip(*rows):
        assert Counter(place) == dict.fromkeys(systems, 2)
    # one listener over ten trials
    rows = [[list(t.stimuli.values())[i] for i in positions(t, n, systems)[0]] for n, t in enumerate(trials)]
    for place in zip(*rows):
        assert Counter(place) == dict.fromkeys(systems, 2)


def test_numbers_of_trials():
    rng = np.random.default_rng(0)
    assert len(make_trials("ab", ["u", "v"], ["a", "b", "c", "d"], None, rng)) == 12
    assert len(make_trials("mos", ["u", "v"], ["a", "b", "c"], None, rng)) == 6
    ids = [s for t in make_trials("mushra", ["u", "v"], ["a", "b"], "a", rng) for s in [t.id, t.reference, *t.stimuli]]
    assert len(set(ids)) == len(ids) == 8


def test_k_weighting_is_the_recommendations():
    sine = np.sin(2 * np.pi * 997 * np.arange(96000) / 48000)
    assert stimuli.loudness(sine, 48000) == pytest.approx(-3.01, abs=0.005)
    shelf, high_pass = k_weighting(48000)
    table = [1.53512485958697, -2.69169619940638, 1.19839281085285, 1, -1.69065929318241, 0.73248077421585]
    np.testing.assert_allclose(shelf, table, atol=1e-7)
    np.testing.assert_allclose(high_pass, [1, -2, 1, 1, -1.99004745483398, 0.99007225036621], atol=1e-7)


@pytest.mark.parametrize("rate", [16000, 22050, 48000])
def test_loudness_of_a_full_scale_sine(rate):
    sine = np.sin(2 * np.pi * 997 * np.arange(2 * rate) / rate)  # BS.1770-4: -3.01 LKFS in one channel
    assert stimuli.loudness(sine, rate) == pytest.approx(-3.01, abs=0.05)
    gated = np.concatenate((sine, np.zeros(20 * rate)))
    assert stimuli.loudness(gated, rate) == pytest.approx(stimuli.loudness(sine, rate), abs=0.35)
    assert stimuli.loudness(0.1 * sine[: rate // 5], rate) == pytest.approx(-23.01, abs=0.1)  # below one block
    assert stimuli.loudness(np.zeros(rate), rate) == -np.inf


@pytest.mark.parametrize(("rate", "cutoff"), [(22050, 3500.0), (22050, 7000.0), (48000, 3500.0), (48000, 7000.0)])
def test_anchors_pass_and_stop_what_the_recommendation_says(rate, cutoff):
    impulse = np.zeros(4001)
    impulse[2000] = 1
    response = stimuli.low_pass(impulse, rate, cutoff)
    frequency, gain = signal.freqz(response, worN=8192, fs=rate)
    level = 20 * np.log10(np.abs(gain) + 1e-12)
    assert np.abs(level[frequency <= cutoff]).max() < 0.1
    assert level[frequency >= 8 / 7 * cutoff].max() < -50  # asked for: 25 dB here, 50 dB at 9 / 7
    assert np.argmax(response) == 2000  # no delay
    assert len(stimuli.low_pass(impulse[:50], rate, cutoff)) == 50


def test_an_anchor_above_the_band_is_left_out_and_said(caplog):
    assert list(stimuli.anchors(22050)) == ["low anchor", "mid anchor"] and not caplog.records
    assert list(stimuli.anchors(16000)) == ["low anchor"] and "no mid anchor" in caplog.text
    assert stimuli.anchors(8000) == {}


def test_stimuli_are_level_equally_long_and_not_clipped(made):
    out, key = made
    for trial in [*key["trials"], *key["training"]]:
        waves = {s: soundfile.read(out / "page" / "wavs" / f"{s}.wav") for s in [*trial["stimuli"], trial["reference"]]}
        assert {rate for _, rate in waves.values()} == {RATE} and len({len(w) for w, _ in waves.values()}) == 1
        for wave, rate in waves.values():
            assert stimuli.loudness(wave, rate) == pytest.approx(key["loudness"], abs=0.01)
            assert np.abs(wave).max() <= 10 ** (stimuli.PEAK / 20) + 1e-4
        hidden = next(s for s, system in trial["stimuli"].items() if system == "naturalvoice")
        np.testing.assert_array_equal(waves[hidden][0], waves[trial["reference"]][0])
        assert set(trial["stimuli"].values()) == {*SYSTEMS, "low anchor", "mid anchor"}


def test_peaks_lower_the_level_of_all(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "u.wav", speech(0, 1.0), RATE)
    click = np.zeros(RATE)
    click[5000:5004] = 0.9
    soundfile.write(tmp_path / "b" / "u.wav", click, RATE)
    key = make({"a": tmp_path / "a", "b": tmp_path / "b"}, tmp_path / "out", kind="ab")
    assert key["loudness"] < stimuli.LOUDNESS - 3
    found = [soundfile.read(p)[0] for p in (tmp_path / "out" / "page" / "wavs").glob("*.wav")]
    assert max(np.abs(w).max() for w in found) == pytest.approx(10 ** (stimuli.PEAK / 20), abs=1e-3)
    assert all(stimuli.loudness(w, RATE) == pytest.approx(key["loudness"], abs=0.1) for w in found)


def data_of(out) -> tuple[str, dict]:
    text = (out / "page" / "index.html").read_text(encoding="utf-8")
    return text, json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.S)[1])


def test_the_page_is_blind_and_self_contained(made):
    out, key = made
    text, data = data_of(out)
    everything = text + " ".join(str(p.relative_to(out)) for p in (out / "page").rglob("*"))
    names = [*SYSTEMS, "anchor", *(f"u{u}.wav" for u in range(4)), str(out.parent)]
    assert not [name for name in names if name in everything]
    code = re.sub(r'"s[0-9a-f]{12}": "[^"]*"', "", text)
    assert "http" not in code.replace("http-equiv", "") and "url(" not in code and "@import" not in code
    assert not (out / "page" / "key.json").exists() and "function decodePage" in text
    assert {t["id"] for t in data["trials"]} == {t["id"] for t in key["trials"]}
    hidden = [list(t["stimuli"].values()).index("naturalvoice") for t in key["trials"]]
    assert len(set(hidden)) > 1  # neither does its place in the list tell the reference
    for stimulus, flac in data["audio"].items():
        heard, _ = soundfile.read(io.BytesIO(base64.b64decode(flac)), dtype="int16")
        wav, _ = soundfile.read(out / "page" / "wavs" / f"{stimulus}.wav", dtype="int16")
        np.testing.assert_array_equal(heard, wav)


def test_the_same_call_makes_the_same_test(folders, made, tmp_path):
    out, key = made
    assert make(folders, tmp_path, reference="naturalvoice", utterances=3) == key
    assert (tmp_path / "page" / "index.html").read_bytes() == (out / "page" / "index.html").read_bytes()
    assert make(folders, tmp_path, reference="naturalvoice", utterances=3, seed=1)["test"] != key["test"]


def test_large_tests_leave_their_audio_beside_the_page(folders, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(page, "EMBED", 1e5)
    make(folders, tmp_path, reference="naturalvoice", utterances=2)
    assert data_of(tmp_path)[1]["audio"] is None and "listen serve" in caplog.text


def test_webmushra_finds_what_it_is_told(made):
    out, key = made
    root = out / "webmushra"
    config = yaml.safe_load((root / "configs" / f"{key['test']}.yaml").read_text())
    training, rated = config["pages"][1], config["pages"][2]
    assert config["pages"][-1]["type"] == "finish" and rated[0] == "random" and len(rated) == 4
    for made_page in [training, *rated[1:]]:
        trial = next(t for t in [*key["trials"], *key["training"]] if t["id"] == made_page["id"])
        assert made_page["type"] == "mushra" and (root / made_page["reference"]).is_file()
        # webMUSHRA adds the hidden reference itself
        named = {trial["stimuli"][s] for s in made_page["stimuli"]}
        assert named == {"glowing", "diffusing", "low anchor", "mid anchor"}
        assert all((root / path).is_file() for path in made_page["stimuli"].values())


@pytest.mark.parametrize("kind", ["ab", "mos"])
def test_other_kinds_from_the_shell(folders, tmp_path, capsys, monkeypatch, kind):
    question = "Is <b> better?"
    command = ["tts-gen", "listen", "make", *map(str, folders.values()), "--kind", kind, "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [*command, "--utterances", "2", "--question", question])
    assert main() == 0 and "listen serve" in capsys.readouterr().out
    text, data = data_of(tmp_path)
    assert len(data["trials"]) == 6 and "Is &lt;b&gt; better?" in text and "<b>" not in text
    config = list(tmp_path.glob("webmushra/configs/*.yaml"))
    assert len(config) == (kind == "mos")
    if kind == "mos":
        assert len(yaml.safe_load(config[0].read_text())["pages"][2]["stimuli"]) == 6


def test_what_cannot_be_made_is_said(folders, tmp_path, caplog):
    def message(*args, **options) -> str:
        with pytest.raises(UserError) as error:
            make(*args, out=tmp_path / "out", **options)
        return str(error.value)

    assert "--reference" in message(folders)
    assert "no such system" in message(folders, reference="x")
    assert "too few" in message({"a": folders["glowing"]}, kind="ab")
    assert "only 4" in message(folders, kind="ab", utterances=5)
    assert "is no folder" in message({"a": folders["glowing"], "b": tmp_path / "none"}, kind="ab")
    assert "12" in message({str(i): folders["glowing"] for i in range(11)}, reference="0")
    assert "anchor's name" in message({"low anchor": folders["glowing"]}, kind="mos")
    for name, wave in {"silent": np.zeros(RATE), "nan": np.full(RATE, np.nan), "empty": np.zeros(0)}.items():
        (tmp_path / name).mkdir()
        soundfile.write(tmp_path / name / "u0.wav", wave, RATE, subtype="FLOAT")
        with caplog.at_level(logging.WARNING):
            said = message({"a": folders["glowing"], name: tmp_path / name}, kind="ab")
        assert name in said and {"silent": "silent", "nan": "not finite", "empty": "no samples"}[name] in said
        assert f"{name} lacks 3" in caplog.text
    (tmp_path / "other").mkdir()
    soundfile.write(tmp_path / "other" / "x.wav", speech(0, 1), RATE)
    assert "no wav file name" in message({"a": folders["glowing"], "b": tmp_path / "other"}, kind="ab")


def test_results_of_another_test_are_not_orphaned(folders, tmp_path):
    make(folders, tmp_path, kind="ab", utterances=2)
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "x.json").write_text("{}")
    make(folders, tmp_path, kind="ab", utterances=2)  # the same
    with pytest.raises(UserError, match="its 1 results of another test"):
        make(folders, tmp_path, kind="ab", utterances=2, seed=1)
