"""What diffusion and flow matching share about time: training times and explicit steps of dx/dt = f(x, t)."""

from collections.abc import Callable

import jax

from tts_gen import draws

EVALUATIONS = {"euler": 1, "midpoint": 2, "heun": 2}
"""of f in a step of each method, which is also its order of convergence"""


def training_times(rng: draws.Rng, batch: int) -> jax.Array:
    """[B] stratified times in (0, 1), away from either end."""
    return draws.stratified(rng, batch) * (1 - 2e-5) + 1e-5


def step(method: str, drift: Callable, x: jax.Array, t: jax.Array, dt: jax.Array) -> jax.Array:
    """x(t + dt) from x(t). Raises ValueError for a method that is not in EVALUATIONS."""
    if method not in EVALUATIONS:
        raise ValueError(f"method {method!r} is not one of {', '.join(EVALUATIONS)}")
    slope = drift(x, t)
    if method == "midpoint":
        slope = drift(x + slope * dt / 2, t + dt / 2)
    elif method == "heun":
        slope = (slope + drift(x + slope * dt, t + dt)) / 2
    return x + slope * dt


def integrate(method: str, drift: Callable, x: jax.Array, times: jax.Array) -> jax.Array:
    """x at times[-1] from x at times[0], one step from each time to the next; times may rise or fall."""
    return jax.lax.fori_loop(
        0, len(times) - 1, lambda i, x: step(method, drift, x, times[i], times[i + 1] - times[i]), x
    )
