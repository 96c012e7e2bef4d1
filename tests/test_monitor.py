"""Samples of held-out utterances during training: figures, pictures and sound of them."""

import functools
import io
import json
import logging
import struct
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from models import AUDIO, make_store, randomised, small_config
from PIL import Image
from tensorboardX.proto.event_pb2 import Event

from tts_gen import fit, tasks
from tts_gen.batches import TrainingBatches
from tts_gen.config import UserError
from tts_gen.decoders import DECODERS
from tts_gen.evaluation import monitor
from tts_gen.evaluation.monitor import Monitor
from tts_gen.evaluation.split import Split
from tts_gen.features.store import Features, FeatureStore
from tts_gen.writer import Writer

KEY = jax.random.key(0)
PROSODY = [f"sample_{m}_{f}" for f in ("log_f0", "duration") for m in ("std_ratio", "js")]
NAMES = {"prosody": PROSODY, "acoustic": ["sample_std_ratio_mel", "sample_js_mel"]}


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path, 0, 10)
    yield writer
    writer.close()


def small_model(task: str, family: str, store: FeatureStore):
    """Config, task, and variables away from their start."""
    config = small_config(task, family, store.root)
    model = tasks.build(config, store.inventory, store.stats)
    batch = TrainingBatches(store, config)[0]
    shapes = jax.eval_shape(lambda b: model.init(KEY, b, KEY, False, method="loss")["params"], batch)
    return config, model, {"params": randomised(jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes))}


def shown(run) -> dict[str, list]:
    """Pictures and sound in a run's TensorBoard file: name -> of each step."""
    (path,) = (run / "tensorboard").iterdir()
    data, at, found = path.read_bytes(), 0, {}
    while at < len(data):
        (size,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + size])
        at += size + 16
        for value in event.summary.value:
            if value.HasField("image"):
                found.setdefault(value.tag, []).append(Image.open(io.BytesIO(value.image.encoded_image_string)))
            elif value.HasField("audio"):
                wave, rate = soundfile.read(io.BytesIO(value.audio.encoded_audio_string))
                assert rate == AUDIO.sample_rate
                found.setdefault(value.tag, []).append(wave)
    return found


class Imitation:
    """Stands for a task whose samples are `of(batch)`."""

    def __init__(self, of):
        self.of = of

    def apply(self, variables, batch, rng, temperature, method):
        return self.of(batch)


def true_prosody(store: FeatureStore):
    stats = store.stats
    return lambda b: jnp.stack([b["log_f0"], stats.normalise_log_duration(jnp.log(b["duration"] + 0.5))], -1)


# Figures


@pytest.mark.parametrize("task, family", list(zip(2 * ["prosody", "acoustic"], DECODERS)))
def test_figures_follow_the_parameters_alone_and_compile_once(task, family, store, writer, monkeypatch):
    monkeypatch.setattr(monitor, "SHOWN", 1)  # pictures take most of the time
    config, model, variables = small_model(task, family, store)
    look = Monitor(config)
    first = look(model, variables, 5, writer)
    assert list(first) == NAMES[task]
    assert all(np.isfinite(value) and value > 0 for value in first.values())

    compiled = []
    listen = lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        assert look(model, variables, 10, writer) == first
        assert look(model, {"params": randomised(variables["params"], seed=1)}, 15, writer) != first
    finally:
        jax.monitoring.clear_event_listeners()
    assert not compiled
    assert {d.id for leaf in jax.tree.leaves(look.batch) for d in leaf.devices()} == {0} and len(jax.devices()) == 4


def test_samples_equal_to_the_recordings_have_their_spread_and_distribution(store, tmp_path):
    inactive = Writer(tmp_path, 0, 10, active=False)
    for task, of in (("prosody", true_prosody(store)), ("acoustic", lambda b: b["mel"])):
        found = Monitor(small_config(task, features=store.root))(Imitation(of), {}, 5, inactive)
        for name, value in found.items():
            assert value == pytest.approx(float("std_ratio" in name), abs=1e-3), name
        assert list(found) == NAMES[task]
    assert not list(tmp_path.iterdir())


def test_half_as_varied_samples_have_half_the_spread(store, writer):
    config = small_config("acoustic", features=store.root)
    found = Monitor(config)(Imitation(lambda b: b["mel"] / 2), {}, 5, writer)
    assert found["sample_std_ratio_mel"] == pytest.approx(0.5, abs=1e-3) and 0 < found["sample_js_mel"] < 1


@pytest.mark.parametrize("task", ["prosody", "acoustic"])
def test_what_is_not_finite_is_left_out(task, store, writer):
    lost = lambda b: jnp.full((*b["phoneme" if task == "prosody" else "mel"].shape[:2], 8), jnp.nan)  # noqa: E731
    of = (lambda b: lost(b)[..., :2]) if task == "prosody" else lost
    assert Monitor(small_config(task, features=store.root))(Imitation(of), {}, 5, writer) == {}
    writer.close()
    sound = [name for name in shown(writer.run) if name.startswith("griffin_lim")]
    assert len(sound) == (task == "acoustic") and not any("sample" in name for name in sound)


class Silent(Split):
    """A split without a voiced phoneme."""

    @property
    def utterances(self) -> list[Features]:
        given = list(super().utterances)
        return [replace(u, log_f0=u.log_f0 * np.nan, voiced=np.zeros_like(u.voiced)) for u in given]


def test_utterances_without_voice_have_no_figure_of_f0(store, writer):
    look = Monitor(small_config(features=store.root))
    truth = Imitation(true_prosody(store))
    look._prepare(truth, writer.run)
    look.split = Silent(**vars(look.split))
    assert list(look(truth, {}, 5, writer)) == PROSODY[2:]


def test_a_lack_of_memory_costs_the_samples_alone(store, writer, caplog):
    def full(batch):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: out of memory\nwhile allocating")

    with caplog.at_level(logging.WARNING):
        assert Monitor(small_config(features=store.root))(Imitation(full), {}, 5, writer) == {}
    assert caplog.messages == ["step 5: no samples (RESOURCE_EXHAUSTED: out of memory)"]


# Utterances


def lengths(store: FeatureStore, name: str, positions) -> list[int]:
    return [getattr(store.index[p], name) for p in positions]


@pytest.mark.parametrize("task, length", [("prosody", "n_phonemes"), ("acoustic", "n_frames")])
def test_utterances_are_spread_over_all_but_the_longest(task, length, tmp_path):
    store = make_store(tmp_path, train=3, held_out=60, longest=40)
    chosen = monitor._chosen(store, task)
    found, every = lengths(store, length, chosen.positions), sorted(lengths(store, length, store.split("val")))
    assert len(found) == 8 and found == sorted(found) and set(chosen.positions) <= set(store.split("val"))
    assert found[0] == every[0] and found[-1] == every[round(0.8 * 60) - 1] < every[-1]
    assert np.max(np.diff(found)) < (every[-1] - every[0]) / 2
    np.testing.assert_array_equal(monitor._chosen(store, task).positions, chosen.positions)


def test_a_small_split_is_taken_whole(tmp_path):
    store = make_store(tmp_path, train=3, held_out=3)
    assert sorted(monitor._chosen(store, "prosody").positions) == sorted(store.split("val"))


def test_damaged_utterances_are_left_out(tmp_path, monkeypatch, caplog):
    store = make_store(tmp_path, train=3, held_out=3)
    read, (bad, *good) = store.read, store.split("val")

    def damaged(positions, bad=(bad,)):
        if positions[0] in bad:
            raise UserError(f"utterance {store.index[positions[0]].id}: damaged record")
        return read(positions)

    monkeypatch.setattr(store, "read", damaged)
    assert sorted(monitor._chosen(store, "prosody").positions) == good
    assert f"{store.index[bad].id}: damaged record; left out, training goes on without it" in caplog.text
    monkeypatch.setattr(store, "read", functools.partial(damaged, bad=store.split("val")))
    with pytest.raises(UserError, match="none of the val utterances"):
        monitor._chosen(store, "prosody")


# TensorBoard


def test_pictures_and_sound_are_in_the_event_file(store, tmp_path):
    for task, of in (("prosody", true_prosody(store)), ("acoustic", lambda b: b["mel"])):
        writer = Writer(tmp_path / task, 0, 10)
        look = Monitor(small_config(task, features=store.root))
        for step in (5, 10):
            look(Imitation(of), {}, step, writer)
        writer.close()
    curves, found = shown(tmp_path / "prosody"), shown(tmp_path / "acoustic")
    mels = {name: pictures for name, pictures in found.items() if name.startswith("mel/")}
    for pictures in (curves, mels):
        assert len(pictures) == 3 and all(len(of_step) == 2 for of_step in pictures.values())
    assert all(name.startswith("f0/val") for name in curves)
    # The two mels, here the same, are drawn alike.
    picture = np.asarray(mels[min(mels)][0]).astype(int)
    halves = [picture[: len(picture) // 2], picture[len(picture) // 2 :]]
    dark = [np.count_nonzero(half.sum(2) < 300) for half in halves]
    assert picture.shape[1] == 1200 and dark[0] == pytest.approx(dark[1], rel=0.1) and dark[0] > 10_000
    sound = {name: waves for name, waves in found.items() if name not in mels}
    (sample, recording) = (sound[name] for name in sorted(sound, reverse=True))
    assert sorted(name.partition("/")[0] for name in sound) == ["griffin_lim_recording", "griffin_lim_sample"]
    assert len(sample) == 2 and 0 < len(sample[0]) <= 4 * AUDIO.sample_rate
    # Sample by sample they may part: iteration enlarges what rounding does, most in mels that no wave has.
    assert np.abs(sample[0] - recording[0]).mean() < 0.02 * np.abs(recording[0]).mean()


def test_sound_lasts_four_seconds_at_most(tmp_path):
    long = make_store(tmp_path / "store", train=3, held_out=9, longest=130)
    writer = Writer(tmp_path, 0, 10)
    Monitor(small_config("acoustic", features=long.root))(Imitation(lambda b: b["mel"]), {}, 5, writer)
    writer.close()
    waves = [of[0] for name, of in shown(tmp_path).items() if name.startswith("griffin_lim")]
    assert len(waves) == 2 and all(3.9 < len(wave) / AUDIO.sample_rate <= 4 for wave in waves)


# A whole training


@pytest.mark.parametrize("task", ["prosody", "acoustic"])
def test_a_training_logs_the_figures_of_its_samples(task, store, tmp_path):
    config = small_config(task, features=store.root, sample_every=5, save_every=10)
    fit.train(config, tmp_path, Monitor(config))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    of_step = {line["step"]: [name for name in line if name.startswith("sample_")] for line in lines}
    assert of_step == {step: NAMES[task] if step in (5, 10) else [] for step in range(1, 11)}
    assert lines[4][NAMES[task][0]] != lines[9][NAMES[task][0]]
    assert all(len(of) == 2 for of in shown(tmp_path).values())
