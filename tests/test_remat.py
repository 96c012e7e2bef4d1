"""train.remat: the same parameters, losses and gradients, with less kept for the backward pass."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from models import mean_loss, randomised, small_config, with_train

from tts_gen import tasks
from tts_gen.batches import TrainingBatches
from tts_gen.decoders import DECODERS

KEY = jax.random.key(0)
NETWORKS = [("diffusion", {"network": "unet2d"}), ("flow_matching", {"network": "matcha"})]
KINDS = [*((family, {}) for family in DECODERS), *NETWORKS]
DEEP = {"regression": {"layers": 6}, "flow": {"steps": 6}}
"""enough blocks that what they keep is most of what is kept"""


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_less_is_kept(store, kind):
    losses, variables = built(store, *kind, DEEP.get(kind[0], {}))
    # XLA on CPU lets go of the barriers before it schedules: its own account of memory shows no difference there.
    residuals = {on: jax.eval_shape(lambda v, loss=loss: jax.vjp(loss, v)[1], variables) for on, loss in losses.items()}
    kept = {on: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) for on, tree in residuals.items()}
    assert kept[True] < 0.7 * kept[False], kept


@pytest.mark.parametrize("kind", [("flow", {}), NETWORKS[1]], ids=str)
def test_the_same_gradient(store, kind):
    losses, shapes = built(store, *kind, {})
    variables = randomised(jax.tree.map(lambda x: np.zeros(x.shape, np.float32), shapes))
    (loss, grads), (loss2, grads2) = (jax.jit(jax.value_and_grad(f))(variables) for f in losses.values())
    np.testing.assert_allclose(loss, loss2, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), grads, grads2)


def built(store, family, changes, deep):
    """The mean loss as a function of variables, without and with remat, and the variables' shapes."""
    changes = changes | deep
    if changes.get("network"):
        changes |= {"widths": (16, 24), "heads": 2, "head_width": 8}
    plain = small_config("acoustic", family)
    plain = replace(plain, decoder=replace(plain.decoder, **changes), encoder=replace(plain.encoder, layers=3))
    tasks_of = {on: tasks.build(with_train(plain, remat=on), store.inventory, store.stats) for on in (False, True)}
    batch = TrainingBatches(store, plain)[0]
    shapes = jax.eval_shape(lambda b: tasks_of[False].init(KEY, b, KEY, False, method="loss"), batch)
    return {on: lambda v, task=task: mean_loss(task, v, batch, KEY, True) for on, task in tasks_of.items()}, shapes
