"""The whole path on synthetic speech: corpus, features, four tiny models, evaluation, report, text to speech."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from models import write_untrained

from tts_gen import command, doors, runs, synthesis
from tts_gen.config import UserError
from tts_gen.corpora import espeak
from tts_gen.evaluation import compare
from tts_gen.evaluation.comparison import open_comparison
from tts_gen.features.prepare import prepare
from tts_gen.features.store import FeatureStore
from tts_gen.vocoders import load

ROOT = Path(__file__).parents[1]
TINY = ["--encoder.width", "16", "--encoder.conv-layers", "1", "--encoder.layers", "1", "--train.warmup", "2"]
DECODERS = {
    "prosody_l2": ["--decoder.width", "16", "--decoder.layers", "1"],
    "prosody_flow": ["--decoder.width", "16", "--decoder.layers", "1", "--decoder.steps", "2"],
    "acoustic_l1": ["--decoder.width", "16", "--decoder.layers", "1"],
    "acoustic_diffusion": ["--decoder.widths", "16,16,16", "--decoder.solver-steps", "3"],
}


@pytest.fixture(scope="module")
def features(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("espeak")
    manifest = espeak.build(root / "data", count=36)
    assert prepare(manifest, root / "features").kept >= 30
    return root / "features"


@pytest.fixture(scope="module")
def trained(features) -> dict[str, Path]:
    """A run of each config in DECODERS: one of a few steps, the others untrained."""
    found, store = {}, FeatureStore(features)
    for name, decoder in DECODERS.items():
        found[name] = features.parent / name
        arguments = [str(ROOT / f"configs/{name}.py"), "--workdir", str(found[name]), "--data.features", str(features)]
        arguments += ["--data.buckets", "128", "--data.batch-size", "1024", "--train.steps", "6", *TINY, *decoder]
        if name == "acoustic_l1":
            assert doors.train(arguments) == command.DONE
        else:
            write_untrained(doors.read_training(arguments).config, store, found[name])
    return found


@pytest.fixture(scope="module")
def evaluated(trained, features) -> Path:
    out = features.parent / "out"
    arguments = [*map(str, trained.values()), "--out", str(out), "--temperatures", "0,1", "--samples", "2"]
    assert doors.evaluate([*arguments, "--vocoder", "griffin_lim", "--wavs", "2"]) == command.DONE
    return out


def test_rows_cover_every_run_control_and_floor(evaluated):
    rows = json.loads((evaluated / "summary.json").read_text())
    # One test utterance: there is no other to make control:other_utterance of.
    assert {r["family"] for r in rows if r["task"] == "prosody"} == {
        "l2", "flow", "floor", "control:l2+noise", "control:l2+ar_noise", "control:l2_rescaled", "control:shuffled",
    }  # fmt: skip
    assert {r["family"] for r in rows if r["task"] == "acoustic"} == {
        "l1", "diffusion", "floor", "control:l1+noise", "control:l1+ar_noise", "control:l1_rescaled",
        "control:shuffled",
    }  # fmt: skip
    assert {r["temperature"] for r in rows if r["family"] in ("flow", "diffusion")} == {0.0, 1.0, None}
    assert {r["split"] for r in rows} == {"val", "test"}
    assert [r["scope"] == "overall" for r in rows] == sorted((r["scope"] == "overall" for r in rows), reverse=True)
    tested = [r for r in rows if r["metric"] == "two_sample_accuracy"]
    assert {r["split"] for r in tested} == {"test"} and len({r["family"] for r in tested}) == 7
    bits = {r["family"]: r for r in rows if r["metric"] == "bits_per_dim"}
    assert all(np.isfinite(bits[f]["value"]) for f in ("l2", "flow", "l1")) and bits["diffusion"]["why"]


def test_spread_grows_with_temperature(evaluated):
    rows = json.loads((evaluated / "summary.json").read_text())
    ratio = {
        r["temperature"]: r["value"]
        for r in rows
        if (r["family"], r["feature"], r["metric"], r["split"], r["scope"])
        == ("flow", "log_f0", "std_ratio", "test", "overall")
    }
    assert ratio[0.0] < ratio[1.0]


def test_report_holds_pictures_and_sound(evaluated):
    page = (evaluated / "report.html").read_text()
    assert page.count("data:image/png") >= 7 and page.count("data:audio/flac") >= 3
    assert "http://" not in page and "https://" not in page


def test_tests_and_diagnosis_are_written(evaluated):
    """Of one test utterance, which is one group: nothing can be compared, and that is what they say."""
    page = (evaluated / "report.html").read_text()
    assert "Diagnosis" in page and "What differs significantly" in page
    with open(evaluated / "significance.csv", newline="") as file:
        tests = list(csv.DictReader(file))
    assert len(tests) > 20 and all(t["why"] and not t["p"] for t in tests)
    assert "Holm" in (evaluated / "significance.md").read_text()
    assert "tabular" in (evaluated / "significance.tex").read_text()
    rows = json.loads((evaluated / "summary.json").read_text())
    coverage = [r for r in rows if r["metric"] == "coverage"]
    assert {r["family"] for r in coverage} >= {"l2", "flow", "l1", "diffusion", "floor", "control:shuffled"}
    assert all(r["value"] is None and "two groups" in r["why"] for r in coverage)


def test_wavs_have_equal_names_in_a_folder_a_system(evaluated):
    texts = [line.split("|") for line in (evaluated / "wavs/texts.txt").read_text().splitlines()]
    for system in ("recordings", "vocoded", "acoustic_l1", "acoustic_diffusion"):
        wavs = {path.stem: soundfile.info(path) for path in (evaluated / "wavs" / system).iterdir()}
        assert sorted(wavs) == sorted(name for name, _ in texts) and all(text for _, text in texts)
        assert all(info.samplerate == 22050 and info.duration > 0.3 for info in wavs.values())


def test_a_second_evaluation_samples_nothing_anew(evaluated, trained, features):
    before = {path: path.stat().st_mtime_ns for path in (evaluated / "samples").iterdir()}
    old = json.loads((evaluated / "summary.json").read_text())
    again = open_comparison(list(trained.values()), evaluated, (0.0, 1.0), 2, "test", 0)
    rows, _ = compare.compare(again)
    assert {path: path.stat().st_mtime_ns for path in (evaluated / "samples").iterdir()} == before
    assert sorted(map(json.dumps, json.loads((evaluated / "summary.json").read_text()))) == sorted(map(json.dumps, old))


def speak(trained, text, **controls):
    pair = runs.load(trained["prosody_flow"]), runs.load(trained["acoustic_l1"])
    speaker = pair[0].inventory.speakers[1]
    return synthesis.speak([text], *pair, synthesis.Controls(speaker=speaker, **controls)), pair


def test_a_run_on_espeak_speech_reads_text_by_espeak(trained):
    (spoken,), _ = speak(trained, "The train is late.")
    assert spoken.mel.shape == (spoken.features.duration.sum(), 80) and np.isfinite(spoken.mel).all()


def test_text_that_cannot_be_spoken_is_named(trained, monkeypatch):
    for wrong in ("", "!!!", "Привет"):
        with pytest.raises(UserError, match="text "):
            speak(trained, wrong)
    monkeypatch.setattr(synthesis, "ARPABET_VOWELS", set(runs.load(trained["prosody_flow"]).inventory.phonemes))
    with pytest.raises(UserError, match="text 'Hello.': unknown phoneme 'HH'; this corpus has"):
        speak(trained, "Hello.")


def test_wrong_pairs_and_labels_are_refused(trained):
    prosody, acoustic = runs.load(trained["prosody_flow"]), runs.load(trained["acoustic_l1"])
    with pytest.raises(UserError, match="run of the acoustic task"):
        synthesis.speak(["a"], acoustic, prosody)
    with pytest.raises(UserError, match="name one with --speaker"):
        synthesis.speak(["a"], prosody, acoustic)
    with pytest.raises(UserError, match="unknown speaker 'nobody'"):
        synthesis.speak(["a"], prosody, acoustic, synthesis.Controls(speaker="nobody"))


def test_generated_prosody_and_mel_fit_together(trained, monkeypatch):
    known = runs.load(trained["prosody_flow"]).inventory.phonemes
    from tts_gen import text

    sentence = [text.Phoneme(s, edge=3) for s in known[:9]] * 3
    monkeypatch.setattr(synthesis, "_phonemes", lambda sentence_, run, controls: sentence)
    (slow,), pair = speak(trained, "x", prosody_temperature=0.0)
    (fast,), _ = speak(trained, "x", prosody_temperature=0.0, pace=2.0, pitch=12.0)
    assert slow.mel.shape == (slow.features.duration.sum(), 80) and np.isfinite(slow.mel).all()
    assert len(fast.mel) < 0.7 * len(slow.mel)
    voiced = slow.features.voiced
    np.testing.assert_allclose((fast.features.log_f0 - slow.features.log_f0)[voiced], np.log(2), atol=1e-5)
    (again,), _ = speak(trained, "x", prosody_temperature=0.0)
    np.testing.assert_array_equal(again.mel, slow.mel)
    wave = load("griffin_lim", pair[1].audio)(slow.mel)
    assert len(wave) == len(slow.mel) * 256


def test_commands_fail_with_a_message_for_people(features, trained, capsys, tmp_path):
    config = str(ROOT / "configs/prosody_l2.py")
    assert doors.train([config, "--workdir", str(tmp_path / "x")]) == command.FAILED
    assert "data.features is empty" in capsys.readouterr().err
    assert doors.train([config, "--workdir", str(tmp_path / "x"), "--data.features", str(tmp_path)]) == command.FAILED
    assert "not a feature store" in capsys.readouterr().err
    assert doors.evaluate([str(tmp_path / "none"), "--out", str(tmp_path / "o")]) == command.FAILED
    assert "not a run directory" in capsys.readouterr().err
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for name in ("config.json", "audio.json", "stats.json", "inventory.json"):
        (unfinished / name).write_bytes((trained["prosody_l2"] / name).read_bytes())
    assert doors.evaluate([str(unfinished), "--out", str(tmp_path / "o")]) == command.FAILED
    assert "holds no checkpoint" in capsys.readouterr().err
    moved = shutil.copytree(trained["prosody_l2"], tmp_path / "moved")
    values = json.loads((moved / "config.json").read_text())
    values["data"]["features"] = "data/features"
    (moved / "config.json").write_text(json.dumps(values))
    assert doors.evaluate([str(moved), "--out", str(tmp_path / "o")]) == command.FAILED
    assert "trained on the features data/features, which are not there" in capsys.readouterr().err
    for wrong in (["--temperatures", "abc"], ["--temperatures=-1"], ["--samples", "0"], ["--solver", "dpm"]):
        with pytest.raises(SystemExit, match="2"):
            doors.evaluate(["x", "--out", "y", *wrong])
