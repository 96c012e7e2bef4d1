"""A model's parameters as one vector [P], and the layout that gives the pieces their names and shapes back."""

import math
from typing import Any

import jax
import jax.numpy as jnp

Layout = list[tuple[list[str], list[int]]]
"""path and shape of each leaf of a nested dict, in the order of the vector; plain JSON"""


def layout(params: Any) -> Layout:
    """Of arrays or of their abstract shapes."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [([entry.key for entry in path], list(leaf.shape)) for path, leaf in leaves]


def flatten(params: Any) -> jax.Array:
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])


def unflatten(vector: Any, layout: Layout) -> dict:
    """Inverse of flatten, for numpy and (traced) jax arrays."""
    params: dict = {}
    start = 0
    for path, shape in layout:
        size = math.prod(shape)
        branch = params
        for name in path[:-1]:
            branch = branch.setdefault(name, {})
        branch[path[-1]] = vector[start : start + size].reshape(shape)
        start += size
    return params
