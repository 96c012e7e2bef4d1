"""Random numbers by utterance: what a row of a batch draws depends on the key and on its place in the global batch.

So a training step is the same on one device and on many, and whether its batch is taken whole or in parts. Wherever a
`rng` is used up here it may be a key, whose rows are 0, 1, ... of a whole batch, a Rows, or (in sampling) a Given.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp


@partial(jax.tree_util.register_dataclass, data_fields=("key", "row"), meta_fields=("of",))
@dataclass(frozen=True)
class Rows:
    """Stands where a key would."""

    key: jax.Array
    row: jax.Array
    """[B] places in the global batch"""
    of: int
    """rows of the global batch"""


@dataclass(frozen=True)
class Given:
    """Stands where a key would, for models that are to run without jax.random: whoever runs them has drawn.

    `source(kind, path, shape)` gives the "normal", "gumbel" or "uniform" numbers [B, ...]; `path` says which of the
    keys: the places in `split` and the numbers of `fold_in`, traced ones too, that led to it.
    """

    source: Callable[[str, tuple[int | jax.Array, ...], tuple[int, ...]], jax.Array]
    path: tuple[int | jax.Array, ...] = ()


Rng = jax.Array | Rows | Given


def split(rng: Rng, n: int) -> list[Rng]:
    if isinstance(rng, Given):
        return [fold_in(rng, i) for i in range(n)]
    if not isinstance(rng, Rows):
        return list(jax.random.split(rng, n))
    return [Rows(key, rng.row, rng.of) for key in jax.random.split(rng.key, n)]


def fold_in(rng: Rng, data: int | jax.Array) -> Rng:
    if isinstance(rng, Given):
        return Given(rng.source, (*rng.path, data))
    if not isinstance(rng, Rows):
        return jax.random.fold_in(rng, data)
    return Rows(jax.random.fold_in(rng.key, data), rng.row, rng.of)


def _rows(rng: Rng, batch: int) -> Rows:
    return rng if isinstance(rng, Rows) else Rows(rng, jnp.arange(batch), batch)


def _draw(sampler: Callable, rng: Rng, shape: tuple[int, ...], dtype) -> jax.Array:
    if isinstance(rng, Given):
        return rng.source(sampler.__name__, rng.path, shape).astype(dtype)
    rows = _rows(rng, shape[0])
    one = lambda row: sampler(jax.random.fold_in(rows.key, row), shape[1:], dtype)  # noqa: E731
    return jax.vmap(one)(rows.row)


def normal(rng: Rng, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """N(0, 1) [B, ...]."""
    return _draw(jax.random.normal, rng, shape, dtype)


def gumbel(rng: Rng, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """Gumbel(0, 1) [B, ...]."""
    return _draw(jax.random.gumbel, rng, shape, dtype)


def uniform(rng: Rng, shape: tuple[int, ...], dtype=jnp.float32) -> jax.Array:
    """U(0, 1) [B, ...]."""
    return _draw(jax.random.uniform, rng, shape, dtype)


def stratified(rng: Rng, batch: int) -> jax.Array:
    """U(0, 1) [B]: one draw, spread evenly over the global batch, is uniform for each row and steadier for their
    mean."""
    rows = _rows(rng, batch)
    return (jax.random.uniform(rows.key) + rows.row / rows.of) % 1.0


def dropout_masks(
    rng: Rng | None, rate: float, n: int, shape: tuple[int, ...], dtype=jnp.float32
) -> list[jax.Array | float]:
    """`n` factors for inverted dropout of arrays of `shape` [B, ...] and `dtype`; `rng` None means evaluation, factors
    of 1.

    All are drawn at once, a byte each: a draw for every layer costs XLA on CPU more to compile than the layer itself.
    """
    if rng is None or rate == 0:
        return [1.0] * n
    dropped = round(rate * 256)
    size = math.prod(shape[1:])
    keep = _draw(jax.random.bits, rng, (shape[0], n * size), jnp.uint8) >= dropped
    factors = keep.astype(dtype) * (256 / (256 - dropped))
    return [factors[:, i * size : (i + 1) * size].reshape(shape) for i in range(n)]
