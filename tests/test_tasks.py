"""Tasks: what must not leak does not, units are right, and every family trains in both tasks."""

import itertools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import away_from_start, mean_loss, randomised, small_config
from scipy import integrate, stats

from tts_gen import tasks
from tts_gen.batches import acoustic_batch, prosody_batch, whole
from tts_gen.config import UserError
from tts_gen.decoders import DECODERS
from tts_gen.encoder import repeat_to_frames

KEY = jax.random.key(0)


def make_batch(store, task: str, rows: int = 4, positions: int = 16, frames: int = 96) -> dict:
    utterances = store.read(store.split("train")[:rows])
    if task == "prosody":
        return prosody_batch(utterances, store.stats, positions)
    return acoustic_batch([whole(u, store.stats) for u in utterances], store.stats, positions, frames)


class Built:
    """A small task with randomised parameters and jitted methods."""

    def __init__(self, store, task: str, family: str = "regression", scale: float = 0.1):
        self.task = tasks.build(small_config(task, family), store.inventory, store.stats)
        self.batch = make_batch(store, task)
        init = lambda batch: self.task.init(KEY, batch, KEY, False, method="loss")  # noqa: E731
        if scale:
            self.variables = away_from_start(init, self.batch, scale=scale)
        else:
            self.variables = jax.jit(init)(self.batch)
        self.loss = jax.jit(lambda batch, rng: self.task.apply(self.variables, batch, rng, False, method="loss"))
        self.sample = jax.jit(lambda batch, rng: self.task.apply(self.variables, batch, rng, 1.0, method="sample"))
        self.log_prob = jax.jit(lambda batch, rng: self.task.apply(self.variables, batch, rng, method="log_prob"))
        self.mean_loss = lambda variables, batch: mean_loss(self.task, variables, batch, KEY, True)


@pytest.fixture(scope="module", params=["prosody", "acoustic"])
def built(request, store):
    return Built(store, request.param)


@pytest.fixture(scope="module")
def prosody(store):
    return Built(store, "prosody")


def valid(batch: dict, key: str = "length") -> np.ndarray:
    length = batch.get("frames", batch["length"]) if key == "frames" else batch["length"]
    width = batch["mel"].shape[1] if key == "frames" and "mel" in batch else batch["phoneme"].shape[1]
    return np.arange(width) < length[:, None]


@pytest.mark.parametrize("family, task", list(zip(DECODERS, itertools.cycle(["acoustic", "prosody"]))))
def test_every_family_trains(store, family, task):
    model = Built(store, task, family, scale=0.0)
    step = jax.jit(jax.value_and_grad(model.mean_loss))
    variables, losses = model.variables, []
    for _ in range(8):
        loss, gradient = step(variables, model.batch)
        variables = jax.tree.map(lambda p, g: p - 0.03 * g, variables, gradient)
        losses.append(float(loss))
    assert np.isfinite(losses).all() and losses[-1] < losses[0] - 0.005


OF_FRAMES = ("mel", "frame_", "contour")
"""how the names of arrays over frames begin"""


def test_padding_of_the_batch_changes_nothing(built):
    batch = built.batch
    frames, phonemes = valid(batch, "frames"), valid(batch)
    rng = np.random.default_rng(0)
    noisy = {}
    for name, x in batch.items():
        if x.ndim == 1:
            noisy[name] = x
            continue
        mask = frames if x.shape[1] == frames.shape[1] and name.startswith(OF_FRAMES) else phonemes
        mask = mask[..., None] if x.ndim == 3 else mask
        junk = rng.integers(0, 3, x.shape) if x.dtype != np.float32 else rng.normal(0, 9, x.shape)
        noisy[name] = np.where(mask, x, junk).astype(x.dtype)
    (loss, mask), (loss2, mask2) = built.loss(batch, KEY), built.loss(noisy, KEY)
    np.testing.assert_array_equal(mask, mask2)
    np.testing.assert_allclose(loss * mask, loss2 * mask, atol=1e-5)
    shown = valid(batch, "frames")[..., None]
    np.testing.assert_allclose(built.sample(batch, KEY) * shown, built.sample(noisy, KEY) * shown, atol=1e-5)
    for a, b in zip(built.log_prob(batch, KEY), built.log_prob(noisy, KEY), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_lengths_are_cropped_for_the_loss_and_padded_for_samples(prosody, store):
    """With 7 phonemes the loss covers 6; the sample's seventh is as if nothing followed."""
    utterances = [u for u in store.read(store.split("train")) if len(u.phoneme) % 2][:4]
    batch = prosody_batch(utterances, store.stats, 16)
    _, mask = prosody.loss(batch, KEY)
    np.testing.assert_array_equal(mask.sum(1), batch["length"] // 2 * 2)
    last = np.arange(16) == batch["length"][:, None] - 1
    changed = batch | {"duration": np.where(last, 40, batch["duration"])}
    np.testing.assert_allclose(*(prosody.loss(b, KEY)[0] * mask for b in (batch, changed)), atol=1e-6)
    sample, wider = prosody.sample(batch, KEY), prosody.sample(prosody_batch(utterances, store.stats, 20), KEY)
    for row, n in enumerate(batch["length"]):
        np.testing.assert_allclose(sample[row, :n], wider[row, :n], atol=1e-5)


def test_unvoiced_pitch_does_not_leak(built, store):
    batch = built.batch
    if "mel" in batch:
        utterances = store.read(store.split("train")[:4])
        unvoiced = [replace(u, log_f0=np.where(u.voiced, u.log_f0, 7.0).astype(np.float32)) for u in utterances]
        changed = [whole(u, store.stats) for u in unvoiced]
        other = acoustic_batch(changed, store.stats, 16, 96)
        assert np.isfinite(batch["log_f0"]).all()
    else:
        other = batch | {"log_f0": np.where(batch["voiced"], batch["log_f0"], 99.0).astype(np.float32)}
    for method in (built.loss, built.log_prob, built.sample):
        for a, b in zip(jax.tree.leaves(method(batch, KEY)), jax.tree.leaves(method(other, KEY)), strict=True):
            np.testing.assert_array_equal(a, b)


def test_prosody_bits_against_a_known_density(store):
    """A model that predicts N(0, 1) in normalised units: Gaussian log-f0, log-normal frames, dequantised."""
    model = Built(store, "prosody", scale=0.0)
    batch = model.batch | {"length": model.batch["length"] // 2 * 2}
    nats = np.mean([model.log_prob(batch, jax.random.key(s))[0] for s in range(400)], 0)
    s, (_, _, dimensions) = store.stats, model.log_prob(batch, KEY)
    for row, u in enumerate(store.read(store.split("train")[:4])):
        n = batch["length"][row]
        voiced = u.voiced[:n]
        pitch = stats.norm.logpdf(u.log_f0[:n], s.log_f0_mean[u.speaker], s.log_f0_std[u.speaker])[voiced].sum()
        frames = stats.lognorm(s.log_duration_std, scale=np.exp(s.log_duration_mean))
        duration = sum(integrate.quad(frames.logpdf, d, d + 1)[0] for d in u.duration[:n])
        assert dimensions[row] == n + voiced.sum()
        assert abs(nats[row] - (pitch + duration)) / dimensions[row] < 0.05


def test_acoustic_bits_against_a_known_density(store):
    model = Built(store, "acoustic", scale=0.0)
    model.variables["params"]["decoder"] = jax.tree.map(jnp.zeros_like, model.variables["params"]["decoder"])
    value, _, dimensions = model.log_prob(model.batch, KEY)
    for row, u in enumerate(store.read(store.split("train")[:4])):
        mel = u.mel[: len(u.mel) // 4 * 4]
        truth = stats.norm.logpdf(mel, store.stats.mel_mean, store.stats.mel_std).sum()
        assert dimensions[row] == mel.size
        assert abs(value[row] - truth) / mel.size < 0.02  # the fixed noise of 0.05 and its draw


def test_durations_are_dequantised_and_unvoiced_pitch_is_noise(prosody, store):
    keys = jax.random.split(KEY, 500)
    target = jax.jit(jax.vmap(lambda rng: prosody.task.target(prosody.batch, rng)))(keys)
    frames = np.exp(store.stats.denormalise_log_duration(np.asarray(target[..., 1])))
    frames -= np.maximum(prosody.batch["duration"], 1)
    assert -1e-3 < frames.min() < 0.01 and 0.99 < frames.max() < 1.001
    np.testing.assert_allclose(frames.mean(), 0.5, atol=0.01)
    pitch, voiced = np.asarray(target[..., 0]), prosody.batch["voiced"]
    np.testing.assert_array_equal(pitch[0][voiced], prosody.batch["log_f0"][voiced])
    unvoiced = pitch[:, ~voiced]
    np.testing.assert_allclose([unvoiced.mean(), unvoiced.std()], [0, 1], atol=0.03)


def test_utterances_without_a_label_train_the_unknown_row(prosody):
    assert 0 in prosody.batch["speaker"] and 1 in prosody.batch["speaker"]
    gradient = jax.jit(jax.grad(prosody.mean_loss))(prosody.variables, prosody.batch)
    rows = np.abs(gradient["params"]["encoder"]["speaker"]["embedding"]).max(1)
    seen = np.isin(np.arange(len(rows)), prosody.batch["speaker"])
    assert (rows[seen] > 0).all() and not rows[~seen].any()


def test_conditions_reach_the_output(built):
    """Each input that should matter does: phonemes, stress, speaker, pitch and durations."""
    names = ["phoneme", "stress", "edge", "punctuation", "speaker"]
    if "mel" in built.batch:
        names += ["frame_position"]
        pitch = built.batch | {"log_f0": built.batch["log_f0"] + 1}
        assert np.abs(built.sample(pitch, KEY) - built.sample(built.batch, KEY)).max() > 1e-3
    for name in names:
        x = built.batch[name]
        changed = built.batch | {name: np.where(x == 0, 1, 0).astype(x.dtype)}
        assert np.abs(built.sample(changed, KEY) - built.sample(built.batch, KEY)).max() > 1e-3, name


@pytest.mark.parametrize("family, changes", [("diffusion", {"widths": (8, 8, 8)}), ("flow", {"squeeze": 4})])
def test_decoders_that_merge_too_many_positions_are_refused(store, family, changes):
    """Padding would leak into the last phonemes: prosody's lengths are multiples of 2 only."""
    config = small_config("prosody", family)
    config = replace(config, decoder=replace(config.decoder, **changes))
    with pytest.raises(UserError, match="merges 4 positions.*prosody task are multiples of 2.*widths.*squeeze"):
        tasks.build(config, store.inventory, store.stats)
    tasks.build(replace(config, task="acoustic"), store.inventory, store.stats)


@given(st.lists(st.integers(0, 7), min_size=12, max_size=12))
def test_repeat_to_frames(phonemes):
    h = np.arange(8 * 3, dtype=np.float32).reshape(1, 8, 3)
    frames = repeat_to_frames(jnp.asarray(h), jnp.array([phonemes]))
    np.testing.assert_array_equal(frames[0], np.stack([h[0, p] for p in phonemes]))


class Dequantised(Built):
    """Prosody with a flow that is the standard normal whatever the condition; `scale` of its dequantiser's weights, of
    which 0 makes uniform noise, as at the start."""

    def __init__(self, store, dequantisation: str, scale: float = 0.0):
        config = small_config("prosody", "flow")
        decoder = replace(config.decoder, dequantisation=dequantisation, mixing="flip")
        self.task = tasks.build(replace(config, decoder=decoder), store.inventory, store.stats)
        self.batch = make_batch(store, "prosody")
        init = lambda: self.task.init(KEY, self.batch, KEY, False, method="loss")  # noqa: E731
        self.variables = away_from_start(init, scale=0.0)
        d = self.variables["params"]["decoder"]
        d |= {name: jax.tree.map(jnp.zeros_like, d[name]) for name in ("steps", "prior", "dequantise") if name in d}
        d |= {name: randomised(d[name], scale=scale) for name in ("dequantise",) if name in d}
        self.loss = jax.jit(lambda batch, rng: self.task.apply(self.variables, batch, rng, False, method="loss"))
        self.log_prob = lambda batch, rng: self.task.apply(self.variables, batch, rng, method="log_prob")


def test_untrained_variational_dequantisation_is_uniform(store):
    """The same noise; only where uniform noise counts E[log(d + U)], log(d + u) stands, which it is on average."""
    uniform, variational = Dequantised(store, "uniform"), Dequantised(store, "variational")
    batch = uniform.batch | {"length": uniform.batch["length"] // 2 * 2}
    for row, method in enumerate(("log_prob", "loss")):
        key = jax.random.split(KEY, 2 + row)[0]  # what the task makes of KEY for the target
        log_frames = store.stats.denormalise_log_duration(np.asarray(uniform.task.target(batch, key)[..., 1]))
        d = np.maximum(batch["duration"], 1)
        cost = np.sum((log_frames - ((d + 1) * np.log(d + 1) - d * np.log(d) - 1)) * valid(batch), 1)
        if method == "loss":
            a, b = (np.sum(loss * mask, 1) for loss, mask in (m.loss(batch, KEY) for m in (uniform, variational)))
            np.testing.assert_allclose(b, a + cost / 2, atol=1e-4)
        else:
            a, b = (jax.jit(m.log_prob)(batch, KEY)[0] for m in (uniform, variational))
            np.testing.assert_allclose(b, a - cost, atol=1e-4)


def test_variational_dequantisation_is_an_unbiased_weight(store):
    """E_q[p(d + u) / q(u)] = P(d), whatever q is: the bound's terms, each in its place. Frames are log-normal here."""
    model, s = Dequantised(store, "variational", scale=0.2), store.stats
    batch = model.batch | {"length": np.full(4, 2), "voiced": np.ones((4, 16), bool)}
    keys = jax.random.split(KEY, 2000)
    log_weights = np.asarray(jax.jit(jax.vmap(lambda k: model.log_prob(batch, k)[0]))(keys), np.float64)
    frames, d = stats.lognorm(s.log_duration_std, scale=np.exp(s.log_duration_mean)), batch["duration"][:, :2]
    pitch = stats.norm.logpdf(batch["log_f0"][:, :2]) - np.log(batch["log_f0_std"])[:, None]
    truth = np.prod(np.exp(pitch) * (frames.cdf(d + 1) - frames.cdf(d)), 1)
    ratio = np.exp(log_weights) / truth
    assert 0.1 < ratio.std(0).min() and (ratio.std(0) < 3).all()  # q is not uniform, and its tails do no harm
    np.testing.assert_array_less(np.abs(ratio.mean(0) - 1), 4 * ratio.std(0) / len(keys) ** 0.5)
    assert (log_weights.mean(0) < np.log(truth)).all()  # Jensen: on average a bound


@pytest.mark.parametrize("task, family", [("prosody", "flow"), ("acoustic", "gaussian"), ("prosody", "mdn")])
def test_bits_per_dimension_in_training_are_those_of_log_prob(store, task, family):
    """Rows without an utterance count for nothing; the noise of the target is another draw."""
    config = small_config(task, "flow" if family == "flow" else "regression")
    if family != "flow":
        config = replace(config, decoder=replace(config.decoder, loss=family))
    module, batch = tasks.build(config, store.inventory, store.stats), make_batch(store, task)
    variables = away_from_start(lambda b: module.init(KEY, b, KEY, False, method="loss"), batch)
    padded = {name: np.concatenate([x, np.zeros_like(x[:2])]) for name, x in batch.items()}
    keys, evaluate = jax.random.split(KEY, 60), jax.jit(lambda b, k: tasks.validation_sums(module, variables, b, k))
    found = [evaluate(padded, k)["val_bits_per_dim"] for k in keys]
    truth = jax.jit(lambda k: module.apply(variables, batch, k, method="log_prob"))
    expected = [(-np.sum(nats) / np.log(2), np.sum(n)) for nats, _, n in map(truth, keys)]
    assert all(int(np.sum(n)) == int(expected[0][1]) for _, n in found)
    bits, reference = (np.array([float(np.sum(a) / np.sum(b)) for a, b in rows]) for rows in (found, expected))
    error = np.hypot(bits.std(), reference.std()) / np.sqrt(len(keys))
    assert abs(bits.mean() - reference.mean()) < 4 * error + 1e-5
    loss = evaluate(padded, KEY)["val_loss"]
    assert not np.any(np.asarray(loss[1])[-2:]) and np.isfinite(loss[0]).all()


def test_only_densities_have_bits_per_dimension_in_training(store, built):
    assert not built.task.config.decoder.exact
    assert set(tasks.validation_sums(built.task, built.variables, built.batch, KEY)) == {"val_loss"}
