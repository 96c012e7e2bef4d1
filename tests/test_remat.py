"""train.remat: the same parameters, losses and gradients, with less kept for the backward pass."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from models import make_store, mean_loss, randomised, small_config, with_train

from tts_gen import tasks
from tts_gen.batches import TrainingBatches
from tts_gen.decoders import DECODERS

KEY = jax.random.key(0)
NETWORKS = [("diffusion", {"network": "unet2d"}), ("flow_matching", {"network": "matcha"})]
KINDS = [*((family, {}) for family in DECODERS), *NETWORKS]
DEEP = {"regression": {"layers": 6}, "flow": {"steps": 6}}
"""enough blocks that what they keep is most of what is kept"""


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_the_same_gradient_from_less_memory(store, kind):
    family, changes = kind
    changes = changes | DEEP.get(family, {})
    if changes.get("network"):
        changes |= {"widths": (16, 24), "heads": 2, "head_width": 8}
    plain = small_config("acoustic", family)
    plain = replace(plain, decoder=replace(plain.decoder, **changes), encoder=replace(plain.encoder, layers=3))
    tasks_of = {on: tasks.build(with_train(plain, remat=on), store.inventory, store.stats) for on in (False, True)}
    batch = TrainingBatches(store, plain)[0]
    variables = jax.jit(lambda b: tasks_of[False].init(KEY, b, KEY, False, method="loss"))(batch)
    variables, gradients, kept = randomised(variables), {}, {}
    for on, task in tasks_of.items():
        loss = lambda v: mean_loss(task, v, batch, KEY, True)  # noqa: B023, E731
        gradients[on] = jax.jit(jax.value_and_grad(loss))(variables)
        # XLA on CPU lets go of the barriers before it schedules: its own account of memory shows no difference there.
        residuals = jax.eval_shape(lambda v: jax.vjp(loss, v)[1], variables)  # noqa: B023
        kept[on] = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(residuals))
    (loss, grads), (loss2, grads2) = gradients[False], gradients[True]
    np.testing.assert_allclose(loss, loss2, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), grads, grads2)
    assert kept[True] < 0.7 * kept[False], kept
