"""Samplers and the ODE likelihood where the score is known: data N(M, S^2), whose denoiser has a closed form."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from tts_gen.decoders.solvers import SOLVERS, Schedule, log_likelihood, solve

M, S = 0.7, 0.5
SCHEDULE = Schedule()
KEY = jax.random.key(0)
NOISE = jax.random.normal(KEY, (400, 10, 2))


def deviation(t):
    """Standard deviation of x_t."""
    alpha, sigma = SCHEDULE.alpha_sigma(t)
    return jnp.sqrt(alpha**2 * S**2 + sigma**2)


def denoise(x, t):
    alpha, _ = SCHEDULE.alpha_sigma(t)
    return M + alpha * S**2 / deviation(t) ** 2 * (x - alpha * M)


@functools.partial(jax.jit, static_argnums=(0, 1))
def sample(solver, steps, temperature=1.0, noise=NOISE):
    return solve(solver, SCHEDULE, denoise, steps, noise, jax.random.key(1), temperature)


def ode_solution(noise, end):
    """x(end) of the probability-flow ODE: (x_t - alpha_t M) / deviation(t) does not change along it."""
    one = jnp.float32(1.0)
    return SCHEDULE.alpha_sigma(end)[0] * M + deviation(end) * (noise - SCHEDULE.alpha_sigma(one)[0] * M) / deviation(
        one
    )


def test_schedule_preserves_variance_and_time_inverts_log_snr():
    t = jnp.linspace(0.001, 1, 200)
    alpha, sigma = SCHEDULE.alpha_sigma(t)
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=1e-6)
    np.testing.assert_allclose(SCHEDULE.time(jnp.log(alpha / sigma)), t, atol=1e-4)
    slope = jax.vmap(jax.grad(lambda t: -2 * jnp.log(SCHEDULE.alpha_sigma(t)[0])))(t)
    np.testing.assert_allclose(slope, SCHEDULE.beta(t), rtol=1e-4)
    times = SCHEDULE.times(10)
    assert abs(times[0] - 1) < 1e-4 and np.all(np.diff(times) < 0)
    assert abs(SCHEDULE.alpha_sigma(times[-1])[1] - 0.018) < 0.001


@pytest.mark.parametrize("solver", SOLVERS)
def test_samples_have_the_datas_mean_and_deviation(solver):
    x = np.asarray(sample(solver, 1000 if solver in ("sde", "euler") else 200))
    error = S / len(x.ravel()) ** 0.5
    assert abs(x.mean() - M) < 4 * error + 0.003
    assert abs(x.std() - S) < 4 * error / 2**0.5 + 0.01


@pytest.mark.parametrize("solver", SOLVERS)
def test_temperature_multiplies_the_deviation(solver):
    none, half, full = (np.asarray(sample(solver, 50, t)) for t in (0.0, 0.5, 1.0))
    assert np.ptp(none) < 1e-5
    np.testing.assert_allclose(half - none, 0.5 * (full - none), atol=1e-5)


@pytest.mark.parametrize("solver, order", [("euler", 1), ("midpoint", 2), ("dpm++2m", 2)])
def test_order_of_convergence(solver, order):
    """Halving the step divides the largest error by 2^order. A little noise, so that float32 does not hide it."""
    if solver == "dpm++2m":  # ends on x0_hat of its last point
        end = SCHEDULE.times(1)[-1]
        truth = denoise(ode_solution(NOISE, end), end)
        steps = (40, 79)
    else:
        truth = ode_solution(NOISE, jnp.float32(1e-3))
        steps = (100, 200) if solver == "midpoint" else (400, 800)
    coarse, fine = (np.abs(sample(solver, n) - truth).max() for n in steps)
    assert fine > 1e-5  # above the rounding
    assert abs(np.log2(coarse / fine) - order) < 0.35


def test_dpm_solver_needs_few_steps():
    """What makes it the default: at 20 evaluations it is nearer to the solution."""
    end = SCHEDULE.times(1)[-1]
    few = np.abs(sample("dpm++2m", 20) - denoise(ode_solution(NOISE, end), end)).max()
    euler = np.abs(sample("euler", 20) - ode_solution(NOISE, jnp.float32(1e-3))).max()
    assert few < 0.03 < euler


def test_sde_draws_anew_along_the_path():
    """Its samples are not a function of the first noise alone, as the ODE's are."""
    same_start = jnp.broadcast_to(NOISE[:1], NOISE.shape)
    assert np.asarray(sample("euler", 50, 1.0, same_start)).std(0).max() < 1e-5
    assert np.asarray(sample("sde", 50, 1.0, same_start)).std(0).min() > 0.8 * S


@pytest.mark.parametrize("length", [1, 10])
def test_likelihood_against_the_closed_form(length):
    x = M + S * NOISE[:64]
    mask = jnp.broadcast_to((jnp.arange(10) < length).astype(jnp.float32), (64, 10))
    value, error = jax.jit(lambda x: log_likelihood(SCHEDULE, denoise, x, mask, KEY))(x)
    truth = np.sum(stats.norm.logpdf(x, M, S) * mask[..., None], (1, 2))
    assert np.abs(value - truth).max() < 0.02 * 2 * length
    assert np.all(error < 0.001 * 2 * length)  # an isotropic Jacobian: each probe gives the exact trace


def test_likelihoods_standard_error_is_honest():
    """Correlated channels, whose Jacobian is not diagonal: the estimate scatters, and says by how much."""
    covariance = jnp.array([[1.0, 0.8], [0.8, 1.0]])
    x = NOISE[:300, :1] @ jnp.linalg.cholesky(covariance).T

    def denoise_correlated(x, t):
        alpha, sigma = SCHEDULE.alpha_sigma(t)
        return x @ jnp.linalg.inv(alpha**2 * covariance + sigma**2 * jnp.eye(2)) @ (alpha * covariance)

    value, error = jax.jit(lambda x: log_likelihood(SCHEDULE, denoise_correlated, x, jnp.ones((300, 1)), KEY))(x)
    truth = stats.multivariate_normal([0, 0], covariance).logpdf(x[:, 0])
    scatter = np.asarray(value - truth)
    assert np.sqrt(np.mean(np.square(error))) > 0.05
    assert 0.7 < np.sqrt(np.mean(scatter**2) / np.mean(np.square(error))) < 1.4
    assert abs(scatter.mean()) < 0.04 + 4 * scatter.std() / 300**0.5
