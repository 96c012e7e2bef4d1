"""Gaussian and mixture-density regression: densities, samples, and what they learn of noise whose entropy is known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import away_from_start, small_decoder
from scipy import integrate, special, stats

from tts_gen.config import UserError
from tts_gen.decoders.regression import LEAST_LOG_STD
from tts_gen.layers import length_mask

B, L, C, D = 3, 8, 2, 6
KEY = jax.random.key(0)
DENSITIES = ("gaussian", "mdn")


def draw(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.fixture
def example():
    """y, cond, mask."""
    return draw(1, B, L, C), draw(2, B, L, D), length_mask(jnp.array([4, 6, 8]), L)


class Model:
    def __init__(self, loss: str, scale: float = 0.3):
        self.module = small_decoder("regression", loss=loss).build(C)
        y, cond, mask = draw(1, B, L, C), draw(2, B, L, D), jnp.ones((B, L))
        init = lambda: self.module.init(KEY, y, cond, mask, KEY, False, method="loss")  # noqa: E731
        self.variables = away_from_start(init, scale=scale, gain=0.5)
        self.predict = jax.jit(lambda cond, mask: self._apply("predict", cond, mask, None))
        self.sample = jax.jit(lambda *args: self._apply("sample", *args))
        self.log_prob = jax.jit(lambda *args: self._apply("log_prob", *args))
        self.loss = jax.jit(lambda *args: self._apply("loss", *args, False))

    def _apply(self, method: str, *args):
        return self.module.apply(self.variables, *args, method=method)


make = functools.cache(Model)


@pytest.fixture(params=DENSITIES)
def model(request):
    return make(request.param)


def test_density_against_scipy(model, example):
    y, cond, mask = example
    log_weight, mean, log_std = (np.asarray(x, np.float64) for x in model.predict(cond, mask))
    assert mean.shape == (B, L, {"gaussian": 1, "mdn": 4}[model.module.config.loss], C)
    of_component = stats.norm.logpdf(np.asarray(y)[:, :, None], mean, np.exp(log_std)).sum(-1)
    truth = special.logsumexp(log_weight + of_component, -1)
    np.testing.assert_allclose(special.logsumexp(log_weight, -1), 0, atol=1e-6)
    value, error = model.log_prob(y, cond, mask, KEY)
    np.testing.assert_allclose(value, (truth * mask).sum(1), rtol=1e-4)
    np.testing.assert_allclose(model.loss(y, cond, mask, KEY), -truth / C, rtol=1e-4)
    assert not np.any(error)


def test_padding_changes_nothing(model, example):
    y, cond, mask = example
    m = mask[..., None]
    y2, cond2 = jnp.where(m > 0, y, 50.0), jnp.where(m > 0, cond, 50.0)
    values = (model.log_prob(*known, mask, KEY)[0] for known in ((y, cond), (y2, cond2)))
    np.testing.assert_allclose(*values, rtol=1e-5)
    samples = (model.sample(c, mask, KEY, 1.0) * m for c in (cond, cond2))
    np.testing.assert_allclose(*samples, atol=1e-5)


def test_samples_at_temperature_1_have_the_densitys_moments(model, example):
    """And as many of them in each component as it has weight: a component's share is E[p(k | y)]."""
    _, cond, mask = example
    samples = np.stack([model.sample(cond, mask, jax.random.key(s), 1.0) for s in range(3000)])
    log_weight, mean, log_std = (np.asarray(x, np.float64) for x in model.predict(cond, mask))
    weight = np.exp(log_weight)[..., None]
    first = (weight * mean).sum(2)
    second = (weight * (mean**2 + np.exp(2 * log_std))).sum(2)
    deviation = np.sqrt(second - first**2)
    assert np.abs((samples.mean(0) - first) / deviation).max() < 5 / 3000**0.5
    assert np.abs(samples.std(0) / deviation - 1).max() < 0.12
    of_component = stats.norm.logpdf(samples[..., None, :], mean, np.exp(log_std)).sum(-1) + log_weight
    share = special.softmax(of_component, -1).mean(0)
    assert np.abs(share - weight[..., 0]).max() < 5 * 0.5 / 3000**0.5


def test_temperature_0_is_the_mean_of_the_likeliest_component(model, example):
    _, cond, mask = example
    log_weight, mean, _ = (np.asarray(x) for x in model.predict(cond, mask))
    likeliest = np.take_along_axis(mean, log_weight.argmax(-1)[..., None, None], 2)[:, :, 0]
    for key in (1, 2):
        np.testing.assert_array_equal(model.sample(cond, mask, jax.random.key(key), 0.0), likeliest)


def test_spread_grows_with_temperature(model, example):
    _, cond, mask = example
    spread = [
        np.std([model.sample(cond, mask, jax.random.key(s), t) for s in range(40)], 0).mean() for t in (0.3, 0.7, 1.0)
    ]
    assert 0 < 1.5 * spread[0] < 1.2 * spread[1] < spread[2]


def test_standard_deviations_have_a_floor():
    """Where data repeat a value exactly, the loss still has a minimum."""
    model = make("gaussian")
    y, cond, mask = jnp.zeros((1, 4, C)), draw(2, 1, 4, D), jnp.ones((1, 4))
    variables = jax.tree.map(jnp.zeros_like, model.variables)
    variables["params"]["log_std"]["bias"] = jnp.full(C, -40.0)
    _, _, log_std = model.module.apply(variables, cond, mask, None, method="predict")
    np.testing.assert_allclose(log_std, LEAST_LOG_STD, atol=1e-6)
    loss = model.module.apply(variables, y, cond, mask, KEY, False, method="loss")
    np.testing.assert_allclose(loss, LEAST_LOG_STD + 0.5 * np.log(2 * np.pi), atol=1e-5)
    variables["params"]["log_std"]["bias"] = jnp.zeros(C)
    _, _, log_std = model.module.apply(variables, cond, mask, None, method="predict")
    np.testing.assert_allclose(log_std, 0.0, atol=2e-3)


def test_every_parameter_has_a_gradient(model, example):
    y, cond, mask = example
    mean = lambda v: jnp.sum(model.module.apply(v, y, cond, mask, KEY, True, method="loss") * mask)  # noqa: E731
    for path, leaf in jax.tree.leaves_with_path(jax.jit(jax.grad(mean))(model.variables)):
        assert np.isfinite(leaf).all() and np.any(leaf), jax.tree_util.keystr(path)


def test_float64_stays(model):
    with jax.enable_x64(True):
        y, cond, mask = (np.random.default_rng(0).standard_normal((1, 4, n)) for n in (C, D, 1))
        value, _ = model.module.apply(model.variables, y, cond, mask[..., 0] * 0 + 1, KEY, method="log_prob")
        assert value.dtype == jnp.float64


def test_a_mixture_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"decoder\.mixtures is 0"):
        small_decoder("regression", loss="mdn", mixtures=0).build(C)


MODES, NOISE = 1.5, 0.5


def planted(key: jax.Array, rows: int) -> tuple[jax.Array, jax.Array]:
    """cond, and y = cond_0 + exp(cond_1 / 2) (+-1.5 + N(0, 0.5^2)): two modes, whose spread depends on cond."""
    cond_key, sign_key, noise_key = jax.random.split(key, 3)
    cond, shape = jax.random.normal(cond_key, (rows, L, 2)), (rows, L, 1)
    noise = MODES * jax.random.rademacher(sign_key, shape) + NOISE * jax.random.normal(noise_key, shape)
    return cond, cond[..., :1] + jnp.exp(cond[..., 1:] / 2) * noise


def held_out_bits(loss: str) -> float:
    """Bits per dimension after training; L2 with its fitted scale."""
    module = small_decoder("regression", loss=loss, dropout=0.0, width=32, kernel=1, mixtures=2).build(1)
    optimizer = optax.adam(optax.cosine_decay_schedule(2e-2, 300))

    def of(params, data, method, *rest):
        cond, y = data
        return module.apply(params, y, cond, jnp.ones(y.shape[:2]), KEY, *rest, method=method)

    @jax.jit
    def step(params, state, key):
        data = planted(key, 128)
        updates, state = optimizer.update(jax.grad(lambda p: of(p, data, "loss", True).mean())(params), state)
        return optax.apply_updates(params, updates), state

    @jax.jit
    def bits(params):
        cond, y = data = planted(jax.random.key(10_000), 4096)
        if loss == "l2":
            error = module.apply(params, cond, jnp.ones(cond.shape[:2]), KEY, 0.0, method="sample") - y
            params = params | {"calibration": {"scale": jnp.sqrt(jnp.mean(error**2, (0, 1)))}}
        return -of(params, data, "log_prob")[0].mean() / L / jnp.log(2)

    init = lambda: module.init(KEY, *planted(KEY, 2)[::-1], jnp.ones((2, L)), KEY, False, method="loss")  # noqa: E731
    params = away_from_start(init, scale=0.0)
    state = optimizer.init(params)
    for i in range(300):
        params, state = step(params, state, jax.random.key(i))
    return float(bits(params))


def test_bits_per_dimension_against_the_known_entropies():
    """The mixture reaches the entropy; the Gaussian misses it by its shape's KL; L2, blind to the spread, by more."""
    density = lambda x: 0.5 * (stats.norm.pdf(x, MODES, NOISE) + stats.norm.pdf(x, -MODES, NOISE))  # noqa: E731
    x = np.linspace(-6, 6, 4001)
    entropy = -integrate.trapezoid(density(x) * np.log2(density(x)), x)  # E[log spread] = E[cond_1 / 2] = 0
    variance = MODES**2 + NOISE**2
    gaussian = 0.5 * np.log2(2 * np.pi * np.e * variance)
    one_scale = gaussian + 0.5 * np.log2(np.exp(0.5))  # E[exp(cond_1)] = exp(1 / 2)
    found = [held_out_bits(loss) for loss in ("mdn", "gaussian", "l2")]
    np.testing.assert_allclose(found, [entropy, gaussian, one_scale], atol=0.02)
