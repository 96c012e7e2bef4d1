"""Classifier-free guidance (Ho and Salimans, arXiv 2207.12598, equation 6): a function f of the condition becomes

    f(cond) + w (f(cond) - f(null))

in sampling, where null is the condition without the labels that are to be felt more. Diffusion and flow matching: f is
the network, at every evaluation. Flow: the prior's mean and log-std and what each coupling's network gives, so that
every layer stays invertible. Gaussian regression: the mean.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax


class Guided(NamedTuple):
    """Stands where a condition would."""

    cond: Any
    null: Any
    scale: float | jax.Array


def condition(cond: Any, null: Any | None, scale: float | jax.Array) -> Any:
    """What `guided` takes: `cond` itself where there is no `null`."""
    return cond if null is None else Guided(cond, null, scale)


def guided(f: Callable[[Any], Any], cond: Any) -> Any:
    """f(cond), guided where `cond` is Guided. f gives an array or a tree of them."""
    if not isinstance(cond, Guided):
        return f(cond)
    return jax.tree.map(lambda c, n: c + cond.scale * (c - n), f(cond.cond), f(cond.null))
