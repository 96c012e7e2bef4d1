"""Schedules and samplers where the score is known: data N(M, S^2), whose denoiser has a closed form.

In float64, so that rounding hides no order of convergence.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tts_gen.config import UserError
from tts_gen.decoders.solvers import SOLVERS, CosineSchedule, LinearSchedule, ode_drift, solve

M, S = 0.7, 0.5
SCHEDULES = {"linear": LinearSchedule(), "cosine": CosineSchedule()}
STOCHASTIC = {"sde", "grad_sde"}
KEY = jax.random.key(0)
NOISE = np.random.default_rng(0).normal(size=(400, 10, 2))


@pytest.fixture(autouse=True)
def double():
    with jax.enable_x64(True):
        yield


def deviation(schedule, t):
    """Standard deviation of x_t."""
    alpha, sigma = schedule.alpha_sigma(t)
    return jnp.sqrt(alpha**2 * S**2 + sigma**2)


def denoise(schedule, x, t):
    alpha, _ = schedule.alpha_sigma(t)
    return M + alpha * S**2 / deviation(schedule, t) ** 2 * (x - alpha * M)


def draw(i):
    return jax.random.normal(jax.random.fold_in(KEY, i), NOISE.shape)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def sample(solver, schedule, steps, temperature=1.0, noise=NOISE):
    schedule = SCHEDULES[schedule]
    return solve(solver, schedule, functools.partial(denoise, schedule), steps, noise, draw, temperature)


def ode_solution(schedule, noise, end):
    """x(end) of the probability-flow ODE: (x_t - alpha_t M) / deviation(t) does not change along it."""
    start = schedule.alpha_sigma(jnp.ones(()))[0] * M
    return schedule.alpha_sigma(end)[0] * M + deviation(schedule, end) * (noise - start) / deviation(schedule, 1.0)


def truth(solver, schedule, noise=NOISE):
    """What `solver` tends to with ever more steps."""
    if solver == "dpm++2m":  # ends on x0_hat of its last point
        end = schedule.times(1, jnp.float64)[-1]
        return denoise(schedule, ode_solution(schedule, noise, end), end)
    return ode_solution(schedule, noise, jnp.asarray(0.0 if solver.startswith("grad_") else 1e-3))


# Schedules


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-6), (jnp.float64, 1e-14)])
def test_schedule_preserves_variance_and_only_adds_noise(schedule, dtype, tolerance):
    alpha, sigma = schedule.alpha_sigma(jnp.linspace(0, 1, 1001, dtype=dtype))
    assert alpha.dtype == sigma.dtype == dtype
    np.testing.assert_allclose(alpha**2 + sigma**2, 1, atol=tolerance)
    np.testing.assert_allclose([alpha[0], sigma[0]], [1, 0], atol=tolerance)
    assert np.all(np.diff(sigma) > 0) and np.all(np.diff(alpha) < tolerance)
    assert abs(np.log(alpha[-1] / sigma[-1]) + 5) < 0.02  # hardly any of the data is left, but not nothing


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("dtype, tolerance", [(jnp.float32, 1e-4), (jnp.float64, 1e-10)])
def test_time_inverts_log_snr_and_beta_is_alphas_slope(schedule, dtype, tolerance):
    t = jnp.linspace(0.001, 1, 200, dtype=dtype)
    alpha, sigma = schedule.alpha_sigma(t)
    np.testing.assert_allclose(schedule.time(jnp.log(alpha / sigma)), t, atol=tolerance)
    slope = jax.vmap(jax.grad(lambda t: -2 * jnp.log(schedule.alpha_sigma(t)[0])))(t)
    np.testing.assert_allclose(slope, schedule.beta(t), rtol=10 * tolerance)
    times = schedule.times(10, dtype)
    assert times.dtype == dtype and times.shape == (11,)
    assert abs(times[0] - 1) < tolerance and np.all(np.diff(times) < 0)
    alpha, sigma = schedule.alpha_sigma(times)
    np.testing.assert_allclose(np.diff(np.log(alpha / sigma)), 0.9, atol=0.01)
    assert abs(sigma[-1] - 0.018) < 0.001


def test_cosine_schedule_is_the_papers():
    """alpha_bar(t) = f(t) / f(0), f(t) = cos^2((t + s) / (1 + s) pi / 2), up to where it is cut off."""
    schedule, t = SCHEDULES["cosine"], jnp.linspace(0, 1, 50)
    f = lambda t: np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2  # noqa: E731
    end = 0.9957  # of the paper's time, where log(alpha / sigma) is -5
    assert abs(0.5 * np.log(f(end) / f(0) / (1 - f(end) / f(0))) + 5) < 0.01
    np.testing.assert_allclose(schedule.alpha_sigma(t)[0] ** 2, f(np.asarray(t) * end) / f(0), atol=1e-4)


# Samplers


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("solver", sorted(STOCHASTIC))
def test_sde_samples_have_the_datas_mean_and_deviation(solver, schedule):
    x = np.asarray(sample(solver, schedule, 800))
    assert x.dtype == np.float64
    error = S / len(x.ravel()) ** 0.5
    assert abs(x.mean() - M) < 4 * error + 0.005
    assert abs(x.std() - S) < 4 * error / 2**0.5 + 0.01


@pytest.mark.parametrize("solver", SOLVERS)
def test_temperature_multiplies_the_deviation(solver):
    none, half, full = (np.asarray(sample(solver, "linear", 50, t)) for t in (0.0, 0.5, 1.0))
    assert np.ptp(none) < 1e-12
    np.testing.assert_allclose(half - none, 0.5 * (full - none), atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("solver, order", [("euler", 1), ("midpoint", 2), ("heun", 2), ("dpm++2m", 2)])
def test_order_of_convergence(solver, order, schedule):
    """Halving the step divides the largest error by 2^order."""
    steps = (401, 801) if solver == "dpm++2m" else (1600, 3200)  # n evaluations of dpm++2m are n - 1 steps
    exact = truth(solver, SCHEDULES[schedule], NOISE[:1])
    coarse, fine = (np.abs(sample(solver, schedule, n, 1.0, NOISE[:1]) - exact).max() for n in steps)
    assert abs(np.log2(coarse / fine) - order) < 0.1


def moments(solver, schedule, steps):
    """Mean and variance of the samples, without drawing any: each is linear in its noises, which are independent."""
    schedule = SCHEDULES[schedule]

    def one(noises):
        kicks = lambda i: noises[1 + i]  # noqa: E731
        return solve(solver, schedule, functools.partial(denoise, schedule), steps, noises[0], kicks, 1.0)

    mean, gradient = jax.jit(jax.value_and_grad(one))(jnp.zeros(steps + 1))
    return float(mean), float(jnp.sum(gradient**2))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_euler_maruyama_has_weak_order_one(schedule):
    """The error of the variance halves with the step. It tends to the variance where the steps end, t = 0.001."""
    exact = float(deviation(SCHEDULES[schedule], 1e-3) ** 2)
    coarse, fine = (moments("sde", schedule, n)[1] - exact for n in (2000, 4000))
    assert abs(np.log2(coarse / fine) - 1) < 0.1


@pytest.mark.parametrize("solver, order", [("grad_euler", 1), ("grad_sde", 1)])
def test_grad_ttss_solvers_converge_too(solver, order):
    """In the moments of their samples, which are Gaussian."""
    errors = [abs(moments(solver, "linear", n)[1] - S**2) for n in (1000, 2000)]
    assert abs(np.log2(errors[0] / errors[1]) - order) < 0.15


def test_grad_ttss_solvers_are_its_codes():
    """reverse_diffusion of its model/diffusion.py, in numpy: times (1 - (i + 0.5) / n), x masked by nothing here."""
    schedule, n, noise = SCHEDULES["linear"], 4, NOISE[0]
    kicks = np.random.default_rng(1).normal(size=(n, *noise.shape))
    score = lambda x, t: (schedule.alpha_sigma(t)[0] * denoise(schedule, x, t) - x) / schedule.alpha_sigma(t)[1] ** 2  # noqa: E731
    for stochastic in (False, True):
        x, h = noise, 1 / n
        for i in range(n):
            t = 1.0 - (i + 0.5) * h
            beta = 0.05 + (20.0 - 0.05) * t
            if stochastic:
                x = x - ((-0.5 * x - score(x, t)) * beta * h + kicks[i] * np.sqrt(beta * h))
            else:
                x = x - 0.5 * (-x - score(x, t)) * beta * h
        solver = "grad_sde" if stochastic else "grad_euler"
        negated = lambda i: -jnp.asarray(kicks)[i]  # noqa: E731
        ours = solve(solver, schedule, functools.partial(denoise, schedule), n, noise, negated, 1.0)
        np.testing.assert_allclose(ours, x, atol=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_dpm_solver_needs_few_steps(schedule):
    """What makes it the default: at 20 evaluations it is nearer to the solution."""
    few = np.abs(sample("dpm++2m", schedule, 20) - truth("dpm++2m", SCHEDULES[schedule])).max()
    euler = np.abs(sample("euler", schedule, 20) - truth("euler", SCHEDULES[schedule])).max()
    assert few < 0.03 < euler


@pytest.mark.parametrize("solver", SOLVERS)
def test_only_the_sdes_draw_along_the_path(solver):
    same_start = np.broadcast_to(NOISE[:1], NOISE.shape)
    spread = np.asarray(sample(solver, "linear", 50, 1.0, same_start)).std(0)
    if solver in STOCHASTIC:
        assert spread.min() > 0.8 * S
    else:
        assert spread.max() < 1e-12


def test_float32_stays_float32():
    for solver in SOLVERS:
        assert sample(solver, "linear", 3, jnp.float32(1.0), NOISE.astype(np.float32)).dtype == jnp.float32


def test_ode_drift_moves_the_density():
    """The ODE's solution satisfies it: its time derivative is the drift."""
    for schedule in SCHEDULES.values():
        x, slope = jax.jvp(lambda t: ode_solution(schedule, NOISE[0], t), (jnp.asarray(0.4),), (jnp.ones(()),))  # noqa: B023
        drift = ode_drift(schedule, functools.partial(denoise, schedule), x, jnp.asarray(0.4))
        np.testing.assert_allclose(slope, drift, atol=1e-12)


def test_unknown_solver_lists_those_that_exist():
    with pytest.raises(UserError, match="'rk45' is not one of euler, midpoint, heun, sde, dpm"):
        sample("rk45", "linear", 4)
