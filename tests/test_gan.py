"""What a vocoder is trained by: discriminators, norms and losses against plain numpy."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import AUDIO, sung

from tts_gen.features.mel import log_mel
from tts_gen.vocoder_training import gan, norms
from tts_gen.vocoder_training.discriminators import PERIOD_LAYERS, SCALE_LAYERS, Discriminators
from tts_gen.vocoders import hifigan

NARROW = 8
GENERATOR = hifigan.Generator(16, (16, 16), (32, 32), (3,), ((1, 3),))
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def batch() -> dict:
    """Two stretches of 512 samples."""
    rng = np.random.default_rng(0)
    wave = np.stack([sung(2, rng) for _ in range(2)]).astype(np.float32)
    return {"wave": wave, "mel": np.stack([log_mel(w, AUDIO) for w in wave]), "weight": np.ones(2, np.float32)}


@pytest.fixture(scope="module")
def of(batch):
    """The whole of what is trained, and its fresh parameters."""
    model = gan.Gan(GENERATOR, Discriminators(NARROW), AUDIO)
    return model, jax.jit(model.init)(KEY, batch)


def convolved(x, kernel, bias, stride, padding, groups=1):
    """x[T, C], kernel [k, C / groups, D] -> [T', D], by the definition."""
    x, (k, per, d) = np.pad(x, ((padding, padding), (0, 0))), kernel.shape
    out = np.empty(((len(x) - k) // stride + 1, d))
    for t, column in np.ndindex(out.shape):
        first = column // (d // groups) * per
        out[t, column] = np.sum(x[t * stride : t * stride + k, first : first + per] * kernel[..., column])
    return out + bias


def leaky(x):
    return np.where(x > 0, x, 0.1 * x)


def test_discriminators_are_the_papers():
    rng = np.random.default_rng(1)
    module, wave = Discriminators(NARROW), rng.standard_normal((1, 90)).astype(np.float32)
    params = jax.tree.map(
        lambda x: rng.standard_normal(x.shape).astype(np.float32) / np.sqrt(x.size / x.shape[-1]),
        jax.eval_shape(module.init, KEY, wave)["params"],
    )
    found = module.apply({"params": params}, wave)
    assert len(found) == 8
    for period, (score, features) in zip((2, 3, 5, 7, 11), found):
        of = params[f"period_{period}"]
        folded = np.pad(wave[0], (0, -90 % period), mode="reflect").reshape(-1, period)
        columns = [folded[:, [p]] for p in range(period)]
        for i, (_, stride) in enumerate(PERIOD_LAYERS):
            kernel, bias = of[f"convs_{i}"]["kernel"][:, 0], of[f"convs_{i}"]["bias"]
            columns = [leaky(convolved(x, kernel, bias, stride, 2)) for x in columns]
            np.testing.assert_allclose(features[i][0], np.stack(columns, 1), atol=1e-4)
        columns = [convolved(x, of["conv_post"]["kernel"][:, 0], of["conv_post"]["bias"], 1, 1) for x in columns]
        np.testing.assert_allclose(score[0], np.stack(columns, 1), atol=1e-4)
        assert len(features) == 6
    x = wave[0]
    for scale, (score, features) in enumerate(found[5:]):
        of, y = params[f"scale_{scale}"], x[:, None]
        for i, (_, kernel, stride, groups) in enumerate(SCALE_LAYERS):
            y = leaky(convolved(y, *(of[f"convs_{i}"][n] for n in ("kernel", "bias")), stride, kernel // 2, groups))
            np.testing.assert_allclose(features[i][0], y, atol=1e-4)
        y = convolved(y, of["conv_post"]["kernel"], of["conv_post"]["bias"], 1, 1)
        np.testing.assert_allclose(score[0], y, atol=1e-4)
        padded = np.pad(x, 2)
        x = np.array([padded[i : i + 4].mean() for i in range(0, len(padded) - 3, 2)], np.float32)


def test_discriminators_have_the_papers_size():
    """Millions of parameters of the reference's modules."""
    shapes = jax.eval_shape(Discriminators().init, KEY, np.zeros((1, 8192)))["params"]
    for kind, millions in (("period", 41.09), ("scale", 29.61)):
        of = [x for name, tree in shapes.items() if name.startswith(kind) for x in jax.tree.leaves(tree)]
        assert sum(np.prod(x.shape) for x in of) / 1e6 == pytest.approx(millions, abs=0.01)


def test_mels_of_the_loss_are_those_of_the_store():
    wave = sung(20, np.random.default_rng(0)).astype(np.float32)
    for audio in (AUDIO, replace(AUDIO, n_mels=80, fmax=AUDIO.sample_rate / 2)):
        np.testing.assert_allclose(gan.log_mels(wave[None], audio)[0], log_mel(wave, audio), atol=2e-3)


def test_split_kernels_give_the_same_network():
    rng = np.random.default_rng(0)
    mel = np.zeros((1, 4, AUDIO.n_mels), np.float32)
    params = GENERATOR.init(KEY, mel, np.ones((1, 4), bool))["params"]
    split = norms.split(params)
    again = norms.joined(split)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), again, params)
    assert split["ups_0"]["scale"].shape == (1, 16, 1) and split["conv_pre"]["scale"].shape == (1, 1, 16)
    longer = jax.tree_util.tree_map_with_path(lambda p, x: x * (3 if p[-1].key == "kernel" else 1), split)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), norms.joined(longer), params)
    kernel = rng.standard_normal((5, 3, 7)).astype(np.float32)
    found = norms.spectral({"a": {"kernel": kernel, "bias": 1}})["a"]["kernel"]
    assert np.linalg.svd(found.reshape(15, 7))[1][0] == pytest.approx(1, abs=0.02)


def test_no_player_moves_the_other(of, batch):
    model, params = of

    def weighed(p, **names):
        return sum(jnp.sum(w * model._losses(p, batch)[n]) for n, w in names.items())

    losses = (
        partial(weighed, adversarial=1.0, features=2.0, loss=45.0), partial(weighed, discriminators=1.0),
        lambda p: jnp.sum(model.loss(p, batch, KEY, True)[0]),
    )  # fmt: skip
    of_generator, of_judges, both = jax.jit(lambda p: [jax.grad(of)(p) for of in losses])(params)
    assert not any(np.any(x) for x in jax.tree.leaves(of_generator["discriminators"]))
    assert not any(np.any(x) for x in jax.tree.leaves(of_judges["generator"]))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)  # noqa: E731
    jax.tree.map(close, both["generator"], of_generator["generator"])
    jax.tree.map(close, both["discriminators"], of_judges["discriminators"])
    for side in both.values():
        assert all(np.any(x) for x in jax.tree.leaves(side))


def test_losses_by_the_formulas(of, batch):
    model, params = of
    losses, fake = jax.jit(lambda p: (model._losses(p, batch), model.wave(p["generator"], batch["mel"])))(params)
    judged = jax.jit(lambda wave: model._judge(params["discriminators"], wave))
    judge = lambda wave, row: judged(wave[row : row + 1])  # noqa: E731
    for row in range(2):
        real, made = judge(batch["wave"], row), judge(fake, row)
        mean = lambda x: float(np.mean(np.asarray(x, float)))  # noqa: E731
        expected = {
            "discriminators": sum(mean((r - 1) ** 2) + mean(g**2) for (r, _), (g, _) in zip(real, made)),
            "adversarial": sum(mean((g - 1) ** 2) for g, _ in made),
            "features": sum(mean(abs(x - y)) for (_, xs), (_, ys) in zip(real, made) for x, y in zip(xs, ys)),
        }
        heard = replace(AUDIO, fmax=AUDIO.sample_rate / 2)
        mels = (log_mel(np.asarray(wave[row]), heard) for wave in (batch["wave"], fake))
        expected["loss"] = mean(abs(next(mels) - next(mels)))
        for name, value in expected.items():
            assert losses[name][row] == pytest.approx(value, rel=1e-3)


def test_new_generators_are_the_papers():
    """Parameters by the paper's table 1: 13.92, 0.92 and 1.46 millions."""
    for name, millions in (("v1", 13.92), ("v2", 0.92), ("v3", 1.46)):
        shapes = jax.eval_shape(hifigan.VERSIONS[name].init, KEY, np.zeros((1, 4, 80)), np.ones((1, 4), bool))
        assert sum(np.prod(x.shape) for x in jax.tree.leaves(shapes)) / 1e6 == pytest.approx(millions, abs=0.008)
        assert hifigan.VERSIONS[name].hop == 256
