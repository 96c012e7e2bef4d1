"""bfloat16: nearly every matrix product runs in it, and losses, gradients and training are as in float32."""

import json
import math
from collections import Counter
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import away_from_start, mean_loss, small_config, small_decoder

from tts_gen import fit, tasks
from tts_gen.batches import TrainingBatches
from tts_gen.config import Encoder
from tts_gen.decoders import DECODERS

KEY = jax.random.key(0)
TASKS = ["prosody", "acoustic"]
VITS = {"coupling": "spline", "conditioner": "dds", "mixing": "flip", "prior": "standard"}
KINDS = [
    *((family, {}) for family in DECODERS),
    ("regression", {"loss": "gaussian"}),
    ("flow", {"coupling": "spline"}),
    ("flow", VITS),
    ("diffusion", {"prior_mean": "predicted"}),
    *((family, {"network": name}) for family in ("diffusion", "flow_matching") for name in ("unet2d", "matcha")),
]
"""without mdn, whose heads, float32 as those of all densities, are a seventh of its arithmetic on mels"""
WIDTHS = {"unet": (128, 192), "unet2d": (64, 128), "matcha": (128, 192)}
SMALL = {"unet2d": {"widths": (8, 16), "heads": 2, "head_width": 8}, "matcha": {"widths": (8, 16), "head_width": 8}}


class Built:
    """A task, its initialisation and its mean loss as functions of a batch of it."""

    def __init__(self, store, config, stats=None):
        self.task = tasks.build(config, store.inventory, stats or store.stats)
        self.batch = TrainingBatches(store, config)[0]

    def init(self, batch):
        return self.task.init(KEY, batch, KEY, False, method="loss")

    def loss(self, variables, batch):
        return mean_loss(self.task, variables, batch, KEY, True)


def half(variables):
    return jax.tree.map(lambda x: x.astype(jnp.bfloat16), variables)


def operations(jaxpr, found: Counter) -> Counter:
    """Adds the floating-point operations of all matrix products and convolutions, by the operands' dtypes."""
    for eqn in jaxpr.eqns:
        depth, operands = 0, [v.aval for v in eqn.invars]
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            depth = math.prod(operands[0].shape[i] for i in contracted)
        elif eqn.primitive.name == "conv_general_dilated":
            depth = operands[1].size // operands[1].shape[eqn.params["dimension_numbers"].rhs_spec[0]]
        if depth:
            found[tuple(str(x.dtype) for x in operands)] += 2 * depth * eqn.outvars[0].aval.size
        for value in jax.tree.leaves(list(eqn.params.values())):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                operations(inner, found)
    return found


@pytest.mark.parametrize("kind, task", [(kind, TASKS[i % 2]) for i, kind in enumerate(KINDS)], ids=str)
def test_matrix_products_run_in_bfloat16(store, kind, task):
    """Of a gradient, at the default widths and with 80 mel bins. The rest: heads of densities, 1x1 convolutions."""
    family, changes = kind
    if hasattr(DECODERS[family], "widths"):
        changes = {"widths": WIDTHS[changes.get("network", "unet")]} | changes
    many = {name: np.tile(getattr(store.stats, name), 10) for name in ("mel_mean", "mel_std")}
    config = replace(small_config(task, family), encoder=Encoder(), decoder=DECODERS[family](**changes))
    built = Built(store, config, replace(store.stats, **many))
    batch = {name: np.tile(x, 10) if name == "mel" else x for name, x in built.batch.items()}
    variables = jax.eval_shape(lambda: half(built.init(batch)))
    found = operations(jax.make_jaxpr(jax.grad(built.loss))(variables, batch).jaxpr, Counter())
    assert found["bfloat16", "bfloat16"] > 0.95 * found.total() > 0, found


@pytest.mark.parametrize("kind, task", [(k, TASKS[i % 2]) for i, k in enumerate(KINDS[: len(DECODERS)])], ids=str)
def test_losses_and_gradients_are_nearly_those_of_float32(store, kind, task):
    family, changes = kind
    decoder = small_decoder(family, **SMALL.get(changes.get("network"), {}) | changes)
    built = Built(store, replace(small_config(task, family), decoder=decoder))
    step = jax.jit(jax.value_and_grad(built.loss))
    variables = away_from_start(built.init, built.batch, scale=0.02)
    (loss, gradient), (near, near_gradient) = step(variables, built.batch), step(half(variables), built.batch)
    assert near.dtype == jnp.float32
    np.testing.assert_allclose(near, loss, rtol=0.02)
    a, b = (np.concatenate([np.ravel(x).astype(float) for x in jax.tree.leaves(g)]) for g in (gradient, near_gradient))
    assert np.linalg.norm(a - b) < 0.15 * np.linalg.norm(a)


def test_training_lowers_the_loss_as_in_float32(store, tmp_path):
    losses = {}
    for precision in ("float32", "bfloat16"):
        config = small_config(features=store.root, buckets=(16,), steps=60, save_every=60, precision=precision)
        fit.train(config, tmp_path / precision)
        rows = [json.loads(line) for line in (tmp_path / precision / "metrics.jsonl").read_text().splitlines()]
        losses[precision] = np.array([row["loss"] for row in rows])
        assert losses[precision][-10:].mean() < 0.8 * losses[precision][:10].mean()
    assert not np.array_equal(*losses.values())
    np.testing.assert_allclose(losses["bfloat16"], losses["float32"], rtol=0.02)
