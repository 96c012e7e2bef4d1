"""Joint runs: text front ends, durations and frames, speech by the command, evaluation beside other runs."""

import json
from dataclasses import replace
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from joints import BINS, random_state, write_checkpoint
from models import AUDIO, make_store, randomised, small_config

from tts_gen import cli, command, doors, fit, flat, joint, runs, synthesis, tasks
from tts_gen.batches import TrainingBatches
from tts_gen.checkpoint import Checkpoints
from tts_gen.config import UserError
from tts_gen.convert.symbols import ARPABET, IPA
from tts_gen.convert.to_run import convert
from tts_gen.evaluation import generate
from tts_gen.evaluation.split import Split
from tts_gen.front_end import FrontEnd
from tts_gen.synthesis import Controls

KEY = jax.random.key(0)
TEXTS = ["Hello there.", "A much longer sentence, of two parts.", "No."]


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A run of each port, of random weights."""
    root = tmp_path_factory.mktemp("joint")
    for name in ("glow_tts", "grad_tts", "matcha_tts"):
        convert(name, write_checkpoint(root / f"{name}.pth", random_state(name), name), root / name)
    return root


@pytest.fixture(scope="module")
def loaded(converted):
    return {name: runs.load(converted / name) for name in ("glow_tts", "grad_tts", "matcha_tts")}


@pytest.fixture
def glow(loaded):
    return loaded["glow_tts"]


def written(front_end: FrontEnd, text: str) -> str:
    ids = front_end.encode(text)
    return " ".join(front_end.symbols[i] for i in (ids if front_end.blank is None else ids[1::2]))


def test_words_of_the_dictionary_and_words_with_punctuation():
    front_end = FrontEnd("arpabet", ARPABET)
    assert written(front_end, "Dr. Xyzzq paid $2!") == (
        "@D @AA1 @K @T @ER0   x y z z q   @P @EY1 @D   @T @UW1   d o l l a r s !"
    )
    assert written(replace(front_end, kind="letters"), "The cat.") == "t h e   c a t ."


def test_espeaks_ipa_between_marks():
    assert written(FrontEnd("ipa", IPA, 0), "Hello, world!") == "h ə l ˈ o ʊ ,   w ˈ ɜ ː l d !"


def test_blanks_stand_around_every_symbol():
    ids = FrontEnd("letters", ("a", "b", " "), 7).encode("Ab ba")
    assert ids.tolist() == [7, 0, 7, 1, 7, 2, 7, 1, 7, 0, 7]


def test_texts_that_cannot_be_said():
    front_end = FrontEnd("letters", ("a", "b", " "))
    for text, message in (
        ("A big cab", r"'A big cab': this model's 3 symbols lack 'c' 'g' 'i'"),
        ("...", "nothing to say"),
        ("Привет", "text 'Привет': cannot say the character"),
    ):
        with pytest.raises(UserError, match=message):
            front_end.encode(text)


def test_speakers_are_named():
    several, single = FrontEnd("ipa", IPA, 0, ("0", "1")), FrontEnd("ipa", IPA, 0)
    assert several.speaker_id("1") == 1 and single.speaker_id(None) == 0
    for front_end, name, message in (
        (several, None, "several speakers; name one .* of 0, 1"),
        (several, "ann", "no speaker 'ann' .* of 0, 1"),
        (single, "ann", "a single speaker; give none"),
    ):
        with pytest.raises(UserError, match=message):
            front_end.speaker_id(name)


@pytest.mark.parametrize("name", ["glow_tts", "grad_tts", "matcha_tts"])
def test_every_port_speaks(loaded, name):
    run = loaded[name]
    still, louder = (run.sample([run.front_end.encode("No.")], [0], KEY, t)[0] for t in (0.0, 1.0))
    assert still.shape == louder.shape and still.shape[1] == BINS and len(still) >= 2
    assert np.isfinite(still).all() and not np.array_equal(still, louder)
    assert run._decode.func._cache_size() == 1


def test_matcha_mels_are_in_nats(loaded):
    """Its decoder's mel is normalised by one mean and one standard deviation."""
    run = loaded["matcha_tts"]
    plain = replace(run, config=replace(run.config, mel_mean=0.0, mel_std=1.0))
    plain = replace(plain, task=plain.config.build(BINS))
    a, b = (r.sample([run.front_end.encode("No.")], [0], KEY, 0.0)[0] for r in (run, plain))
    np.testing.assert_allclose(a, b * run.config.mel_std + run.config.mel_mean, atol=1e-5)


def test_a_sentence_sounds_alike_in_every_batch(glow):
    sentences = [glow.front_end.encode(text) for text in TEXTS]
    together = glow.sample(sentences, [0] * 3, KEY, 0.0)
    for sentence, mel in zip(sentences, together, strict=True):
        np.testing.assert_allclose(glow.sample([sentence], [0], KEY, 0.0)[0], mel, atol=1e-4)
    assert len(together[1]) > len(together[0]) > len(together[2])


def test_frames_follow_durations_and_pace(glow):
    sentence = glow.front_end.encode("Hello there.")
    counts = {}
    for pace in (0.25, 0.5, 1.0):
        (mel,) = glow.sample([sentence], [0], KEY, 0.0, pace)
        _, _, frames = glow._encode(sentence[None], np.array([len(sentence)]), np.zeros(1, int), 1 / pace)
        counts[pace] = int(np.sum(frames))
        assert len(mel) == counts[pace] // 2 * 2  # whole squeezed positions
    assert counts[0.25] > 1.5 * counts[0.5] > 2 * counts[1.0] >= 2 * len(sentence)


def test_speakers_differ(loaded):
    run = loaded["grad_tts"]
    first, second = (run.sample([run.front_end.encode("No.")], [speaker], KEY, 0.0)[0] for speaker in (0, 1))
    assert np.abs(first - second).max() > 1e-3


def test_absurd_durations_are_an_error():
    def encode(symbols, length, speaker, scale):
        mean = np.zeros((*symbols.shape, BINS), np.float32)
        return mean, mean, np.full(symbols.shape, joint.MAX_FRAMES)

    with pytest.raises(
        UserError, match=f"gives a sentence {3 * joint.MAX_FRAMES} frames, where 1 to {joint.MAX_FRAMES}"
    ):
        joint.sample(encode, None, [np.arange(3)], [0], KEY, 0.0)


def test_values_that_are_not_finite_are_an_error():
    def encode(symbols, length, speaker, scale):
        mean = np.full((*symbols.shape, BINS), np.nan, np.float32)
        return mean, mean, np.ones(symbols.shape, np.int32)

    with pytest.raises(UserError, match="not finite; look at the checkpoint"):
        joint.sample(encode, None, [np.arange(3)], [0], KEY, 0.0)


def test_a_damaged_run_is_noticed(converted, tmp_path):
    run = tmp_path / "run"
    convert("glow_tts", converted / "glow_tts.pth", run)
    largest = max((run / "checkpoints").rglob("d/*"), key=lambda f: f.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(UserError, match="checkpoints/0 (is damaged|cannot be read)"):
        runs.load(run)
    values = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps(values | {"symbol": 3}))
    with pytest.raises(UserError, match="Joint has no symbol; valid names are decoder, encoder, symbols"):
        runs.load(run)


def speak(monkeypatch, *arguments) -> int:
    monkeypatch.setattr("sys.argv", ["tts-gen", "synthesize", *map(str, arguments)])
    return cli.main()


def test_the_command_speaks(converted, tmp_path, monkeypatch, capsys, caplog):
    import soundfile

    out = tmp_path / "x.wav"
    assert speak(monkeypatch, "Hello there.", "--joint", converted / "glow_tts", "--out", out) == command.DONE
    wave, rate = soundfile.read(out)
    assert rate == 22050 and len(wave) % 256 == 0 and len(wave) > 0
    assert "Griffin-Lim" in caplog.text  # HiFi-GAN reads 80 bins
    for wrong, message in (
        (["--speaker", "3"], "a single speaker; give none"),
        (["--pitch", "2"], "a joint run, which has no pitch"),
        (["--vocoder", "hifigan"], "n_mels"),
    ):
        arguments = ["No.", "--joint", converted / "glow_tts", "--out", tmp_path / "y.wav", *wrong]
        assert speak(monkeypatch, *arguments) == command.FAILED
        assert message in capsys.readouterr().err
    for wrong in (["--joint", "a", "--prosody", "b"], ["--acoustic", "b"], []):
        with pytest.raises(SystemExit, match="2"):
            speak(monkeypatch, "No.", "--out", tmp_path / "y.wav", *wrong)
    assert not (tmp_path / "y.wav").exists()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"), train=8, held_out=4)


@pytest.fixture(scope="module")
def acoustic(store, tmp_path_factory):
    """An L1 run of random weights."""
    run = tmp_path_factory.mktemp("acoustic_l1")
    config = small_config("acoustic", "regression", store.root)
    config = replace(config, decoder=replace(config.decoder, loss="l1"))
    batch = TrainingBatches(store, config)[0]
    task = tasks.build(config, store.inventory, store.stats)
    shapes = jax.eval_shape(lambda b: task.init(KEY, b, KEY, False, method="loss")["params"], batch)
    params = randomised(jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes))
    fit.write_run(config, run, store)
    (run / "metrics.jsonl").write_text("")
    with Checkpoints(run) as checkpoints:
        checkpoints.save(1, {"ema": flat.flatten(params)}, flat.layout(params), {"val_loss": 0.0})
    return run


def test_a_joint_run_is_evaluated_beside_others(converted, acoustic, store, tmp_path):
    arguments = [str(converted / "glow_tts"), str(acoustic), "--out", str(tmp_path), "--temperatures", "0,1"]
    assert doors.evaluate(arguments) == command.DONE
    rows = json.loads((tmp_path / "summary.json").read_text())
    found = [r for r in rows if r["task"] == "joint"]
    families = {r["family"] for r in rows if not r["family"].startswith("control:")}
    assert {r["family"] for r in found} == {"flow", "floor"} and families == {"flow", "l1", "floor"}
    flow = [r for r in found if r["family"] == "flow"]
    assert {r["temperature"] for r in flow} == {0.0, 1.0} and {r["feature"] for r in flow} == {"mel"}
    l1 = [r for r in flow if r["metric"] == "mel_l1"]
    assert all(r["value"] is None and "durations of its own" in r["why"] for r in l1)
    others = [r for r in flow if r["metric"] != "mel_l1"]
    ratios = {"std_ratio", "d_time_std_ratio", "d_frequency_std_ratio", "gv_ratio"}
    assert {r["metric"] for r in others} == ratios | {"js", "js_half", "modulation_distance", "mcd_dtw"}
    assert all(r["value"] is not None or (r["metric"] == "modulation_distance" and r["why"]) for r in others)
    assert "From the text alone" in (tmp_path / "report.html").read_text()


def test_joint_runs_alone_need_features(converted, store, tmp_path):
    arguments = [str(converted / "glow_tts"), "--out", str(tmp_path), "--temperatures", "0"]
    with pytest.raises(UserError, match="name those to evaluate on with --features"):
        doors._evaluate(arguments)
    assert doors.evaluate([*arguments, "--features", str(store.root)]) == command.DONE


def test_other_mels_and_texts_are_refused(converted, store, tmp_path, capsys):
    other = make_store(tmp_path / "other", train=8, held_out=4, audio=replace(AUDIO, fmax=7000.0))
    out = ["--out", str(tmp_path), "--temperatures", "0", "--features"]
    assert doors.evaluate([str(converted / "glow_tts"), *out, str(other.root)]) == command.FAILED
    assert "fmax is 7000.0" in capsys.readouterr().err
    run = converted / "cut"
    path = write_checkpoint(tmp_path / "cut.pth", random_state("glow_tts", n_vocab=30))
    convert("glow_tts", path, run)
    assert doors.evaluate([str(run), *out, str(store.root)]) == command.FAILED
    assert "no val utterance is left: val0 cannot be said by" in capsys.readouterr().err


def test_texts_that_a_run_cannot_say_are_left_out_and_counted(converted, store, caplog):
    run = runs.load(converted / "glow_tts")
    split = Split.read(store, "val")
    strange = {split.positions[0], split.positions[2]}
    index = [replace(e, text="☃") if i in strange else e for i, e in enumerate(store.index)]
    kept = generate.sayable([run], SimpleNamespace(index=index), split)
    assert set(kept.positions) == set(split.positions) - strange and len(kept.utterances) == len(kept.positions)
    assert f"2 of {len(split.positions)} val utterances are left out, first val0 cannot be said" in caplog.text


def test_runs_of_other_tasks_are_refused(glow, acoustic):
    native = runs.load(acoustic)
    with pytest.raises(UserError, match="is a run of the acoustic task; give a joint run"):
        synthesis.speak_joint(["No."], native)
    with pytest.raises(UserError, match="is a run of the joint task; give a prosody run"):
        synthesis.speak(["No."], glow, native)
    with pytest.raises(UserError, match="which has no style"):
        synthesis.speak_joint(["No."], glow, Controls(style="calm"))
