"""Held-out likelihood in bits per dimension of the original features: the yardstick that all families share.

Exact for flow, Gaussian and mixture regression. For L1 and L2 regression the density around the prediction, one scale
per channel fitted on the validation split (log-f0: voiced phonemes and the N(0, 1) stand-ins of unvoiced ones together,
on which all families are scored alike). For families with a solver (diffusion, flow matching) their ODE's, only when
asked for: it takes hundreds of network evaluations, each with a derivative. Where its trace is estimated, every
utterance's estimate has an error of its own, which the interval over utterances therefore holds; its size is logged.
"""

import logging

import jax
import numpy as np

from tts_gen.batches import whole_batches
from tts_gen.evaluation.bootstrap import DRAWS, draws, group_sums, interval
from tts_gen.evaluation.generate import identity_of
from tts_gen.evaluation.grouping import grouped
from tts_gen.evaluation.rows import make_row
from tts_gen.evaluation.split import Split
from tts_gen.runs import Run

log = logging.getLogger(__name__)


def feature_of(run: Run) -> str:
    """The name of what a run's density is of."""
    if run.config.task != "prosody":
        return {"acoustic": "mel", "contour": "contour"}[run.config.task]
    return "log_f0+duration+energy" if run.config.energy else "log_f0+duration"


def bits_per_dim_row(
    run: Run, val: Split, test: Split, groups: np.ndarray, identity: dict, seed: int, ode: bool
) -> dict:
    """One row; `groups` [utterances of test] is what the interval resamples; `ode`: for families with a solver too."""
    feature = feature_of(run)
    if hasattr(run.config.decoder, "solver") and not ode:
        why = "the likelihood of the ODE was not asked for (--ode-likelihood)"
        return make_row(identity, feature, "bits_per_dim", None, n=len(groups), why=why)
    return row_of(run, *log_prob(run, val, test, seed), groups, identity, seed)


def log_prob(run: Run, val: Split, test: Split, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nats of the original features, their standard error, and dimensions, [utterances of test] each; the scale of L1
    and L2 is fitted on val."""
    variables = run.variables
    if not run.config.decoder.generative:
        variables = variables | {"calibration": {"decoder": {"scale": fitted_scale(run, val, seed)}}}
    return _log_prob(run, variables, test, seed)


def identity(run: Run, val: Split, test: Split, seed: int) -> str:
    """All that `log_prob` depends on."""
    return f"{identity_of(run, val, 1, seed)} {identity_of(run, test, 1, seed)}"


def row_of(
    run: Run, nats: np.ndarray, error: np.ndarray, dimensions: np.ndarray, groups: np.ndarray, identity: dict, seed: int
) -> dict:
    """Bits per dimension of what `log_prob` gave."""
    feature, by_ode = feature_of(run), hasattr(run.config.decoder, "solver")
    if lost := np.count_nonzero(~np.isfinite(nats)):
        why = f"the likelihood of {lost} of {len(nats)} utterances is not finite"
        why += " (the ODE's solver ran out of steps, or the network's output is not finite)" if by_ode else ""
        return make_row(identity, feature, "bits_per_dim", None, n=len(groups), why=why)
    group, n_groups = grouped(groups)
    sums = [group_sums(x[:, None], group, n_groups) for x in (-nats / np.log(2), dimensions)]
    estimate = interval(lambda bits, d: (bits / d)[..., 0], sums, draws(n_groups, DRAWS, seed))
    if error.any():
        of_trace = np.sqrt(np.sum(error**2)) / dimensions.sum() / np.log(2)
        log.info("%s: standard error of the ODE's trace %.2g bits per dimension", run.path.name, of_trace)
    return make_row(identity, feature, "bits_per_dim", **estimate._asdict(), n=int(dimensions.sum()))


def _log_prob(run: Run, variables: dict, split: Split, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nats, their standard error, and dimensions, [utterances] each."""
    found = np.zeros((3, len(split.utterances)))
    for i, (places, batch) in enumerate(whole_batches(split.read_by(run).utterances, run.stats, run.config.task)):
        rng = jax.random.fold_in(jax.random.key(seed), i)
        found[:, places] = [x[: len(places)] for x in run.log_prob(variables, batch, rng)]
    return tuple(found)


def fitted_scale(run: Run, val: Split, seed: int) -> np.ndarray:
    """Maximum-likelihood scale of each channel [C] on the validation split: mean |residual| (L1), root mean square
    (L2)."""
    total, count = 0.0, 0.0
    residual = jax.jit(lambda v, b, r: run.task.apply(v, b, r, method="residual"))
    for i, (_, batch) in enumerate(whole_batches(val.read_by(run).utterances, run.stats, run.config.task)):
        error, mask = residual(run.variables, batch, jax.random.fold_in(jax.random.key(seed), i))
        size = np.abs(error) if run.label == "l1" else np.square(error)
        total, count = total + np.sum(size * mask[..., None], (0, 1)), count + np.sum(mask)
    mean = total / count
    return mean if run.label == "l1" else np.sqrt(mean)
