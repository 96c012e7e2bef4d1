"""The ODE's likelihood where drift and density are known: Gaussian data of any covariance, and a mixture."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import make_store, small_config, write_untrained
from scipy import integrate, stats

from tts_gen import runs
from tts_gen.decoders import likelihood
from tts_gen.decoders.likelihood import diffusion_log_prob, ode_log_prob
from tts_gen.decoders.solvers import CosineSchedule, LinearSchedule
from tts_gen.evaluation.likelihood import bits_per_dim_row
from tts_gen.evaluation.split import Split

KEY = jax.random.key(0)
MEAN = (0.7, -0.3)
SIGMA_MIN = 1e-4


def gaussian_diffusion(schedule, covariance):
    """x0_hat of x_t = alpha x_0 + sigma eps."""

    def denoise(x, t):
        alpha, sigma = schedule.alpha_sigma(t)
        mean = jnp.asarray(MEAN, x.dtype)
        z = (x - alpha * mean) @ jnp.linalg.inv(alpha**2 * covariance + sigma**2 * jnp.eye(2))
        return mean + alpha * z @ covariance

    return schedule, denoise


def gaussian_flow_matching(covariance):
    """E[x_1 - (1 - sigma_min) x_0 | x_t] of x_t = a x_0 + t x_1, a = 1 - (1 - sigma_min) t."""

    def drift(x, t):
        a, mean = 1 - (1 - SIGMA_MIN) * t, jnp.asarray(MEAN, x.dtype)
        z = (x - t * mean) @ jnp.linalg.inv(a**2 * jnp.eye(2) + t**2 * covariance)
        return mean + t * z @ covariance - (1 - SIGMA_MIN) * a * z

    return drift, 1.0, 0.0


MODELS = {
    "diffusion": functools.partial(gaussian_diffusion, LinearSchedule()),
    "diffusion, cosine": functools.partial(gaussian_diffusion, CosineSchedule()),
    "flow matching": gaussian_flow_matching,
}


def log_prob(model, y, mask, **how):
    """`model`: schedule and denoiser, or drift and its two ends."""
    if len(model) == 2:
        return diffusion_log_prob(*model, y, mask, KEY, **how)
    drift, t_data, t_prior = model
    return ode_log_prob(drift, y, mask, KEY, t_data, t_prior, **how)


@functools.partial(jax.jit, static_argnums=0, static_argnames=("exact", "tolerance"))
def gaussian_log_prob(family, covariance, y, mask, **how):
    return log_prob(MODELS[family](covariance), y, mask, **how)


def covariance(std: float, correlation: float) -> np.ndarray:
    return std**2 * np.array([[1.0, correlation], [correlation, 1.0]])


def drawn(c: np.ndarray, *shape: int) -> np.ndarray:
    return np.random.default_rng(0).multivariate_normal(MEAN, c, shape).astype(np.float32)


def truth(y, mask, c):
    return np.sum(stats.multivariate_normal(MEAN, c).logpdf(y) * mask, 1)


@pytest.mark.parametrize("family", MODELS)
def test_gaussian_data_against_the_closed_form(family):
    """To 1e-2 bits per dimension for every utterance, and far better in the mean; lengths differ."""
    for std, correlation in ((1.0, 0.0), (0.3, 0.9), (0.1, 0.0)):
        c = covariance(std, correlation)
        y, mask = drawn(c, 64, 4), (np.arange(4) < np.arange(64)[:, None] % 4 + 1).astype(np.float32)
        value, error = gaussian_log_prob(family, c, y, mask)
        assert not np.any(error)
        bits = (value - truth(y, mask, c)) / (2 * mask.sum(1)) / np.log(2)
        assert np.abs(bits).max() < 1e-2 and abs(bits.mean()) < 2e-3


@pytest.mark.parametrize("family", ["diffusion", "flow_matching"])
def test_a_mixture_against_its_density(family):
    """Two modes of standard deviation 0.15 at -1 and 1, weights 0.3 and 0.7."""
    weight, centre, s = np.array([0.3, 0.7]), np.array([-1.0, 1.0]), 0.15

    def responsible(x, m, v):
        """p(mode | x) of a mixture N(m, v), [..., 2], and x - m."""
        d = x - m
        return jax.nn.softmax(jnp.log(weight) - d**2 / (2 * v)), d

    def denoise(x, t):
        alpha, sigma = LinearSchedule().alpha_sigma(t)
        v = alpha**2 * s**2 + sigma**2
        p, d = responsible(x, alpha * centre, v)
        return jnp.sum(p * (centre + alpha * s**2 * d / v), -1, keepdims=True)

    def velocity(x, t):
        a = 1 - (1 - SIGMA_MIN) * t
        v = a**2 + t**2 * s**2
        p, d = responsible(x, t * centre, v)
        return jnp.sum(p * (centre + (t * s**2 - (1 - SIGMA_MIN) * a) * d / v), -1, keepdims=True)

    density = lambda x: np.sum(weight * stats.norm.pdf(x[..., None], centre, s), -1)  # noqa: E731
    rng = np.random.default_rng(0)
    y = (rng.choice(centre, 512, p=weight) + s * rng.standard_normal(512)).astype(np.float32)
    model = (LinearSchedule(), denoise) if family == "diffusion" else (velocity, 1.0, 0.0)
    of_model = jax.jit(lambda y: log_prob(model, y[:, None, None], jnp.ones((len(y), 1)))[0])
    value = of_model(y)
    assert np.abs(value - np.log(density(y))).max() < 0.02
    # The entropy, by quadrature on a grid of the model's own density.
    grid = np.linspace(-2, 2, 512, dtype=np.float32)
    of_grid = of_model(grid)
    cross = -integrate.trapezoid(density(grid) * np.asarray(of_grid), grid) / np.log(2)
    entropy = -integrate.trapezoid(density(grid) * np.log(density(grid)), grid) / np.log(2)
    assert abs(cross - entropy) < 0.005


def test_hutchinsons_estimate_is_unbiased_and_its_error_honest():
    """Correlated channels, whose Jacobian is not diagonal: the estimate scatters, and says by how much."""
    c = covariance(0.8, 0.8)
    y, mask = drawn(c, 200, 3), np.ones((200, 3), np.float32)
    exact, none = gaussian_log_prob("flow matching", c, y, mask, exact=True)
    estimate, error = gaussian_log_prob("flow matching", c, y, mask, exact=False)
    assert not np.any(none) and np.sqrt(np.mean(error**2)) > 0.05
    scatter = np.asarray(estimate - exact)
    assert abs(scatter.mean()) < 4 * np.sqrt(np.mean(error**2) / 200)
    assert 0.7 < np.sqrt(np.mean(scatter**2) / np.mean(error**2)) < 1.4


def test_many_dimensions_are_estimated_and_few_are_exact():
    c = covariance(0.8, 0.8)
    for length, exact in ((likelihood.EXACT_UP_TO // 2, True), (likelihood.EXACT_UP_TO // 2 + 1, False)):
        _, error = gaussian_log_prob("flow matching", c, drawn(c, 2, length), np.ones((2, length), np.float32))
        assert np.all(error == 0) if exact else np.all(error > 0)


@pytest.mark.parametrize("exact", [True, False])
def test_padding_changes_nothing(exact):
    """Neither what stands in it, nor how much of it there is, nor rows that are nothing else."""
    c = covariance(0.5, 0.5)
    y, mask = drawn(c, 4, 3), (np.arange(3) < np.array([[1], [3], [2], [0]])).astype(np.float32)
    value, error = gaussian_log_prob("flow matching", c, y, mask, exact=exact)
    assert value[3] == 0 == error[3]
    junk = np.where(mask[..., None] > 0, y, 50.0).astype(np.float32)
    np.testing.assert_allclose(
        gaussian_log_prob("flow matching", c, junk, mask, exact=exact), (value, error), rtol=1e-5
    )
    if exact:
        longer = np.pad(junk, ((0, 2), (0, 4), (0, 0)), constant_values=9.0), np.pad(mask, ((0, 2), (0, 4)))
        wide, _ = gaussian_log_prob("flow matching", c, *longer, exact=True)
        np.testing.assert_allclose(wide[:4], value, atol=1e-4)


def test_float64_stays_and_is_worth_it():
    c = covariance(0.3, 0.9)
    with jax.enable_x64(True):
        y, mask = drawn(c, 8, 2).astype(np.float64), np.ones((8, 2))
        value, error = gaussian_log_prob("flow matching", c, y, mask, tolerance=1e-9)
        assert value.dtype == error.dtype == jnp.float64
        # What is left is sigma_min, by which flow matching blurs the data.
        np.testing.assert_allclose(value, truth(y, mask, c + SIGMA_MIN**2 * np.eye(2)), atol=1e-6)


def test_low_precision_is_raised():
    c = covariance(1.0, 0.0)
    y, mask = jnp.asarray(drawn(c, 4, 2), jnp.bfloat16), jnp.ones((4, 2), jnp.bfloat16)
    value, _ = gaussian_log_prob("flow matching", c, y, mask)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, truth(np.asarray(y, np.float32), np.ones((4, 2)), c), atol=0.02)


def test_a_solve_that_does_not_arrive_gives_no_number():
    ones = np.ones((3, 2, 2), np.float32)
    diverging = (lambda x, t: x / (0.5 - t) ** 2, 1.0, 0.0)
    broken = (lambda x, t: x * jnp.nan, 1.0, 0.0)
    for ode in (diverging, broken):
        value, error = jax.jit(functools.partial(log_prob, ode))(ones, ones[..., 0])
        assert np.isnan(value).all() and np.isnan(error).all()


def test_rows_of_bits_per_dimension(tmp_path, caplog):
    """Of an exact family, and of one by its ODE: asked for, not asked for, and failing."""
    store = make_store(tmp_path / "store")
    val, test = (Split.read(store, name).only(slice(4)) for name in ("val", "test"))
    groups = np.arange(len(test.utterances))
    row = lambda run, ode: bits_per_dim_row(run, val, test, groups, {}, 0, ode)  # noqa: E731
    loaded = {}
    for family, changes in (("regression", {"loss": "gaussian"}), ("diffusion", {"widths": (8, 8)})):
        config = small_config(family=family, features=store.root)
        config = replace(config, decoder=replace(config.decoder, **changes))
        write_untrained(config, store, tmp_path / family)
        loaded[family] = runs.load(tmp_path / family)
    found = row(loaded["regression"], False)
    assert found["low"] < found["value"] < found["high"] and "why" not in found
    assert "--ode-likelihood" in row(loaded["diffusion"], False)["why"]
    with caplog.at_level("INFO"):
        found = row(loaded["diffusion"], True)
    assert found["low"] < found["value"] < found["high"]
    assert "standard error of the ODE's trace" in caplog.text
    broken = jax.tree.map(lambda x: x * np.nan, loaded["diffusion"].variables)
    found = row(replace(loaded["diffusion"], variables=broken), True)
    assert found["value"] is None and "4 of 4 utterances is not finite (the ODE's solver" in found["why"]
