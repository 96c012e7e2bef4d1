"""Every family of the registry keeps the protocol; then what is special to regression."""

import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import GENERATIVE, away_from_start, randomised, small_decoder
from scipy import stats

from tts_gen.decoders import DECODERS
from tts_gen.layers import length_mask

B, L, C, D = 3, 16, 2, 6
LENGTHS = jnp.array([8, 12, 16])
KEY = jax.random.key(0)


def draw(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


class Model:
    """A small decoder with randomised parameters, its methods jitted; `traces` counts how often each was traced."""

    def __init__(self, family: str, channels: int = C, **changes):
        self.family, self.module, self.traces = family, small_decoder(family, **changes).build(channels), Counter()
        init = lambda y, cond, mask: self.module.init(KEY, y, cond, mask, KEY, False, method="loss")  # noqa: E731
        example = draw(1, B, L, channels), draw(2, B, L, D), length_mask(LENGTHS, L)
        # A flow's start is that of its data.
        self.variables = randomised(jax.jit(init)(*example)) if family == "flow" else away_from_start(init, *example)
        self.sample = jax.jit(lambda *args: self._apply("sample", *args))
        self.log_prob = jax.jit(lambda *args: self._apply("log_prob", *args))
        self.loss = jax.jit(lambda *args: self._apply("loss", *args, False))

    def _apply(self, method: str, *args):
        self.traces[method] += 1
        return self.module.apply(self.variables, *args, method=method)


make = functools.cache(Model)


@pytest.fixture(scope="module", params=DECODERS)
def model(request):
    return make(request.param)


@pytest.fixture
def example():
    """y, cond, mask."""
    return draw(1, B, L, C), draw(2, B, L, D), length_mask(LENGTHS, L)


def test_padding_content_changes_nothing(model, example):
    y, cond, mask = example
    m = mask[..., None]
    y2, cond2 = jnp.where(m > 0, y, 1000 * draw(3, B, L, C)), jnp.where(m > 0, cond, 1000 * draw(4, B, L, D))
    close = lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5, rtol=2e-5)  # noqa: E731
    loss = model.loss(y, cond, mask, KEY)
    assert loss.shape == (B, L) and loss.dtype == jnp.float32
    close(loss * mask, model.loss(y2, cond2, mask, KEY) * mask)
    close(model.sample(cond, mask, KEY, 1.0) * m, model.sample(cond2, mask, KEY, 1.0) * m)
    # Of few positions: an ODE's exact trace costs a derivative for each.
    short, few = [x[1:, 6:] for x in (y, cond, y2, cond2)], mask[1:, 6:]
    (value, error), (value2, error2) = (model.log_prob(*v, few, KEY) for v in (short[:2], short[2:]))
    assert value.shape == error.shape == (B - 1,) and value.dtype == error.dtype == jnp.float32
    close(value / 20, value2 / 20)
    close(error / 20, error2 / 20)


def test_amount_of_padding_changes_nothing(model, example):
    """Of the first row, whose random draws are the same in an array with longer rows."""
    y, cond, mask = example
    longer = [jnp.pad(x, ((0, 0), (0, 8), (0, 0))[: x.ndim]) for x in example]
    close = lambda a, b: np.testing.assert_allclose(a[0, :8], b[0, :8], atol=2e-5, rtol=2e-5)  # noqa: E731
    close(model.loss(y, cond, mask, KEY), model.loss(*longer, KEY))
    close(model.sample(cond, mask, KEY, 1.0), model.sample(*longer[1:], KEY, 1.0))
    if not hasattr(model.module.config, "solver"):  # of the ODE's likelihood: test_likelihood
        np.testing.assert_allclose(*(model.log_prob(*x, KEY)[0] for x in (example, longer)), atol=1e-3, rtol=1e-5)


def test_temperature_is_traced_and_zero_is_deterministic(model, example):
    _, cond, mask = example
    model.sample(cond, mask, KEY, 1.0)
    before = model.traces["sample"]
    one, two = (model.sample(cond, mask, jax.random.key(seed), 0.0) for seed in (1, 2))
    np.testing.assert_array_equal(one, two)
    for temperature in (0.333, 1.2):
        model.sample(cond, mask, KEY, temperature)
    assert model.traces["sample"] == before


def test_spread_grows_with_temperature_in_generative_families(model, example):
    _, cond, mask = example
    samples = [[model.sample(cond, mask, jax.random.key(s), t)[2] for s in range(12)] for t in (0.0, 0.5, 1.0)]
    none, half, full = np.ptp(samples, axis=1).mean((1, 2))
    assert none == 0
    if model.family in GENERATIVE:
        assert 0 < 1.3 * half < full
    else:
        assert half == full == 0


def test_gradients_are_finite_and_reach_every_parameter(model, example):
    y, cond, mask = example

    @jax.jit
    def gradient(variables, cond):
        def mean(variables, cond):
            loss = model.module.apply(variables, y, cond, mask, KEY, True, method="loss")
            return jnp.sum(loss * mask) / jnp.sum(mask)

        return jax.grad(mean, argnums=(0, 1))(variables, cond)

    of_variables, of_cond = gradient(model.variables, cond)
    for path, leaf in jax.tree.leaves_with_path(of_variables):
        assert np.isfinite(leaf).all() and np.any(leaf), jax.tree_util.keystr(path)
    assert np.isfinite(of_cond).all()
    assert (np.abs(of_cond).max(-1) > 0)[np.asarray(mask) > 0].all()
    assert not np.any(of_cond[np.asarray(mask) == 0])


def test_the_loss_without_jit_is_the_same(model, example):
    eager = model.module.apply(model.variables, *example, KEY, False, method="loss")
    np.testing.assert_allclose(eager, model.loss(*example, KEY), atol=2e-5, rtol=2e-5)


def test_bfloat16_is_finite(model, example):
    y, cond, mask = example
    half = lambda tree: jax.tree.map(lambda x: x.astype(jnp.bfloat16), tree)  # noqa: E731

    @jax.jit
    def run(variables, y, cond):
        loss = model.module.apply(variables, y, cond, mask, KEY, False, method="loss")
        return loss * mask, model.module.apply(variables, cond, mask, KEY, 1.0, method="sample") * mask[..., None]

    for found in run(half(model.variables), half(y), half(cond)):
        assert np.isfinite(np.asarray(found, np.float32)).all()


def test_a_hundred_steps_lower_the_loss_and_keep_gradients_finite(model, example):
    _, cond, mask = example
    y, optimizer = 0.3 * draw(5, B, L, C) + cond[..., :C], optax.adam(1e-2)

    @jax.jit
    def step(variables, state, i):
        def mean(variables):
            rng = jax.random.fold_in(KEY, i)
            loss = model.module.apply(variables, y, cond, mask, rng, True, method="loss")
            return jnp.sum(loss * mask) / jnp.sum(mask)

        loss, gradient = jax.value_and_grad(mean)(variables)
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(variables, updates), state, loss, optax.tree.norm(gradient)

    variables, losses, norms = model.variables, [], []
    state = optimizer.init(variables)
    for i in range(100):
        variables, state, loss, norm = step(variables, state, i)
        losses.append(float(loss)), norms.append(float(norm))
    assert np.isfinite(losses).all() and np.isfinite(norms).all()
    assert np.mean(losses[-20:]) < np.mean(losses[:5])


# Regression


def test_regression_density_against_scipy(example):
    y, cond, mask = example
    scale = np.array([0.5, 2.0], np.float32)
    for loss, density in (("l1", stats.laplace), ("l2", stats.norm)):
        model = Model("regression", loss=loss)
        variables = model.variables | {"calibration": {"scale": scale}}
        value, error = model.module.apply(variables, y, cond, mask, KEY, method="log_prob")
        prediction = model.sample(cond, mask, KEY, 1.0)
        truth = np.sum(density.logpdf(y, prediction, scale) * mask[..., None], (1, 2))
        np.testing.assert_allclose(value, truth, rtol=1e-5)
        assert not np.any(error)
        unfitted = np.sum(density.logpdf(y, prediction, 1.0) * mask[..., None], (1, 2))
        np.testing.assert_allclose(model.log_prob(y, cond, mask, KEY)[0], unfitted, rtol=1e-5)


@pytest.mark.parametrize("loss, centre", [("l2", 1.0), ("l1", np.log(2))])
def test_regression_learns_the_mean_or_the_median(loss, centre):
    """y = cond_0 + Exponential(1): L2 must go to the mean of the noise, L1 to its median; both vary less than y."""
    module = small_decoder("regression", loss=loss, dropout=0.0).build(1)
    mask, optimizer = jnp.ones((32, 8)), optax.adam(optax.cosine_decay_schedule(1e-2, 300))

    def data(key):
        cond = jax.random.normal(key, (32, 8, D))
        return cond, cond[..., :1] + jax.random.exponential(jax.random.fold_in(key, 1), (32, 8, 1))

    @jax.jit
    def fit():
        def step(carry, i):
            params, state = carry
            cond, y = data(jax.random.key(i))
            mean = lambda p: module.apply(p, y, cond, mask, KEY, True, method="loss").mean()  # noqa: E731
            updates, state = optimizer.update(jax.grad(mean)(params), state)
            return (optax.apply_updates(params, updates), state), None

        cond, y = data(KEY)
        params = module.init(KEY, y, cond, mask, KEY, False, method="loss")
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jnp.arange(300))
        return module.apply(params, cond, mask, KEY, 1.0, method="sample"), cond, y

    prediction, cond, y = fit()
    np.testing.assert_allclose((prediction - cond[..., :1]).mean(), centre, atol=0.1)
    assert np.std(prediction - cond[..., :1]) < 0.25
    assert np.std(prediction) < 0.85 * np.std(y)
