"""Kernels as a direction and a scale (weight normalisation), or divided by their largest singular value (spectral
normalisation): functions of a network's parameters, which the network itself does not know.

Sources: Salimans and Kingma, arXiv 1602.07868, 2016; Miyato et al., arXiv 1802.05957, 2018.
"""

import jax
import jax.numpy as jnp

TRANSPOSED = "ups_"
"""begins the names of transposed convolutions, whose scales stand by channel in, as in PyTorch; others' by channel
out"""
ITERATIONS = 10
"""of the power method, from the same vector each time: a step needs no state of the one before"""


def split(params: dict, name: str = "") -> dict:
    """Each kernel v with a `scale` g = |v| beside it."""
    if "kernel" in params:
        return params | {"scale": _norm(params["kernel"], name)}
    return {key: split(value, key) for key, value in params.items()}


def joined(params: dict, name: str = "") -> dict:
    """w = g v / |v|, without the scales: the inverse of `split`, and of any v and g what the network is given."""
    if "kernel" in params:
        kernel = params["kernel"] * (params["scale"] / _norm(params["kernel"], name))
        return {key: value for key, value in params.items() if key != "scale"} | {"kernel": kernel}
    return {key: joined(value, key) for key, value in params.items()}


def _norm(kernel: jax.Array, name: str) -> jax.Array:
    kept = kernel.ndim - (2 if name.startswith(TRANSPOSED) else 1)
    return jnp.sqrt(jnp.sum(kernel**2, [axis for axis in range(kernel.ndim) if axis != kept], keepdims=True))


def spectral(params: dict) -> dict:
    """w / sigma(w), sigma the largest singular value of the kernel as a matrix [all else, channels out], a few per cent
    less where ITERATIONS do not reach it; as in the reference no gradient goes through its singular vectors."""
    if "kernel" not in params:
        return {key: spectral(value) for key, value in params.items()}
    matrix = params["kernel"].reshape(-1, params["kernel"].shape[-1])
    fixed, u = jax.lax.stop_gradient(matrix), jnp.ones(matrix.shape[1])
    for _ in range(ITERATIONS):
        v = _unit(fixed @ u)
        u = _unit(fixed.T @ v)
    return params | {"kernel": params["kernel"] / (v @ matrix @ u)}


def _unit(x: jax.Array) -> jax.Array:
    return x / jnp.maximum(jnp.linalg.norm(x), 1e-12)
