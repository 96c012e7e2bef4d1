"""Samplers for the variance-preserving SDE (Song et al., arXiv 2011.13456), written on a denoiser x0_hat(x, t).

    x_t = alpha_t x_0 + sigma_t eps,  alpha_t = exp(-B_t / 2),  sigma_t^2 = 1 - alpha_t^2,  B_t = b0 t + (b1 - b0) t^2 /
    2
    score(x, t) = (alpha_t x0_hat - x) / sigma_t^2
    ODE: dx/dt = -beta_t (x + score) / 2          SDE: dx = -beta_t (x / 2 + score) dt + sqrt(beta_t) dw, backwards in
    time

All noise, the initial one included, is multiplied by the temperature.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

SOLVERS = {"euler": 1, "midpoint": 2, "sde": 1, "dpm++2m": 1}
"""network evaluations per step of each solver"""


@dataclass(frozen=True)
class Schedule:
    """Linear beta schedule (Grad-TTS: 0.05 to 20)."""

    beta0: float = 0.05
    beta1: float = 20.0

    def beta(self, t):
        return self.beta0 + (self.beta1 - self.beta0) * t

    def alpha_sigma(self, t):
        b = self.beta0 * t + 0.5 * (self.beta1 - self.beta0) * t**2
        return jnp.exp(-b / 2), jnp.sqrt(-jnp.expm1(-b))

    def time(self, log_snr):
        """t at which log(alpha_t / sigma_t) equals `log_snr`."""
        b, slope = jax.nn.softplus(-2 * log_snr), self.beta1 - self.beta0
        return (jnp.sqrt(self.beta0**2 + 2 * slope * b) - self.beta0) / slope

    def times(self, steps: int):
        """Times from 1 down to where sigma is about 0.02, equally spaced in log-SNR: [steps + 1]."""
        alpha, sigma = self.alpha_sigma(jnp.float32(1.0))
        return self.time(jnp.linspace(jnp.log(alpha / sigma), 4.0, steps + 1))


def ode_drift(schedule, denoise, x, t):
    alpha, sigma = schedule.alpha_sigma(t)
    return -0.5 * schedule.beta(t) * (x + (alpha * denoise(x, t) - x) / sigma**2)


def solve(solver: str, schedule: Schedule, denoise, steps: int, noise, rng, temperature):
    """Integrates from t = 1 to 0. `denoise(x, t)` -> x0_hat with t a scalar; `noise` is standard normal, of x's
    shape."""
    if solver not in SOLVERS:
        raise ValueError(f"solver {solver!r} is not one of {', '.join(SOLVERS)}")
    x = temperature * noise
    if solver == "dpm++2m":
        return _dpm_solver_2m(schedule, denoise, steps, x)
    t = jnp.linspace(1.0, 1e-3, steps + 1)

    def step(i, x):
        now, dt = t[i], t[i + 1] - t[i]
        if solver == "sde":
            alpha, sigma = schedule.alpha_sigma(now)
            drift = -schedule.beta(now) * (0.5 * x + (alpha * denoise(x, now) - x) / sigma**2)
            kick = jnp.sqrt(-schedule.beta(now) * dt) * jax.random.normal(jax.random.fold_in(rng, i), x.shape)
            return x + drift * dt + temperature * kick
        drift = ode_drift(schedule, denoise, x, now)
        if solver == "midpoint":
            drift = ode_drift(schedule, denoise, x + drift * dt / 2, now + dt / 2)
        return x + drift * dt

    return jax.lax.fori_loop(0, steps, step, x)


def _dpm_solver_2m(schedule, denoise, steps, x):
    """DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2); the first step is of first order. Ends on x0_hat
    itself."""
    t = schedule.times(steps - 1)
    alpha, sigma = schedule.alpha_sigma(t)
    log_snr = jnp.log(alpha / sigma)

    def step(i, carry):
        x, previous = carry
        x0 = denoise(x, t[i])
        h = log_snr[i + 1] - log_snr[i]
        h_before = log_snr[i] - log_snr[jnp.maximum(i - 1, 0)]
        weight = jnp.where(i > 0, h / (2 * jnp.where(i > 0, h_before, 1.0)), 0.0)
        d = (1 + weight) * x0 - weight * previous
        return sigma[i + 1] / sigma[i] * x - alpha[i + 1] * jnp.expm1(-h) * d, x0

    x, _ = jax.lax.fori_loop(0, steps - 1, step, (x, jnp.zeros_like(x)))
    return denoise(x, t[-1])


def log_likelihood(schedule: Schedule, denoise, x, mask, rng, steps: int = 64, probes: int = 4):
    """log p(x) of the probability-flow ODE by Heun's method, trace by Hutchinson's estimator with Rademacher probes.

    x [B, L, C], mask [B, L] -> value [B] in nats and its standard error over the probes [B].
    """
    m = mask[..., None]
    t = schedule.times(steps)[::-1]
    signs = jax.random.rademacher(rng, (probes, *x.shape), x.dtype) * m

    def drift_and_trace(x, now):
        f = lambda x: ode_drift(schedule, denoise, x, now) * m  # noqa: E731
        value, tangents = jax.lax.map(lambda e: jax.jvp(f, (x,), (e,)), signs)
        return value[0], jnp.sum(tangents * signs, (2, 3))

    def step(i, carry):
        x, trace = carry
        dt = t[i + 1] - t[i]
        f0, d0 = drift_and_trace(x, t[i])
        f1, d1 = drift_and_trace(x + f0 * dt, t[i + 1])
        return x + (f0 + f1) * dt / 2, trace + (d0 + d1) * dt / 2

    z, trace = jax.lax.fori_loop(0, steps, step, (x * m, jnp.zeros((probes, x.shape[0]))))
    prior = jnp.sum(jax.scipy.stats.norm.logpdf(z) * m, (1, 2))
    return prior + jnp.mean(trace, 0), jnp.std(trace, 0, ddof=1) / probes**0.5
