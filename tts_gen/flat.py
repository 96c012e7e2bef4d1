"""A model's parameters as one vector [P], and the layout that gives the pieces their names and shapes back.

Kernels come first, so that weight decay is a matter of where the vector is cut. Zeros at the end make P a multiple of
MULTIPLE, whatever the topology: the vector can be split over any number of devices that divides it.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

MULTIPLE = 1024

Layout = list[tuple[list[str], list[int]]]
"""path and shape of each leaf of a nested dict, in the order of the vector; plain JSON"""


def layout(params: Any) -> Layout:
    """Of arrays or of their abstract shapes."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    entries = [([entry.key for entry in path], list(leaf.shape)) for path, leaf in leaves]
    return sorted(entries, key=lambda entry: (entry[0][-1] != "kernel", entry[0]))


def kernels(layout: Layout) -> int:
    """Length of the part of the vector that holds the kernels of dense layers and convolutions."""
    return sum(math.prod(shape) for path, shape in layout if path[-1] == "kernel")


def flatten(params: Any) -> jax.Array:
    leaves = {tuple(entry.key for entry in path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    pieces = [leaves[tuple(path)].ravel() for path, _ in layout(params)]
    padding = -sum(piece.size for piece in pieces) % MULTIPLE
    return jnp.concatenate([*pieces, jnp.zeros(padding, pieces[0].dtype)])


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
