"""Perceptual proxies: word error rate, intervals, cache and bad waves on any machine; the models where the `eval` extra
is installed, on synthetic speech."""

import functools
import sys
import types

import numpy as np
import pytest
import soundfile
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from tts_gen import cli
from tts_gen.config import UserError
from tts_gen.corpora.espeak import synthesize
from tts_gen.evaluation import perceptual, proxies, rows
from tts_gen.evaluation.perceptual import Ledger, WavFolder, read_texts, resampled, score, word_errors, words
from tts_gen.evaluation.proxies import PROXIES, RATE, Missing, Proxy

ABSENT = Proxy(("no-such-package",), lambda: None)


def planted(**models) -> dict[str, Proxy]:
    """Models in the place of those named, and none for the others."""
    return {name: Proxy(("numpy",), lambda m=models[name]: m) if name in models else ABSENT for name in PROXIES}


def loudness(wave: np.ndarray) -> float:
    return float(np.abs(wave).max())


def constant(value: float) -> tuple[np.ndarray, int]:
    return np.full(2000, value, np.float32), RATE


def by(found: list[dict]) -> dict:
    return {(row["family"], row["metric"]): row for row in found}


@given(*[st.lists(st.sampled_from("ab"), max_size=6)] * 2)
def test_word_errors_are_the_fewest_edits(reference, hypothesis):
    @functools.cache
    def fewest(i, j):
        if not i or not j:
            return i + j
        replaced = fewest(i - 1, j - 1) + (reference[i - 1] != hypothesis[j - 1])
        return min(replaced, fewest(i - 1, j) + 1, fewest(i, j - 1) + 1)

    assert word_errors(reference, hypothesis) == fewest(len(reference), len(hypothesis))


@pytest.mark.parametrize("written, heard", [
    ("Press 5, then 12.", "press five then twelve"), ("Dial 911!", "dial NINE hundred and eleven"),
    ("The USB port", "the U.S.B. port"), ("It costs $5.50", "it costs five dollars and fifty cents"),
    ("Dr. Lee's here.", "doctor Lee's here"), ("thank you ♪ 谢", "Thank you."), ("♪", ""),
])  # fmt: skip
def test_digits_case_and_marks_do_not_count(written, heard):
    assert words(written) == words(heard)


def test_figures_are_means_and_errors_per_word(monkeypatch):
    heard = {0.1: "one two three", 0.2: "four", 0.3: "one two", 0.4: "four five six"}
    transcribe = lambda wave: heard[round(loudness(wave), 1)]  # noqa: E731
    monkeypatch.setattr(perceptual, "PROXIES", planted(distillmos=loudness, wer=transcribe))
    waves = {"real": {"a": constant(0.1), "b": constant(0.2)}, "made": {"a": constant(0.3), "b": constant(0.4)}}
    found = by(score(waves, {"a": "1, 2, 3", "b": "Four."}, "real"))
    assert found["real", "wer"]["value"] == 0
    assert found["made", "wer"]["value"] == pytest.approx((1 + 2) / 4), "over the corpus, not a mean of rates"
    assert found["made", "wer"]["low"] is None, "two utterances give no interval"
    assert found["made", "distillmos"]["value"] == pytest.approx(0.35, abs=1e-5)
    assert found["made", "distillmos"]["n"] == 2

    found = by(score(waves, {"a": "1, 2, 3", "b": "♪"}, "real"))
    assert (found["made", "wer"]["value"], found["made", "wer"]["n"]) == (pytest.approx(1 / 3), 1), "b says no words"
    found = by(score(waves, {}, "real"))
    assert found["made", "wer"]["value"] is None and "words" in found["made", "wer"]["why"]


def test_intervals_cover_the_mean(monkeypatch):
    monkeypatch.setattr(perceptual, "PROXIES", planted(distillmos=loudness))
    rng, covered = np.random.default_rng(0), 0
    for seed in range(60):
        waves = {"s": {str(i): constant(x) for i, x in enumerate(rng.uniform(0, 1, 30))}}
        row = by(score(waves, {}, "s", n_boot=200, seed=seed))["s", "distillmos"]
        covered += row["low"] <= 0.5 <= row["high"]
    assert 51 <= covered <= 60  # of 95 %: 57


def test_utterances_of_one_group_are_resampled_together(monkeypatch):
    monkeypatch.setattr(perceptual, "PROXIES", planted(distillmos=loudness))
    waves = {"s": {str(i): constant(0.1 + 0.2 * (i % 2)) for i in range(40)}}
    single = by(score(waves, {}, "s"))["s", "distillmos"]
    grouped = by(score(waves, {}, "s", {str(i): str(i % 8) for i in range(40)}))["s", "distillmos"]
    assert 0.15 < grouped["high"] - grouped["low"] < 0.3  # 2 * 2.36 * 0.1 / sqrt(7), by Student's t
    assert 0.05 < single["high"] - single["low"] < 0.08  # 2 * 1.96 * 0.1 / sqrt(40)
    assert by(score(waves, {}, "s", dict.fromkeys(waves["s"], "all")))["s", "distillmos"]["low"] is None


def test_speakers_are_compared_with_the_reference(monkeypatch):
    embedding = {0.1: [1.0, 0.0], 0.2: [0.6, 0.8]}
    embed = lambda wave: embedding[round(loudness(wave), 1)]  # noqa: E731
    monkeypatch.setattr(perceptual, "PROXIES", planted(speaker_similarity=embed))
    found = by(score({"real": {"a": constant(0.1)}, "made": {"a": constant(0.2)}}, {}, "real"))
    assert found["real", "speaker_similarity"]["value"] == 1
    assert found["made", "speaker_similarity"]["value"] == pytest.approx(0.6)


def test_an_interrupted_evaluation_goes_on(monkeypatch, tmp_path):
    calls = []

    def slow(wave):
        calls.append(loudness(wave))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return loudness(wave)

    monkeypatch.setattr(perceptual, "PROXIES", planted(distillmos=slow))
    waves = {"s": {str(i): constant(i / 10) for i in range(5)}}
    path = tmp_path / "proxies.jsonl"
    with pytest.raises(KeyboardInterrupt):
        score(waves, {}, "s", ledger=Ledger(path))
    with path.open("a") as file:
        file.write('["distillmos (numpy')  # killed while it wrote
    found = score(waves, {}, "s", ledger=Ledger(path))
    assert len(calls) == 3 + 3, "the first two are not measured again"
    assert by(found)["s", "distillmos"]["value"] == pytest.approx(0.2, abs=1e-5)
    again = score(waves, {}, "s", ledger=Ledger(path))
    rows.write(found, tmp_path / "found.json")
    rows.write(again, tmp_path / "again.json")
    assert rows.read(tmp_path / "again.json") == rows.read(tmp_path / "found.json") and len(calls) == 6

    waves["s"]["0"] = constant(0.9)  # another content under the same name
    score(waves, {}, "s", ledger=Ledger(path))
    assert len(calls) == 7


def test_broken_waves_are_left_out_for_all_and_named(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(perceptual, "PROXIES", planted(distillmos=loudness))
    for system in ("real", "made"):
        (tmp_path / system).mkdir()
        for i in range(4):
            soundfile.write(tmp_path / system / f"{i}.wav", np.full((800, 2), i / 10), RATE)
    (tmp_path / "made" / "1.wav").write_bytes(b"RIFF, but no more")
    soundfile.write(tmp_path / "real" / "2.wav", np.zeros(0), 8000)
    soundfile.write(tmp_path / "real" / "only.wav", np.zeros(9), 8000)
    waves = {system: WavFolder(tmp_path / system) for system in ("real", "made")}
    found = by(score(waves, {}, "real"))
    assert found["real", "distillmos"]["n"] == found["made", "distillmos"]["n"] == 2
    assert found["made", "distillmos"]["value"] == pytest.approx(0.15, abs=1e-4)
    assert "2 broken waves" in caplog.text and "made/1: cannot be read" in caplog.text and "real/2: " in caplog.text
    assert "1 utterances are not there in every system and left out: only" in caplog.text
    with pytest.raises(UserError, match="no utterance of 1 is left"):
        score({"s": {"a": (np.full(99, np.nan), RATE)}}, {}, "s")
    with pytest.raises(UserError, match="no utterance in common"):
        score({"s": {"a": constant(0)}, "t": {"b": constant(0)}}, {}, "s")
    with pytest.raises(UserError, match="'gold' is none of the systems: s"):
        score({"s": {"a": constant(0)}}, {}, "gold")


@pytest.mark.parametrize("wave, message", [
    (np.zeros((2, 9)), "shape"), (np.zeros(0), "shape"), ([0.0, np.inf], "1 of 2 samples are not finite"),
])  # fmt: skip
def test_what_is_no_wave(wave, message):
    with pytest.raises(ValueError, match=message):
        resampled(wave, RATE)


def test_resampling_keeps_a_tone():
    time = np.arange(48000) / 48000
    tone = resampled(np.sin(2 * np.pi * 1000 * time), 48000)
    inner = slice(1000, -1000)
    np.testing.assert_allclose(tone[inner], np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)[inner], atol=1e-3)
    assert np.abs(resampled(np.sign(np.sin(2 * np.pi * 1000 * time)), 48000)).max() <= 1


def test_a_missing_extra_is_a_column_that_says_so(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(perceptual, "PROXIES", planted(distillmos=loudness))
    for system, level in (("real", 0.25), ("made", 0.5)):
        (tmp_path / system).mkdir()
        for name in "ab":
            soundfile.write(tmp_path / system / f"{name}.wav", np.full(800, level), RATE)
    (tmp_path / "texts.txt").write_text("a|One.\nb|TWO|two\n")
    command = f"tts-gen proxies {tmp_path}/made {tmp_path}/real --texts {tmp_path}/texts.txt --reference real --out"
    monkeypatch.setattr(sys, "argv", [*command.split(), f"{tmp_path}/out"])
    assert cli.main() == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[2] == "| real, the reference | 0.250 (0.250–0.250) | missing | missing | missing |"
    assert shown.splitlines()[3].startswith("| made | 0.500 (0.500–0.500) |")
    assert "dnsmos: missing: pip install 'tts-gen[eval]' (no no-such-package)" in shown
    found = by(rows.read(tmp_path / "out" / "summary.json"))
    assert found["made", "distillmos"]["run"] == f"{tmp_path}/made"
    assert found["made", "wer"]["value"] is None and "missing: pip install" in found["made", "wer"]["why"]

    monkeypatch.setattr(sys, "argv", [*command.replace("reference real", "reference gold").split(), f"{tmp_path}/out"])
    assert cli.main() == 1 and "'gold' is none of the systems: made, real" in capsys.readouterr().err


def test_a_package_that_does_not_import_is_missing():
    def broken():
        raise OSError("libc10_cuda.so: cannot open shared object file")

    with pytest.raises(Missing, match="missing: pip install .*libc10_cuda"):
        Proxy(("numpy",), broken).load()


def test_texts_of_files(tmp_path):
    (tmp_path / "metadata.csv").write_text("a|Dr. A|Doctor A\n\nb|B\n")
    assert read_texts(tmp_path / "metadata.csv") == ({"a": "Doctor A", "b": "B"}, {})
    (tmp_path / "manifest.jsonl").write_text('{"id": "a", "audio": "a.wav", "text": "Hi.", "group": "g"}\n')
    assert read_texts(tmp_path / "manifest.jsonl") == ({"a": "Hi."}, {"a": "g"})
    (tmp_path / "prose.txt").write_text("Call me Ishmael.\n")
    with pytest.raises(UserError, match="'Call me Ishmael.' is no line `id|text`"):
        read_texts(tmp_path / "prose.txt")
    with pytest.raises(UserError, match="absent"):
        read_texts(tmp_path / "absent.txt")


def test_lstm_is_flaxs():
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (20, 3), "weight_hh_l0": (20, 5), "bias_ih_l0": 20, "bias_hh_l0": 20}
    weights = {f"lstm.{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    x = rng.normal(size=(2, 7, 3)).astype(np.float32)
    params = {}
    for i, gate in enumerate("ifgo"):
        part = slice(5 * i, 5 * i + 5)
        bias = (weights["lstm.bias_ih_l0"] + weights["lstm.bias_hh_l0"])[part]
        params["i" + gate] = {"kernel": weights["lstm.weight_ih_l0"][part].T}
        params["h" + gate] = {"kernel": weights["lstm.weight_hh_l0"][part].T, "bias": bias}
    expected = nn.RNN(nn.LSTMCell(5)).apply({"params": {"cell": params}}, x)
    np.testing.assert_allclose(proxies.lstm(x, weights), expected[:, -1], rtol=0, atol=1e-6)


TEXT = "Please call the office before noon, and leave a message for the director."


@functools.cache
def speech(voice: str = "en-us+m3") -> np.ndarray:
    wave, rate, _, _ = synthesize(TEXT, voice)
    return resampled(wave, rate)


def noisy(wave: np.ndarray) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, np.sqrt(np.mean(wave**2)), len(wave))
    return np.clip(wave + noise, -1, 1).astype(np.float32)


def model(name: str):
    try:
        return PROXIES[name].load()
    except Missing as error:
        pytest.skip(f"{name} is {error}")


@pytest.mark.parametrize("name", ["distillmos", "dnsmos"])
def test_noise_lowers_the_predicted_quality(name):
    measure = model(name)
    clean, spoilt = measure(speech()), measure(noisy(speech()))
    assert 1 <= spoilt < clean - 0.15 and clean <= 5
    assert "torchaudio" not in sys.modules or sys.modules["torchaudio"].__file__, "no stand-in is left behind"


def test_whisper_understands():
    transcribe = model("wer")
    errors = word_errors(words(TEXT), words(transcribe(speech())))
    assert errors <= 4 < word_errors(words(TEXT), words(transcribe(noisy(noisy(speech())))))
    assert transcribe(speech()) == transcribe(speech())


def test_a_voice_is_nearest_to_itself():
    embed = model("speaker_similarity")
    middle = len(speech()) // 2
    start, end = (np.array(embed(part)) for part in (speech()[:middle], speech()[middle:]))
    other = np.array(embed(speech("en-us+f2")[:middle]))
    assert np.linalg.norm(start) == pytest.approx(1, abs=1e-3)
    assert start @ end > start @ other + 0.05


def test_embedding_is_resemblyzers(monkeypatch):
    embed = model("speaker_similarity")
    pytest.importorskip("torch", reason="resemblyzer itself needs torch")
    monkeypatch.setitem(sys.modules, "webrtcvad", types.ModuleType("webrtcvad"))
    from resemblyzer import VoiceEncoder
    from resemblyzer.audio import normalize_volume

    encoder = VoiceEncoder("cpu", verbose=False)
    for seconds in (0.5, 1.7, 2.3, 4.0):
        wave = speech()[: int(seconds * RATE)]
        for level in (1.0, 0.01):
            expected = encoder.embed_utterance(normalize_volume(level * wave, -30, increase_only=True))
            np.testing.assert_allclose(embed(np.float32(level * wave)), expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", PROXIES)
@pytest.mark.parametrize("n", [1, 300, RATE])
def test_models_survive_silence_of_any_length(name, n):
    value = model(name)(np.zeros(n, np.float32))
    assert isinstance(value, str) or np.isfinite(value).all()
