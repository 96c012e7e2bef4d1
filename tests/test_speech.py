"""`tts-gen synthesize`: prosody from models, files and recordings; long texts; folders of lines that go on."""

import io
import json
import os
import re
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from layouts import speech
from models import AUDIO, small_config, write_untrained

from tts_gen import cli, command, runs
from tts_gen.align import textgrid
from tts_gen.config import UserError
from tts_gen.corpora import Utterance
from tts_gen.features import sound
from tts_gen.features.extract import Settings, extract
from tts_gen.features.inventory import Inventory
from tts_gen.features.pooling import pool_energy
from tts_gen.features.store import Features
from tts_gen.speech import command as speech_command
from tts_gen.speech import files, prosody_file, speaking
from tts_gen.speech.imitation import imitate
from tts_gen.synthesis import Controls, moved, paced
from tts_gen.text import parse
from tts_gen.text.pieces import pieces
from tts_gen.vocoders import write_wav

PHONES = "pau M IY1 | S AH0 T . pau"


@pytest.fixture(scope="module")
def pair(store, tmp_path_factory):
    """Directories of a prosody run and an acoustic run."""
    root = tmp_path_factory.mktemp("runs")
    for task, family in (("prosody", "flow"), ("acoustic", "regression")):
        write_untrained(small_config(task, family, store.root), store, root / task)
    return root / "prosody", root / "acoustic"


@pytest.fixture
def synthesize(pair, monkeypatch, capsys):
    """`synthesize(*arguments, prosody=True)` -> exit code, what was said on stdout and on stderr."""

    def run(*arguments, prosody: bool = True):
        models = (["--prosody", pair[0]] if prosody else []) + ["--acoustic", pair[1], "--vocoder", "griffin_lim"]
        asked = ["tts-gen", "synthesize", *arguments, *models, *(["--phonemes", "--speaker", "ann"] if prosody else [])]
        monkeypatch.setattr(sys, "argv", [str(a) for a in asked])
        code = cli.main()
        return code, *capsys.readouterr()

    return run


def test_prosody_is_saved_edited_and_spoken(synthesize, tmp_path):
    saved, first, second = tmp_path / "x.json", tmp_path / "a.wav", tmp_path / "b.wav"
    also = ["--also", "textgrid", "--also", "mel", "--also", "picture"]
    assert synthesize(PHONES, "--out", first, "--save-prosody", saved, *also)[0] == command.DONE
    found = json.loads(saved.read_text())
    assert [p["phone"] for p in found["phonemes"]] == ["pau", "M", "IY1", "S", "AH0", "T", "pau"]
    assert [p["after"] for p in found["phonemes"]] == ["", "", "|", "", "", ".", ""]
    assert [p["hz"] is not None for p in found["phonemes"]] == [False, True, True, False, True, False, False]
    frame, mel = 1000 * AUDIO.frame_seconds, np.load(first.with_suffix(".npy"))
    frames = np.array([p["ms"] for p in found["phonemes"]]) / frame
    np.testing.assert_allclose(frames, np.rint(frames), atol=1e-3)
    assert len(soundfile.read(first)[0]) == 256 * len(mel) == 256 * round(frames.sum())
    phones = textgrid.read(first.with_suffix(".TextGrid")).phones
    np.testing.assert_allclose([1000 * (p.end - p.start) / frame for p in phones], frames, atol=1e-3)
    assert first.with_suffix(".png").read_bytes()[:4] == b"\x89PNG" and set(speech_command.KINDS) == set(files.KINDS)

    assert synthesize("--from-prosody", saved, "--out", second, "--also", "mel", prosody=False)[0] == command.DONE
    np.testing.assert_allclose(np.load(second.with_suffix(".npy")), mel, atol=1e-4)
    found["phonemes"][2] |= {"hz": 2 * found["phonemes"][2]["hz"], "ms": 10 * frame}
    saved.write_text(json.dumps(found))
    again = tmp_path / "again.json"
    changed = ("--from-prosody", saved, "--out", second, "--also", "mel", "--save-prosody", again)
    assert synthesize(*changed, prosody=False)[0] == command.DONE
    now = json.loads(again.read_text())
    for a, b in zip(now["phonemes"], found["phonemes"], strict=True):
        assert a["phone"] == b["phone"] and a["ms"] == pytest.approx(b["ms"], abs=1e-2)
        assert a["hz"] == (b["hz"] and pytest.approx(b["hz"], rel=1e-4))
    assert len(np.load(second.with_suffix(".npy"))) == len(mel) + 10 - round(frames[2])


def drawn(store, seed: int) -> Features:
    """A sentence with any durations and pitch."""
    rng, phonemes = np.random.default_rng(seed), parse("pau M IY1 | S AH0 T , pau AH1 | T . pau".split())
    voiced = np.array([p.symbol in ("M", "IY", "AH") for p in phonemes])
    duration = rng.integers(1, 40, len(phonemes)).astype(np.int32)
    log_f0 = np.where(voiced, rng.normal(5, 0.3, len(phonemes)), np.nan).astype(np.float32)
    mel = np.zeros((duration.sum(), AUDIO.n_mels), np.float32)
    return Features(
        **store.inventory.encode(phonemes), duration=duration, log_f0=log_f0, voiced=voiced, mel=mel, speaker=1, style=0
    )


def _with(**changes):
    return lambda found: found["phonemes"][1].update(changes)


@pytest.mark.parametrize("change, message", [
    (_with(ms=-20), r"x.json: phoneme 2 \(M\): ms is -20; give more than 0"),
    (_with(ms=10**400), "ms is 10000000000000000000; give"),
    (_with(hz=10**400), "hz is 10000000000000000000, outside"),
    (lambda found: [p.update(ms=1) for p in found["phonemes"]], "10 ms together; 10 phonemes need 116 ms at least"),
    (_with(ms="long"), "phoneme 2: ms is 'long'"),
    (_with(ms=59990), "the phonemes last 6.* s together; at most 60 s"),
    (_with(hz=4), r"phoneme 2 \(M\): hz is 4, outside 20 to 2000"),
    (_with(hz=float("nan")), "hz is nan"),
    (_with(phone="XX"), "x.json: unknown phoneme 'XX'; this corpus has pau, AH"),
    (_with(after="?!"), r"phoneme 2: after is '\?!'; valid are nothing, and | ,"),
    (_with(tone=1), "phoneme 2: must have the fields phone, ms, hz, after, and no others"),
    (lambda found: found["phonemes"][0].update(hz=100.0), "phoneme 1: a pause has no pitch"),
    (lambda found: found.update(speaker="nobody"), "unknown speaker 'nobody'; this corpus has unknown, ann, bob"),
    (lambda found: found.update(tempo=2), "no field tempo; valid are speaker, style, phonemes"),
    (lambda found: found.update(phonemes=[]), "has no list of phonemes"),
])  # fmt: skip
def test_prosody_that_no_one_can_speak_is_named(change, message, store, tmp_path):
    path, spoken = tmp_path / "x.json", drawn(store, 0)
    prosody_file.write(path, spoken, store.inventory, AUDIO)
    prosody_file.read(path, store.inventory, AUDIO)
    change(found := json.loads(path.read_text()))
    path.write_text(json.dumps(found))
    with pytest.raises(UserError, match=message):
        prosody_file.read(path, store.inventory, AUDIO)


def test_prosody_survives_the_file(store, tmp_path):
    for i in range(10):
        spoken = drawn(store, i)
        prosody_file.write(tmp_path / "x.json", spoken, store.inventory, AUDIO)
        found = prosody_file.read(tmp_path / "x.json", store.inventory, AUDIO)
        for name in ("phoneme", "stress", "edge", "punctuation", "duration", "voiced", "speaker", "style"):
            np.testing.assert_array_equal(getattr(found, name), getattr(spoken, name), name)
        np.testing.assert_allclose(found.log_f0, spoken.log_f0, atol=1e-5)


def test_pitch_is_shifted_and_spread_and_pace_kept(store):
    u = store.read([3])[0]
    f0 = u.log_f0[u.voiced]
    np.testing.assert_array_equal(moved(u, 0.0).log_f0, u.log_f0)
    np.testing.assert_allclose(moved(u, 12.0, 0.0).log_f0[u.voiced], f0.mean() + np.log(2), rtol=1e-6)
    np.testing.assert_allclose(moved(u, 0.0, 2.0).log_f0[u.voiced], f0.mean() + 2 * (f0 - f0.mean()), rtol=1e-5)
    np.testing.assert_array_equal(paced(u, 1.0).duration, u.duration)
    assert abs(paced(u, 0.5).duration.sum() - 2 * u.duration.sum()) <= 1


def test_a_recordings_prosody_is_that_of_its_features(pair, tmp_path):
    clip = speech()[0]
    path = tmp_path / "clip.wav"
    soundfile.write(path, clip.wave, clip.rate)
    run = runs.load(pair[1])
    record = extract(Utterance("x", path, clip.text), sound.load(path), Settings(run.audio))
    counts = Counter(p.symbol for p in record.phonemes)
    run = replace(run, inventory=Inventory.build(counts, counts, ["ann"], []))
    found = imitate(path, clip.text, run, Controls())
    np.testing.assert_array_equal(found.duration, record.duration)
    np.testing.assert_array_equal(found.log_f0, record.log_f0)
    assert found.energy is None
    loud = imitate(path, clip.text, replace(run, config=replace(run.config, energy=True)), Controls()).energy
    energy = pool_energy(record.mel, record.duration)
    np.testing.assert_allclose(loud, energy - energy.mean() + run.stats.energy_mean, atol=1e-5)
    assert run.inventory.decode(found.phoneme, found.stress, found.edge, found.punctuation) == record.phonemes
    with pytest.raises(UserError, match="clip.wav: alignment: .*text 'Something else"):
        imitate(path, "Something else altogether was said here, and it was far longer than that. " * 3, run, Controls())


def test_takes_are_what_their_seeds_say(synthesize, tmp_path):
    assert synthesize(PHONES, "--out", tmp_path / "x.wav", "--takes", "2", "--seed", "4")[0] == command.DONE
    assert synthesize(PHONES, "--out", tmp_path / "y.wav", "--seed", "5")[0] == command.DONE
    first, second, alone = ((tmp_path / f"{n}.wav").read_bytes() for n in ("x_1", "x_2", "y"))
    assert second == alone != first


def test_lines_go_on_where_they_stopped(synthesize, tmp_path, monkeypatch):
    monkeypatch.setattr(speaking, "PART", 3)
    phones = ["M", "IY1", "AH0", "S", "T"]
    lines = [f"pau {' '.join(phones[i % 5 :] + phones[: i % 3])} pau" for i in range(8)]
    lines[4] = "pau QQ pau"
    file, whole, out = tmp_path / "lines.txt", tmp_path / "whole", tmp_path / "out"
    file.write_text("\n".join(lines))
    code, said, told = synthesize("--file", file, "--out", whole)
    assert code == command.FAILED and "1 of 8 lines could not be spoken:\nline 5: text 'pau QQ pau'" in told
    names = [f"{i:04d}.wav" for i in (1, 2, 3, 4, 6, 7, 8)]
    assert sorted(p.name for p in whole.glob("*.wav")) == names and said.count(".wav") == 7

    write = files.write

    def killed(spoken, wav, *rest):
        write(spoken, wav, *rest)
        if wav.name == "0002.wav":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(files, "write", killed)
        assert synthesize("--file", file, "--out", out)[0] == command.STOPPED
    assert len(list(out.glob("*.wav"))) == 2
    _, said, _ = synthesize("--file", file, "--out", out)
    assert said.count(".wav") == 5
    assert {n: (out / n).read_bytes() for n in names} == {n: (whole / n).read_bytes() for n in names}
    code, _, told = synthesize("--file", file, "--out", out, "--pace", "2")
    assert code == command.FAILED and "settings.json: pace was 1.0, and is 2.0 now; give another folder" in told
    file.write_text("\n".join(lines[:7]))
    assert "settings.json: the lines were others" in synthesize("--file", file, "--out", out)[2]
    (out / "settings.json").write_text("[]")
    assert "settings.json is damaged" in synthesize("--file", file, "--out", out)[2]
    (out / "settings.json").unlink()
    assert "holds wavs of something else" in synthesize("--file", file, "--out", out)[2]


@pytest.mark.parametrize("arguments, message", [
    (("--pitch", "nan"), "controls.pitch is nan; give -24 to 24"),
    (("--range", "1e30"), "controls.pitch_range is 1e+30; give 0 to 10"),
    (("--pace", "0.00001"), "controls.pace is 1e-05; give 0.1 to 10"),
    (("--seed", "99999999999999999999"), "controls.seed is 99999999999999999999"),
    (("--acoustic-temperature", "1e30"), "controls.acoustic_temperature is 1e+30; give 0 to 10"),
    (("--out", "x.mp3"), "--out x.mp3: name a file that ends in .wav"),
    (("--save-prosody", "x.wav"), "--save-prosody x.wav: name a file that ends in .json"),
    (("--out", "/proc/x.wav"), "/proc/x.wav cannot be written"),
])  # fmt: skip
def test_values_and_files_that_will_not_do_are_told(arguments, message, synthesize, tmp_path):
    code, _, told = synthesize(PHONES, "--out", tmp_path / "x.wav", *arguments)
    assert code == command.FAILED and message in told


def test_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "x.wav")
    with pytest.raises(UserError, match="is there and is not a file"):
        write_wav(tmp_path / "x.wav", np.zeros(10), 22050)


@pytest.mark.parametrize("content, message", [(b"\xff\xfe\x00", "-: not UTF-8"), (b" \n", "-: holds no text")])
def test_standard_input_that_will_not_do_is_told(content, message, synthesize, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    code, _, told = synthesize("--file", "-", "--out", tmp_path / "out")
    assert code == command.FAILED and message in told


@pytest.mark.parametrize("arguments, message", [
    (("--from-prosody", "f", "--speaker", "ann"), "--from-prosody goes without --speaker"),
    ((), "give --prosody RUN and --acoustic RUN, or --joint RUN"),
    (("--joint", "j"), "it goes without --prosody"),
    (("--joint", "j", "--prosody-temperature", "0"), "--joint RUN has one --temperature"),
    (("--temperature", "0"), "--temperature is of a --joint run"),
])  # fmt: skip
def test_models_that_are_needed_are_named(arguments, message, synthesize, tmp_path, capsys):
    text = () if "--from-prosody" in arguments else (PHONES,)
    with pytest.raises(SystemExit, match="2"):
        synthesize(*text, "--out", tmp_path / "x.wav", *arguments, prosody=False)
    assert message in capsys.readouterr().err


@given(st.text("ab ,.;!?", max_size=300), st.integers(1, 60))
def test_pieces_are_the_text_and_short(text, longest):
    found, whole = pieces(text, longest), " ".join(text.split())
    assert re.sub("[^ab]", "", " ".join(found)) == re.sub("[^ab]", "", text)
    assert all(len(p) <= longest or " " not in p for p in found)
    assert len(found) == 1 or all(re.search("[ab]", p) for p in found)
    if len(whole) <= longest:
        assert found == [whole]


def test_pieces_end_where_sentences_do():
    text = "One is here. Two, which is longer, is there! Three?"
    assert pieces(text) == [text]
    assert pieces(text, 32) == ["One is here.", "Two, which is longer, is there!", "Three?"]
    assert pieces("A" * 9 + " ... " + "B" * 9, 10) == ["A" * 9, "B" * 9]
    assert pieces(text, 25) == ["One is here.", "Two, which is longer,", "is there! Three?"]


def test_a_long_text_goes_to_a_pipe_piece_by_piece(pair, monkeypatch, capsysbinary, tmp_path):
    models = ["--prosody", pair[0], "--acoustic", pair[1], "--vocoder", "griffin_lim", "--speaker", "ann"]
    text = "Me, see a tea. " * 20
    for out in ("-", tmp_path / "x.wav"):
        monkeypatch.setattr(sys, "argv", ["tts-gen", "synthesize", text, "--out", str(out), *map(str, models)])
        assert cli.main() == command.DONE
        if out == "-":
            piped = capsysbinary.readouterr().out
    header, data = piped[:44], np.frombuffer(piped[44:], "<i2")
    assert header[:4] == b"RIFF" and header[40:] == b"\xff" * 4
    wave, rate = soundfile.read(io.BytesIO(piped), dtype="int16")
    np.testing.assert_array_equal(wave, data)
    assert rate == AUDIO.sample_rate and len(data) == len(soundfile.read(tmp_path / "x.wav")[0])
