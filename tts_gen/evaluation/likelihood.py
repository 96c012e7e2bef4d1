"""Held-out likelihood in bits per dimension of the original features: the yardstick that all families share.

Exact for the flow; for regression the density around its prediction, one scale per channel fitted on the validation
split
(log-f0: voiced phonemes and the N(0, 1) stand-ins of unvoiced ones together, on which all families are scored alike);
for
diffusion
the probability-flow ODE's, estimated, only when asked for: it takes hundreds of network evaluations.
"""

import jax
import numpy as np

from tts_gen.batches import whole_batches
from tts_gen.evaluation.bootstrap import draws, group_sums, interval
from tts_gen.evaluation.generate import Split
from tts_gen.evaluation.rows import make_row
from tts_gen.runs import Run

FEATURE = {"prosody": "log_f0+duration", "acoustic": "mel"}


def bits_per_dim_row(
    run: Run, val: Split, test: Split, groups: np.ndarray, identity: dict, seed: int, ode: bool
) -> dict:
    """One row; `groups` [utterances of test] is what the interval resamples; `ode`: for diffusion too."""
    if run.label == "diffusion" and not ode:
        why = "the likelihood of the ODE was not asked for (--ode-likelihood)"
        return make_row(identity, FEATURE[run.config.task], "bits_per_dim", None, n=len(groups), why=why)
    variables = run.variables
    if run.label in ("l1", "l2"):
        variables = variables | {"calibration": {"decoder": {"scale": fitted_scale(run, val, seed)}}}
    nats, dimensions = _log_prob(run, variables, test, seed)
    names, group = np.unique(groups, return_inverse=True)
    sums = [group_sums(x[:, None], group, len(names)) for x in (-nats / np.log(2), dimensions)]
    estimate = interval(lambda bits, d: (bits / d)[..., 0], sums, draws(len(names), 200, seed))
    return make_row(identity, FEATURE[run.config.task], "bits_per_dim", **estimate._asdict(), n=int(dimensions.sum()))


def _log_prob(run: Run, variables: dict, split: Split, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nats and dimensions [utterances]."""
    nats, dimensions = np.zeros((2, len(split.utterances)))
    for i, (places, batch) in enumerate(whole_batches(split.utterances, run.stats, run.config.task)):
        rng = jax.random.fold_in(jax.random.key(seed), i)
        value, _, count = run.log_prob(variables, batch, rng)
        nats[places], dimensions[places] = value[: len(places)], count[: len(places)]
    return nats, dimensions


def fitted_scale(run: Run, val: Split, seed: int) -> np.ndarray:
    """Maximum-likelihood scale of each channel [C] on the validation split: mean |residual| (L1), root mean square
    (L2)."""
    total, count = 0.0, 0.0
    residual = jax.jit(lambda v, b, r: run.task.apply(v, b, r, method="residual"))
    for i, (_, batch) in enumerate(whole_batches(val.utterances, run.stats, run.config.task)):
        error, mask = residual(run.variables, batch, jax.random.fold_in(jax.random.key(seed), i))
        size = np.abs(error) if run.label == "l1" else np.square(error)
        total, count = total + np.sum(size * mask[..., None], (0, 1)), count + np.sum(mask)
    mean = total / count
    return mean if run.label == "l1" else np.sqrt(mean)
