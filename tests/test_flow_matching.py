"""Flow matching where the best velocity is known: data N(M, S^2), for which it is E[dx_t/dt | x_t] in closed form."""

import functools
from unittest import mock

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import small_decoder
from scipy import stats

from tts_gen.config import UserError, from_dict
from tts_gen.decoders import networks, ode
from tts_gen.decoders.flow_matching import FlowMatching, FlowMatchingModule
from tts_gen.layers import length_mask

M, S = 0.7, 0.5
SIGMA = 1e-4
KEY = jax.random.key(0)


def variance(t):
    """Of x_t."""
    return (1 - (1 - SIGMA) * t) ** 2 + t**2 * S**2


def velocity(x, t):
    covariance = t * S**2 - (1 - SIGMA) * (1 - (1 - SIGMA) * t)
    return M + covariance / variance(t) * (x - t * M)


class Known(nn.Module):
    """The network that training should find."""

    def __call__(self, x, cond, t, mask, rng):
        return velocity(x, t[:, None, None])


@pytest.fixture
def known():
    """A module with that network, `known(solver, steps)`: it has no parameters."""
    with mock.patch.object(networks, "build", lambda settings, channels: Known()):
        yield lambda solver="midpoint", steps=40, **changes: FlowMatching(
            solver=solver, solver_steps=steps, **changes
        ).build(2)


def sample(module, temperature=1.0, rows=4000, key=KEY):
    cond, mask = jnp.zeros((rows, 4, 3)), jnp.ones((rows, 4))
    return jax.jit(lambda t: module.apply({}, cond, mask, key, t, method="sample"))(temperature)


def order(method, drift, start, solution, end) -> float:
    """By how much twice the steps lower log2 of the largest error, in float64."""
    solve = jax.jit(lambda times: ode.integrate(method, drift, start, times))
    coarse, fine = (np.abs(solve(jnp.linspace(0, end, n + 1)) - solution).max() for n in (64, 128))
    assert 1e-8 < fine < 0.02
    return np.log2(coarse / fine)


@pytest.mark.parametrize("method, expected", [("euler", 1), ("midpoint", 2), ("heun", 2)])
def test_order_of_convergence(method, expected):
    """dx/dt = x^2 cos t, whose solution is x_0 / (1 - x_0 sin t)."""
    with jax.enable_x64(True):
        x = jnp.linspace(-1, 0.5, 20)
        found = order(method, lambda x, t: x**2 * jnp.cos(t), x, x / (1 - x * np.sin(1.0)), 1.0)
    np.testing.assert_allclose(found, expected, atol=0.05)


@pytest.mark.parametrize("method, expected", [("euler", 1), ("midpoint", 3), ("heun", 2)])
def test_order_of_convergence_for_gaussian_data(method, expected):
    """(x_t - t M) / deviation(t) does not change along the path. Its square is quadratic in t, so that the midpoint's
    leading errors cancel: one order more than elsewhere."""
    with jax.enable_x64(True):
        noise = jnp.asarray(np.random.default_rng(0).standard_normal(100))
        found = order(method, velocity, noise, 0.6 * M + np.sqrt(variance(0.6)) * noise, 0.6)
    np.testing.assert_allclose(found, expected, atol=0.05)


def test_steps_go_backwards_and_of_unequal_length():
    """dx/dt = x^2 from 1 at t = 0 is 1 / (1 - t)."""
    times = 0.5 * jnp.linspace(0, 1, 200) ** 2
    forth = ode.integrate("heun", lambda x, t: x**2, jnp.ones(1), times)
    back = ode.integrate("midpoint", lambda x, t: x**2, forth, times[::-1])
    np.testing.assert_allclose([forth[0], back[0]], [2, 1], atol=1e-4)


def test_an_unknown_method_is_refused():
    with pytest.raises(ValueError, match="'rk4' is not one of euler, midpoint, heun"):
        ode.step("rk4", velocity, jnp.ones(1), 0.0, 0.1)


@pytest.mark.parametrize("solver, steps", [("euler", 400), ("midpoint", 40), ("heun", 40)])
def test_samples_have_the_datas_mean_and_deviation(known, solver, steps):
    x = np.asarray(sample(known(solver, steps)))
    error = S / x.size**0.5
    assert abs(x.mean() - M) < 4 * error + 0.002
    assert abs(x.std() - S) < 4 * error / 2**0.5 + 0.003


def test_temperature_multiplies_the_deviation(known):
    none, half, full = (np.asarray(sample(known(), t, rows=50)) for t in (0.0, 0.5, 1.0))
    assert np.ptp(none) < 1e-5
    np.testing.assert_allclose(half - none, 0.5 * (full - none), atol=1e-5)


@pytest.mark.parametrize("length", [2, 40])
def test_likelihood_against_the_closed_form(known, length):
    y = M + S * jax.random.normal(KEY, (5, 40, 2))
    mask, cond = length_mask(jnp.full(5, length), 40), jnp.zeros((5, 40, 3))
    value, error = jax.jit(lambda y: known().apply({}, y, cond, mask, KEY, method="log_prob"))(y)
    truth = np.sum(stats.norm.logpdf(y, M, S) * mask[..., None], (1, 2))
    np.testing.assert_allclose(value / (2 * length), truth / (2 * length), atol=2e-3)
    assert np.all(error / (2 * length) < 1e-3)  # an isotropic Jacobian: each probe gives the exact trace


def test_path_runs_straight_from_noise_to_data():
    module, y, z = FlowMatching(sigma_min=0.1).build(2), *jax.random.normal(KEY, (2, 3, 4, 2))
    start, end = (module.path(y, jnp.full(3, t), z)[0] for t in (0.0, 1.0))
    np.testing.assert_allclose(start, z, atol=1e-6)
    np.testing.assert_allclose(end, y + 0.1 * z, atol=1e-6)
    for t in (0.0, 0.3, 1.0):
        np.testing.assert_allclose(module.path(y, jnp.full(3, t), z)[1], end - start, atol=1e-6)


@pytest.mark.parametrize("t", [0.05, 0.5, 0.95])
def test_loss_is_least_where_theory_says(known, t):
    """At the best velocity it is Var[dx_t/dt | x_t]."""
    y, noise = M + S * jax.random.normal(KEY, (500, 40, 2)), jax.random.normal(jax.random.key(1), (500, 40, 2))
    mask = jnp.ones((500, 40))
    loss = known().apply({}, y, jnp.zeros((500, 40, 3)), mask, jnp.full(500, t), noise, None, method="loss_at")
    kept = 1 - SIGMA
    rest = S**2 + kept**2 - (t * S**2 - kept * (1 - kept * t)) ** 2 / variance(t)
    assert loss.shape == (500, 40)
    np.testing.assert_allclose(loss.mean(), rest, rtol=0.03)


@pytest.mark.parametrize("time", ["uniform", "logit_normal"])
def test_training_times_have_their_distribution(time):
    seen = lambda self, y, cond, mask, t, noise, rng: t[:, None] * mask  # noqa: E731
    module, x, mask = FlowMatching(time=time).build(1), jnp.zeros((1000, 1, 1)), jnp.ones((1000, 1))
    with mock.patch.object(FlowMatchingModule, "loss_at", seen):
        t = np.asarray(module.apply({}, x, x, mask, KEY, True, method="loss"))[:, 0]
    distribution = stats.uniform if time == "uniform" else stats.norm
    t = t if time == "uniform" else np.log(t / (1 - t))
    # Stratified: nearer to the distribution than independent draws would be.
    assert stats.kstest(t, distribution.cdf).statistic < 2e-3


def test_reference_masking_leaves_noise_in_padding(known):
    mask, noise = length_mask(jnp.array([2, 4]), 4), jax.random.normal(KEY, (2, 4, 2))
    cond = jnp.zeros((2, 4, 3))
    for quirk, padding in ((False, 0.0), (True, noise[0, 2:])):
        x = known(reference_masking=quirk).apply({}, noise, cond, mask, method="sample_from")
        np.testing.assert_array_equal(x[0, 2:], jnp.broadcast_to(padding, (2, 2)))


@pytest.mark.parametrize("network", ["unet", "matcha"])
def test_float64_stays_float64(network):
    settings = {"network": network, "widths": (8, 8), "heads": 1, "head_width": 4, "middle_blocks": 0}
    module = small_decoder("flow_matching", **settings).build(2)
    with jax.enable_x64(True):
        y, cond, mask = jnp.zeros((2, 4, 2)), jnp.zeros((2, 4, 3)), jnp.ones((2, 4), jnp.float32)
        init = functools.partial(module.init, method="loss")
        variables = jax.eval_shape(lambda: init(KEY, y, cond, mask, KEY, False))
        variables = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.float64), variables)
        of = lambda method, *args: jax.eval_shape(lambda v: module.apply(v, *args, method=method), variables)  # noqa: E731
        found = [
            of("loss", y, cond, mask, KEY, False),
            of("sample", cond, mask, KEY, 1.0),
            *of("log_prob", y, cond, mask, KEY),
        ]
    assert {x.dtype for x in found} == {jnp.dtype("float64")}


def test_settings_survive_json_and_widths_must_suit_the_network():
    settings = {"network": "matcha", "widths": [16, 24], "solver": "heun", "time": "logit_normal"}
    decoder = from_dict(FlowMatching, settings, "here")
    assert decoder.multiple == 2 and decoder.widths == (16, 24)
    with pytest.raises(UserError, match="decoder.widths 16,20: matcha normalises in 8 groups.*multiples of 8"):
        from_dict(FlowMatching, settings | {"widths": [16, 20]}, "here")
    with pytest.raises(UserError, match="here: solver: 'rk4' is not one of euler, midpoint, heun"):
        from_dict(FlowMatching, {"solver": "rk4"}, "here")
