"""Monotone rational-quadratic splines with linear tails (Durkan et al., arXiv 1906.04032, section 3.1).

K bins on [-bound, bound] with knots (x_k, y_k) and derivatives d_k > 0 there; in bin k, with width w, height h, slope
s = h / w and theta = (x - x_k) / w,

    y = y_k + h (s theta^2 + d_k t) / (s (1 - 2 t) + (d_k + d_k+1) t),   t = theta (1 - theta)

(the paper's equation 4, its denominator with positive terms alone). Outside the bound the map is the identity, and the
derivative is 1 at the bound, so that it is smooth there. Parameters [..., 3K - 1], unnormalised: widths [K], heights
[K], derivatives of the inner knots [K - 1]; zeros give the identity. Computed in at least float32.
"""

import math

import jax
import jax.numpy as jnp

from tts_gen.layers import wide

MINIMUM = 1e-3
"""of a bin's width and height, as a share of the whole, and of a derivative"""
UNIT_DERIVATIVE = math.log(math.expm1(1 - MINIMUM))
"""MINIMUM + softplus(UNIT_DERIVATIVE) = 1"""


def parameters(bins: int) -> int:
    """How many a spline takes."""
    return 3 * bins - 1


def forward_and_log_det(x: jax.Array, params: jax.Array, bound: float) -> tuple[jax.Array, jax.Array]:
    """x [...], params [..., 3K - 1] -> y [...], log dy/dx [...]."""
    x = wide(x)
    knots_x, knots_y, derivatives = _knots(wide(params), bound)
    inside = jnp.abs(x) <= bound
    # Clipped before it is mapped: what is computed and thrown away must not make the gradient NaN.
    clipped = jnp.clip(x, -bound, bound)
    x_k, w, y_k, h, d0, d1 = _bin(clipped, knots_x, knots_x, knots_y, derivatives)
    theta, s = (clipped - x_k) / w, h / w
    y = y_k + h * (s * theta**2 + d0 * theta * (1 - theta)) / _denominator(theta, s, d0, d1)
    return jnp.where(inside, y, x), jnp.where(inside, _log_derivative(theta, s, d0, d1), 0)


def inverse_and_log_det(y: jax.Array, params: jax.Array, bound: float) -> tuple[jax.Array, jax.Array]:
    """y [...], params [..., 3K - 1] -> x [...], log dx/dy [...]."""
    y = wide(y)
    knots_x, knots_y, derivatives = _knots(wide(params), bound)
    inside = jnp.abs(y) <= bound
    clipped = jnp.clip(y, -bound, bound)
    x_k, w, y_k, h, d0, d1 = _bin(clipped, knots_y, knots_x, knots_y, derivatives)
    # a theta^2 + b theta + c = 0 (equations 6 to 8, divided by h), by the root's form that does not cancel.
    eta, s = (clipped - y_k) / h, h / w
    bend = d0 + d1 - 2 * s
    a, b, c = s - d0 + eta * bend, d0 - eta * bend, -s * eta
    discriminant = jnp.maximum(b**2 - 4 * a * c, jnp.finfo(y.dtype).tiny)
    theta = -2 * c / (b + jnp.sqrt(discriminant))
    x = x_k + w * theta
    return jnp.where(inside, x, y), jnp.where(inside, -_log_derivative(theta, s, d0, d1), 0)


def _knots(params, bound):
    """x and y of the knots and the derivatives there, [..., K + 1] each."""
    bins = (params.shape[-1] + 1) // 3
    widths, heights, inner = jnp.split(params, [bins, 2 * bins], -1)

    def positions(sizes):
        shares = MINIMUM + (1 - MINIMUM * bins) * jax.nn.softmax(sizes)
        edges = bound * (2 * jnp.cumsum(shares, -1)[..., :-1] - 1)
        return _between(edges, -bound, bound)

    return positions(widths), positions(heights), _between(MINIMUM + jax.nn.softplus(inner + UNIT_DERIVATIVE), 1, 1)


def _between(inner, first, last):
    """[..., K - 1] -> [..., K + 1] with a number at either end."""
    end = jnp.ones_like(inner[..., :1])
    return jnp.concatenate([first * end, inner, last * end], -1)


def _bin(value, edges, knots_x, knots_y, derivatives):
    """x_k, width, y_k, height, d_k and d_k+1 of the bin in which each value lies between the edges."""
    k = jnp.sum(value[..., None] >= edges[..., 1:-1], -1)
    # A sum over all bins instead of a gather, whose gradient is a scatter, slow on every device.
    chosen = jax.nn.one_hot(k, edges.shape[-1] - 1, dtype=value.dtype)

    def ends(x):
        return jnp.sum(x[..., :-1] * chosen, -1), jnp.sum(x[..., 1:] * chosen, -1)

    (x0, x1), (y0, y1), (d0, d1) = ends(knots_x), ends(knots_y), ends(derivatives)
    return x0, x1 - x0, y0, y1 - y0, d0, d1


def _denominator(theta, s, d0, d1):
    t = theta * (1 - theta)
    return s * (1 - 2 * t) + (d0 + d1) * t


def _log_derivative(theta, s, d0, d1):
    """log dy/dx (equation 5)."""
    numerator = d1 * theta**2 + 2 * s * theta * (1 - theta) + d0 * (1 - theta) ** 2
    return 2 * jnp.log(s) + jnp.log(numerator) - 2 * jnp.log(_denominator(theta, s, d0, d1))
