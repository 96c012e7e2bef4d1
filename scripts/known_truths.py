"""Trains every family on data whose density is known, and compares: held-out bits per dimension, moments, mode shares.

    python scripts/known_truths.py [--steps 4000] [--only flow_spline,diffusion]

Two problems, both conditional (c ~ N(0, I), four positions, two channels, one network for all c):

- gaussian:  y = W c + A eps, A lower triangular: correlated channels.
- mixture:   y = s m + W c + 0.3 eps, the mode s = +-1 with P(s = 1 | c) = sigmoid(2 c_0): two far modes.

The excess is the mean of log2 p(y | c) - log2 q(y | c) over held-out data, per dimension: what a model with the true
density would not pay. A regression cannot reach 0: theory's excess of L2 with one fitted scale per channel, and of a
Gaussian with the true conditional mean and variance, stand beside it. About half an hour on 2 CPU cores, most
of it for the ODE likelihoods.
"""

import argparse
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tts_gen.decoders import DECODERS

L, C, D = 4, 2, 4
W = np.array([[0.7, -0.3, 0.0, 0.2], [0.1, 0.5, -0.6, 0.0]], np.float32)
A = np.array([[0.5, 0.0], [0.3, 0.2]], np.float32)
M = np.array([1.0, -0.6], np.float32)
NOISE = 0.3

DECODER = {
    "l2": ("regression", {"loss": "l2", "width": 64, "layers": 2, "kernel": 1}),
    "gaussian": ("regression", {"loss": "gaussian", "width": 64, "layers": 2, "kernel": 1}),
    "mdn": ("regression", {"loss": "mdn", "width": 64, "layers": 2, "kernel": 1}),
    "flow_affine": ("flow", {"steps": 6, "squeeze": 1, "groups_of": 2, "width": 64, "layers": 2}),
    "flow_spline": ("flow", {"steps": 4, "squeeze": 1, "groups_of": 2, "width": 64, "layers": 2, "coupling": "spline"}),
    "diffusion": ("diffusion", {"widths": (64, 64), "heads": 2}),
    "flow_matching": ("flow_matching", {"widths": (64, 64), "heads": 2}),
}
"""name -> family, settings (dropout is off: data does not run out)"""


@dataclass(frozen=True)
class Problem:
    """`draw(rng, n)` -> cond [n, L, D], y [n, L, C]; `log_density(y, cond)` -> [n, L] nats; `theory`: excess bits of L2
    and of the Gaussian head."""

    draw: Callable
    log_density: Callable
    theory: Callable


def _normal_log_density(r, a):
    """log N(r; 0, a a^T) for r [..., C]."""
    z = r @ np.linalg.inv(a).T
    return -0.5 * np.sum(z**2, -1) - np.log(abs(np.linalg.det(a))) - C / 2 * np.log(2 * np.pi)


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _draw_gaussian(rng, n):
    cond, eps = rng.standard_normal((n, L, D)), rng.standard_normal((n, L, C))
    return cond, cond @ W.T + eps @ A.T


def _draw_mixture(rng, n):
    cond, eps = rng.standard_normal((n, L, D)), rng.standard_normal((n, L, C))
    s = np.where(rng.random((n, L)) < _sigmoid(2 * cond[..., 0]), 1.0, -1.0)
    return cond, s[..., None] * M + cond @ W.T + NOISE * eps


def _mixture_log_density(y, cond):
    r, p = y - cond @ W.T, _sigmoid(2 * cond[..., 0])
    a = NOISE * np.eye(C)
    return np.logaddexp(np.log(p) + _normal_log_density(r - M, a), np.log1p(-p) + _normal_log_density(r + M, a))


def _gaussian_theory(cond):
    """The covariance does not depend on c, so both pay for its neglected correlation alone."""
    excess = 0.5 * np.mean(np.log2(np.diag(A @ A.T))) - np.log2(abs(np.linalg.det(A))) / C
    return {"l2": excess, "gaussian": excess}


def _mixture_theory(cond):
    p = _sigmoid(2 * cond[..., 0])[..., None]
    variance = 4 * p * (1 - p) * M**2 + NOISE**2
    bits = lambda v: 0.5 * np.log2(2 * np.pi * np.e * v)  # noqa: E731
    y = _draw_given(cond)
    entropy = -np.mean(_mixture_log_density(y, cond)) / np.log(2) / C
    return {"l2": np.mean(bits(variance.mean((0, 1)))) - entropy, "gaussian": np.mean(bits(variance)) - entropy}


def _draw_given(cond):
    rng = np.random.default_rng(5)
    s = np.where(rng.random(cond.shape[:2]) < _sigmoid(2 * cond[..., 0]), 1.0, -1.0)
    return s[..., None] * M + cond @ W.T + NOISE * rng.standard_normal((*cond.shape[:2], C))


PROBLEMS = {
    "gaussian": Problem(_draw_gaussian, lambda y, c: _normal_log_density(y - c @ W.T, A), _gaussian_theory),
    "mixture": Problem(_draw_mixture, _mixture_log_density, _mixture_theory),
}


def train(name: str, problem: Problem, steps: int, rows: int = 128, seed: int = 0):
    """The decoder's module and the running mean of its parameters, after `steps` steps of Adam."""
    family, settings = DECODER[name]
    module = DECODERS[family](**settings, dropout=0.0).build(C)
    mask, optimizer = jnp.ones((rows, L)), optax.adam(optax.cosine_decay_schedule(2e-3, steps, 0.01))

    @functools.partial(jax.jit, donate_argnums=0)
    def step(state, cond, y, i):
        params, ema, optimizer_state = state
        rng = jax.random.fold_in(jax.random.key(seed), i)
        mean = lambda p: module.apply(p, y, cond, mask, rng, True, method="loss").mean()  # noqa: E731
        updates, optimizer_state = optimizer.update(jax.grad(mean)(params), optimizer_state)
        params = optax.apply_updates(params, updates)
        decay = jnp.minimum(0.998, (1.0 + i) / (10.0 + i))
        return params, jax.tree.map(lambda a, b: decay * a + (1 - decay) * b, ema, params), optimizer_state

    rng = np.random.default_rng(seed)
    batch = lambda: [x.astype(np.float32) for x in problem.draw(rng, rows)]  # noqa: E731
    cond, y = batch()
    init = jax.jit(
        lambda y, cond: module.init(jax.random.key(seed), y, cond, mask, jax.random.key(0), True, method="loss")
    )
    params = init(y, cond)
    state = (params, jax.tree.map(jnp.copy, params), optimizer.init(params))
    for i in range(steps):
        cond, y = batch()
        state = step(state, cond, y, jnp.int32(i))
    return module, state[1]


def evaluate(name: str, module, variables, problem: Problem, n: int = 1024, seed: int = 1) -> dict[str, float]:
    """Excess bits per dimension with its standard error, and what samples at temperature 1 have beside the truth."""
    cond, y = (x.astype(np.float32) for x in problem.draw(np.random.default_rng(seed), n))
    mask = jnp.ones((n, L))
    apply = lambda method, *args: jax.jit(functools.partial(module.apply, method=method))(variables, *args)  # noqa: E731
    if name == "l2":
        fit_cond, fit_y = (x.astype(np.float32) for x in problem.draw(np.random.default_rng(seed + 1), n))
        residual = fit_y - apply("sample", fit_cond, mask, jax.random.key(0), 0.0)
        variables = variables | {"calibration": {"scale": np.sqrt(np.mean(residual**2, (0, 1)))}}
    value, _ = apply("log_prob", y, cond, mask, jax.random.key(seed))
    gain = (problem.log_density(y.astype(float), cond.astype(float)).sum(1) - np.asarray(value)) / np.log(2) / (L * C)
    generated = np.asarray(apply("sample", cond, mask, jax.random.key(seed + 2), 1.0), float)
    centred, truth = generated - cond @ W.T, y - cond @ W.T
    return {
        "excess": gain.mean(),
        "error": gain.std() / n**0.5,
        "std_ratio": np.mean(generated.std((0, 1)) / y.std((0, 1))),
        "correlation": np.corrcoef(centred.reshape(-1, C).T)[0, 1],
        "true_correlation": np.corrcoef(truth.reshape(-1, C).T)[0, 1],
        "mode_share": np.mean(centred @ M > 0),
        "true_mode_share": np.mean(truth @ M > 0),
        "between_modes": np.mean(np.abs(centred @ M) < 0.5 * M @ M),
        "true_between_modes": np.mean(np.abs(truth @ M) < 0.5 * M @ M),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--only", default=",".join(DECODER), help="comma list of " + ", ".join(DECODER))
    options = parser.parse_args()
    for title, problem in PROBLEMS.items():
        theory = problem.theory(problem.draw(np.random.default_rng(9), 50_000)[0])
        print(f"\n{title}: bits per dimension above the truth's (standard error), samples beside the truth")
        for name in options.only.split(","):
            start = time.monotonic()
            module, variables = train(name, problem, options.steps)
            r = evaluate(name, module, variables, problem)
            expected = f"  theory {theory[name]:.3f}" if name in theory else ""
            print(
                f"  {name:14s} {r['excess']:+.4f} ({r['error']:.4f}){expected}  std ratio {r['std_ratio']:.3f}  "
                f"correlation {r['correlation']:+.3f} / {r['true_correlation']:+.3f}  "
                f"share of one mode {r['mode_share']:.3f} / {r['true_mode_share']:.3f}  "
                f"between modes {r['between_modes']:.3f} / {r['true_between_modes']:.3f}  "
                f"{time.monotonic() - start:.0f} s",
                flush=True,
            )


if __name__ == "__main__":
    main()
