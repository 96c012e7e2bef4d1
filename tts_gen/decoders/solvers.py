"""Noise schedules and samplers of the variance-preserving diffusion (Song et al., arXiv 2011.13456), written on a
denoiser x0_hat(x, t).

    x_t = alpha_t x_0 + sigma_t eps,   alpha_t^2 + sigma_t^2 = 1,   beta_t = -2 d log(alpha_t) / dt
    score(x, t) = (alpha_t x0_hat - x) / sigma_t^2
    ODE: dx/dt = -beta_t (x + score) / 2
    SDE: dx = -beta_t (x / 2 + score) dt + sqrt(beta_t) dw, backwards in time

A process with prior mean mu, x_t = alpha_t x_0 + (1 - alpha_t) mu + sigma_t eps, is this one for x - mu. All noise, the
initial one included, is multiplied by the temperature. Values keep the noise's dtype, at least float32.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from tts_gen.config import UserError
from tts_gen.decoders import ode

SOLVERS = ode.EVALUATIONS | {"sde": 1, "dpm++2m": 1, "grad_euler": 1, "grad_sde": 1}
"""Network evaluations per step. euler, midpoint, heun: the ODE; sde: Euler-Maruyama; dpm++2m: DPM-Solver++(2M).
grad_euler, grad_sde: as Grad-TTS's code (arXiv 2105.06337), whose steps end at t = 0 and are evaluated at their
middles."""

LAST_TIME = 1e-3
"""where Euler, midpoint, Heun and Euler-Maruyama end"""
LAST_LOG_SNR = 4.0
"""log(alpha / sigma) where DPM-Solver++ ends: sigma is about 0.02"""


class Schedule:
    """alpha_t and sigma_t for t in [0, 1]; t = 0 is the data."""

    def beta(self, t: jax.Array) -> jax.Array:
        raise NotImplementedError

    def alpha_sigma(self, t: jax.Array) -> tuple[jax.Array, jax.Array]:
        raise NotImplementedError

    def time(self, log_snr: jax.Array) -> jax.Array:
        """t at which log(alpha_t / sigma_t) equals `log_snr`."""
        raise NotImplementedError

    def times(self, steps: int, dtype=jnp.float32) -> jax.Array:
        """Times from 1 down to where sigma is about 0.02, equally spaced in log-SNR: [steps + 1]."""
        alpha, sigma = self.alpha_sigma(jnp.ones((), dtype))
        return self.time(jnp.linspace(jnp.log(alpha / sigma), LAST_LOG_SNR, steps + 1, dtype=dtype))


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """beta_t = beta0 + (beta1 - beta0) t (Grad-TTS: 0.05 to 20)."""

    beta0: float = 0.05
    beta1: float = 20.0

    def beta(self, t):
        return self.beta0 + (self.beta1 - self.beta0) * t

    def alpha_sigma(self, t):
        b = self.beta0 * t + 0.5 * (self.beta1 - self.beta0) * t**2
        return jnp.exp(-b / 2), jnp.sqrt(-jnp.expm1(-b))

    def time(self, log_snr):
        b, slope = jax.nn.softplus(-2 * log_snr), self.beta1 - self.beta0
        return (jnp.sqrt(self.beta0**2 + 2 * slope * b) - self.beta0) / slope


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """alpha_t = cos(u) / cos(u0), u from u0 to u1 linearly in t (Nichol and Dhariwal, arXiv 2102.09672, equation 17).

    There u1 = pi / 2, where alpha is 0 and beta infinite: here u stops where log(alpha / sigma) is -5, about where the
    linear schedule does.
    """

    offset: float = 0.008
    """s of the paper: u0 = s / (1 + s) pi / 2"""
    first_log_snr: float = -5.0
    """log(alpha / sigma) at t = 1"""

    @property
    def _ends(self) -> tuple[float, float]:
        u0 = self.offset / (1 + self.offset) * math.pi / 2
        return u0, math.acos(math.cos(u0) / math.sqrt(1 + math.exp(-2 * self.first_log_snr)))

    def beta(self, t):
        u0, u1 = self._ends
        return 2 * (u1 - u0) * jnp.tan(u0 + (u1 - u0) * t)

    def alpha_sigma(self, t):
        u0, u1 = self._ends
        v = (u1 - u0) * t
        # 1 - alpha^2 by the product form of sin^2(u) - sin^2(u0), which keeps its digits near t = 0
        return jnp.cos(u0 + v) / math.cos(u0), jnp.sqrt(jnp.sin(v) * jnp.sin(2 * u0 + v)) / math.cos(u0)

    def time(self, log_snr):
        u0, u1 = self._ends
        alpha2, sigma2 = jax.nn.sigmoid(2 * log_snr), jax.nn.sigmoid(-2 * log_snr)
        sin = jnp.sqrt(math.sin(u0) ** 2 + sigma2 * math.cos(u0) ** 2)
        return (jnp.arctan2(sin, jnp.sqrt(alpha2) * math.cos(u0)) - u0) / (u1 - u0)


def score(schedule: Schedule, denoise: Callable, x: jax.Array, t: jax.Array) -> jax.Array:
    alpha, sigma = schedule.alpha_sigma(t)
    return (alpha * denoise(x, t) - x) / sigma**2


def ode_drift(schedule: Schedule, denoise: Callable, x: jax.Array, t: jax.Array) -> jax.Array:
    """dx/dt of the probability-flow ODE; t is a scalar."""
    return -0.5 * schedule.beta(t) * (x + score(schedule, denoise, x, t))


def solve(
    solver: str,
    schedule: Schedule,
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    steps: int,
    noise: jax.Array,
    draw: Callable[[jax.Array], jax.Array],
    temperature: float | jax.Array,
) -> jax.Array:
    """Integrates from t = 1 to 0, starting at temperature * noise.

    `denoise(x, t)` -> x0_hat, t a scalar; `noise` standard normal, of x's shape; `draw(i)` the standard normal noise of
    step i, of the same shape, which the SDE solvers ask for. Raises UserError for a solver that does not exist.
    """
    if solver not in SOLVERS:
        raise UserError(f"solver {solver!r} is not one of {', '.join(SOLVERS)}")
    dtype = jnp.promote_types(noise.dtype, jnp.float32)
    x = jnp.asarray(temperature * noise, dtype)
    if solver == "dpm++2m":
        return _dpm_solver_2m(schedule, denoise, steps, x)
    centred = solver.startswith("grad_")
    edges = jnp.linspace(1.0, 0.0 if centred else LAST_TIME, steps + 1, dtype=dtype)
    times = (edges[:-1] + edges[1:]) / 2 if centred else edges

    def step(i, x):
        t, dt = times[i], edges[i + 1] - edges[i]
        if solver in ("sde", "grad_sde"):
            drift = -schedule.beta(t) * (0.5 * x + score(schedule, denoise, x, t))
            return x + drift * dt + temperature * jnp.sqrt(-schedule.beta(t) * dt) * draw(i)
        drift = functools.partial(ode_drift, schedule, denoise)
        return ode.step(solver.removeprefix("grad_"), drift, x, t, dt)

    return jax.lax.fori_loop(0, steps, lambda i, x: step(i, x).astype(dtype), x)


def _dpm_solver_2m(schedule, denoise, steps, x):
    """DPM-Solver++(2M) (Lu et al., arXiv 2211.01095, algorithm 2); the first step is of first order. Ends on x0_hat
    itself."""
    t = schedule.times(steps - 1, x.dtype)
    alpha, sigma = schedule.alpha_sigma(t)
    log_snr = jnp.log(alpha / sigma)

    def step(i, carry):
        x, previous = carry
        x0 = denoise(x, t[i])
        h = log_snr[i + 1] - log_snr[i]
        h_before = log_snr[i] - log_snr[jnp.maximum(i - 1, 0)]
        weight = jnp.where(i > 0, h / (2 * jnp.where(i > 0, h_before, 1.0)), 0.0)
        d = (1 + weight) * x0 - weight * previous
        return (sigma[i + 1] / sigma[i] * x - alpha[i + 1] * jnp.expm1(-h) * d).astype(x.dtype), x0.astype(x.dtype)

    x, _ = jax.lax.fori_loop(0, steps - 1, step, (x, jnp.zeros_like(x)))
    return denoise(x, t[-1])
