"""Rational-quadratic splines against the paper's formulas in numpy, and as maps: inverse, derivative, edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from tts_gen.decoders import splines

BINS, BOUND, N = 6, 3.0, 400
forward = jax.jit(splines.forward_and_log_det)
inverse = jax.jit(splines.inverse_and_log_det)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


def drawn(seed: int, scale: float, reach: float = 1.6 * BOUND) -> tuple[np.ndarray, np.ndarray]:
    """x [N] and parameters [N, 3 BINS - 1]."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-reach, reach, N), scale * rng.standard_normal((N, splines.parameters(BINS)))


def by_the_paper(x: float, params: np.ndarray) -> tuple[float, float]:
    """Durkan et al., equations 4 and 5, for one number; the floors as in their code."""
    if abs(x) > BOUND:
        return x, 0.0
    widths, heights, inner = np.split(params, [BINS, 2 * BINS])

    def edges(u):
        shares = 1e-3 + (1 - 1e-3 * BINS) * np.exp(u) / np.exp(u).sum()
        return -BOUND + 2 * BOUND * np.concatenate([[0], np.cumsum(shares)])

    knots_x, knots_y = edges(widths), edges(heights)
    d = np.concatenate([[1], 1e-3 + np.log1p(np.exp(inner + np.log(np.exp(1 - 1e-3) - 1))), [1]])
    k = np.clip(np.searchsorted(knots_x, x, side="right") - 1, 0, BINS - 1)
    w, h = knots_x[k + 1] - knots_x[k], knots_y[k + 1] - knots_y[k]
    s, xi = h / w, (x - knots_x[k]) / w
    bottom = s + (d[k + 1] + d[k] - 2 * s) * xi * (1 - xi)
    y = knots_y[k] + h * (s * xi**2 + d[k] * xi * (1 - xi)) / bottom
    slope = s**2 * (d[k + 1] * xi**2 + 2 * s * xi * (1 - xi) + d[k] * (1 - xi) ** 2) / bottom**2
    return y, np.log(slope)


@pytest.mark.parametrize("scale", [0.3, 2.0])
def test_against_the_papers_formulas(scale):
    x, params = drawn(0, scale)
    y, log_det = forward(x, params, BOUND)
    truth = np.array([by_the_paper(*pair) for pair in zip(x, params)])
    np.testing.assert_allclose(y, truth[:, 0], atol=1e-12)
    np.testing.assert_allclose(log_det, truth[:, 1], atol=1e-10)


@given(st.integers(0, 10**6), st.floats(0, 6))
@trials(max_examples=30)
def test_inverse_and_log_det(seed, scale):
    x, params = drawn(seed, scale)
    y, log_det = forward(x, params, BOUND)
    back, inverse_log_det = inverse(y, params, BOUND)
    np.testing.assert_allclose(back, x, atol=1e-8)
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-6)
    slope = jax.vmap(jax.grad(lambda x, p: forward(x, p, BOUND)[0]))(x, params)
    np.testing.assert_allclose(log_det, np.log(slope), atol=1e-9)


@given(st.integers(0, 10**6), st.floats(0, 6))
@trials(max_examples=20)
def test_monotone_and_within_the_bound(seed, scale):
    _, params = drawn(seed, scale)
    x = np.linspace(-1.2 * BOUND, 1.2 * BOUND, N)
    y, _ = forward(x, np.broadcast_to(params[0], params.shape), BOUND)
    assert (np.diff(y) > 0).all()
    np.testing.assert_array_equal(np.abs(y) <= BOUND, np.abs(x) <= BOUND)


def test_zero_parameters_are_the_identity():
    x, params = drawn(1, 0.0)
    for way in (forward, inverse):
        y, log_det = way(x, params, BOUND)
        np.testing.assert_allclose(y, x, atol=1e-14)
        np.testing.assert_allclose(log_det, 0, atol=1e-14)


def test_smooth_at_the_bound_and_identity_far_outside():
    _, params = drawn(2, 3.0)
    for way in (forward, inverse):
        for edge in (-BOUND, BOUND):
            y, log_det = way(np.full(N, edge), params, BOUND)
            np.testing.assert_allclose(y, edge, atol=1e-12)
            np.testing.assert_allclose(log_det, 0, atol=1e-9)
            near, log_det = way(np.full(N, edge * (1 - 1e-9)), params, BOUND)
            np.testing.assert_allclose(near, edge, atol=1e-6)
            np.testing.assert_allclose(log_det, 0, atol=1e-2)
        for far in (-1e30, -BOUND - 1e-9, BOUND + 1e-9, 1e30):
            y, log_det = way(np.full(N, far), params, BOUND)
            np.testing.assert_array_equal(y, far)
            np.testing.assert_array_equal(log_det, 0)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_low_precision_is_computed_in_float32(dtype):
    """Finite with gradients at extreme parameters, at the bound and far outside; inverse as good as slopes allow."""
    x, params = drawn(3, 8.0)
    x[:6] = [-BOUND, BOUND, -1e30, 1e30, 0, np.nextafter(BOUND, 9)]
    x, params = jnp.asarray(x, dtype), jnp.asarray(params, dtype)
    for way in (forward, inverse):
        gradient = jax.jit(jax.grad(lambda x, p: jnp.sum(way(x, p, BOUND)[1]), argnums=(0, 1)))  # noqa: B023
        y, log_det = way(x, params, BOUND)
        assert y.dtype == log_det.dtype == jnp.float32
        for value in (y, log_det, *gradient(x, params)):
            assert np.isfinite(np.asarray(value, np.float32)).all()
    y, log_det = forward(x, params, BOUND)
    back, _ = inverse(y, params, BOUND)
    inside = np.abs(np.asarray(x, np.float32)) < BOUND
    error = np.abs(np.asarray(back - x)) * np.exp(np.minimum(0, log_det))  # in y where y hardly moves, else in x
    assert error[inside].max() < 1e-4
