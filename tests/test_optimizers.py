"""Optimisers on the flat vector against optax on the tree, schedules, frozen parts, accumulation and topologies."""

import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tts_gen import flat, optimizers, parallel, steps
from tts_gen.config import Train, UserError

PARAMS = {
    "encoder": {"speaker": {"embedding": np.full((3, 2), 0.3, np.float32)}, "Dense_0": {
        "kernel": np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), "bias": np.full(3, 0.5, np.float32)}},
    "decoder": {"kernel": np.linspace(1, 2, 6, dtype=np.float32).reshape(3, 2), "bias": np.ones(2, np.float32)},
}  # fmt: skip
LAYOUT = flat.layout(PARAMS)


def gradient(seed: int) -> dict:
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), PARAMS)


def run(c: Train, n: int = 4) -> dict:
    """Parameters after n updates."""
    optimizer, vector = optimizers.make(c, LAYOUT), flat.flatten(PARAMS)
    state = optimizer.init(vector)
    for i in range(n):
        updates, state = optimizer.update(flat.flatten(gradient(i)), state, vector, step=i)
        vector = vector + updates
    return flat.unflatten(vector, LAYOUT)


def settings(**changes) -> Train:
    return Train(**{"warmup": 0, "decay": "constant", "learning_rate": 0.1, "clip": 1e9, "weight_decay": 0.0} | changes)


REFERENCES = {
    "adamw": optax.adam(0.1, b2=0.98),
    "gan_adamw": optax.adam(0.1, b1=0.8, b2=0.99),
    "nadamw": optax.nadam(0.1, b2=0.98),
    "radam": optax.radam(0.1, b2=0.98),
    "adabelief": optax.adabelief(0.1, b2=0.98),
    "lion": optax.lion(0.1, weight_decay=0.0),
    "rmsprop": optax.rmsprop(0.1),
    "sgd": optax.sgd(0.1, momentum=0.9),
}


def test_the_setting_lists_them():
    assert set(typing.get_args(typing.get_type_hints(Train)["optimizer"])) == set(optimizers.METHODS)


@pytest.mark.parametrize("name", optimizers.METHODS)
def test_each_is_optaxs_own_on_the_tree(name):
    params, reference = PARAMS, REFERENCES[name]
    state = reference.init(params)
    for i in range(4):
        updates, state = reference.update(gradient(i), state, params)
        params = optax.apply_updates(params, updates)
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)  # noqa: E731
    jax.tree.map(close, run(settings(optimizer=name)), params)


@pytest.mark.parametrize("on", ["kernels", "all"])
def test_weight_decay_is_adamws_on_what_it_is_for(on):
    mask = jax.tree.map_with_path(lambda path, _: on == "all" or path[-1].key == "kernel", PARAMS)
    reference = optax.adamw(0.1, b2=0.98, weight_decay=0.2, mask=mask)
    params, state = PARAMS, reference.init(PARAMS)
    for i in range(4):
        updates, state = reference.update(gradient(i), state, params)
        params = optax.apply_updates(params, updates)
    found = run(settings(weight_decay=0.2, decay_on=on))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), found, params)


def test_the_norm_that_is_clipped_is_of_the_whole():
    clipped = run(settings(optimizer="sgd", clip=0.5), n=1)
    norm = optax.tree.norm(jax.tree.map(lambda a, b: a - b, clipped, PARAMS))
    np.testing.assert_allclose(norm, 0.5 * 0.1, rtol=1e-5)


@pytest.mark.parametrize("frozen", [("encoder",), ("encoder/speaker", "decoder"), ("decoder/bias",)])
def test_frozen_parts_stay(frozen):
    found = run(settings(frozen=frozen, weight_decay=0.5, decay_on="all"))
    for path, leaf in jax.tree.leaves_with_path(PARAMS):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        moved = np.any(flat_leaf(found, path) != leaf)
        assert moved != any(name.startswith(f"{f}/") or name == f for f in frozen), name


def flat_leaf(tree: dict, path) -> np.ndarray:
    for entry in path:
        tree = tree[entry.key]
    return tree


def test_frozen_gradients_do_not_count_in_the_norm():
    alone = run(settings(optimizer="sgd", clip=0.5, frozen=("encoder",)), n=1)
    moved = optax.tree.norm(jax.tree.map(lambda a, b: a - b, alone, PARAMS))
    np.testing.assert_allclose(moved, 0.05, rtol=1e-5)


def test_what_is_frozen_must_exist():
    with pytest.raises(UserError, match="the model has no parameters 'encodr'; it has decoder, encoder, encoder/De"):
        optimizers.make(settings(frozen=("encodr",)), LAYOUT)


def test_schedules():
    rate = {kind: optimizers.schedule(Train(learning_rate=2.0, warmup=10, decay=kind, decay_steps=100))
            for kind in ("cosine", "linear", "constant", "rsqrt")}  # fmt: skip
    for schedule in rate.values():
        np.testing.assert_allclose([schedule(n) for n in (0, 5, 10)], [0, 1, 2], rtol=1e-6)
    for kind, expected in {"cosine": (1.05, 0.1), "linear": (1.05, 0.1), "constant": (2, 2)}.items():
        np.testing.assert_allclose([rate[kind](55), rate[kind](100)], expected, rtol=1e-6)
    at = np.array([40, 1000])
    np.testing.assert_allclose([rate["rsqrt"](n) for n in at], 2 * (10 / at) ** 0.5, rtol=1e-6)


# A step


def loss_fn(params, batch, rng, train):
    y = batch["x"] @ params["encoder"]["Dense_0"]["kernel"] + params["encoder"]["Dense_0"]["bias"]
    y = jnp.tanh(y) @ params["decoder"]["kernel"] + params["decoder"]["bias"]
    return jnp.sum((y - batch["y"]) ** 2, 1), batch["count"]


@pytest.mark.parametrize("change", [{"accumulate": 4}, {"fsdp": jax.device_count()}, {"precision": "bfloat16"}])
def test_a_step_in_parts_split_or_in_half_precision(change):
    """Rows count differently, so means of means would be wrong."""
    rng = np.random.default_rng(0)
    batch = {"x": rng.normal(size=(16, 4)), "y": rng.normal(size=(16, 2)), "count": rng.integers(1, 9, 16)}
    batch = {name: value.astype(np.float32) for name, value in batch.items()}

    def after(c):
        mesh = parallel.make_mesh(c.fsdp)
        make = steps.make_init(lambda rng, batch: jax.tree.map(jnp.asarray, PARAMS), LAYOUT, c)
        whole = parallel.global_batch(mesh, batch)
        state = jax.jit(make, out_shardings=parallel.split_state(mesh, jax.eval_shape(make, whole)))(whole)
        return jax.jit(steps.make_step(loss_fn, LAYOUT, c, mesh))(state, whole)

    (one, a), (other, b) = after(settings()), after(settings(**change))
    close = {"rtol": 5e-2, "atol": 5e-2} if "precision" in change else {"rtol": 1e-5, "atol": 1e-5}
    np.testing.assert_allclose(a["loss"], b["loss"], **close)
    np.testing.assert_allclose(a["gradient_norm"], b["gradient_norm"], **close)
    if "precision" not in change:  # Adam's first step is the gradient's sign
        np.testing.assert_allclose(one.params, other.params, **close)
    assert other.params.dtype == jnp.float32
    total = np.sum(np.asarray(loss_fn(PARAMS, batch, None, True)[0])) / batch["count"].sum()
    np.testing.assert_allclose(a["loss"], total, rtol=1e-5)


def test_the_rate_is_the_steps_where_steps_are_skipped():
    c = settings(optimizer="sgd", warmup=10, learning_rate=1.0)
    mesh, batch = parallel.make_mesh(1), {name: np.ones((4, n), np.float32) for name, n in (("x", 4), ("y", 2))}
    batch["count"] = np.ones(4, np.float32)
    whole = parallel.global_batch(mesh, batch)
    state = jax.jit(steps.make_init(lambda rng, batch: jax.tree.map(jnp.asarray, PARAMS), LAYOUT, c))(whole)
    step = jax.jit(steps.make_step(loss_fn, LAYOUT, c, mesh))
    bad = parallel.global_batch(mesh, batch | {"y": np.full((4, 2), np.nan, np.float32)})
    for _ in range(6):
        state = step(state, bad)[0]
    assert state.skipped == 6
    after, metrics = step(state, whole)
    moved = optax.tree.norm(after.params - state.params)
    np.testing.assert_allclose(moved, 0.6 * metrics["gradient_norm"], rtol=1e-5)


def test_the_flat_vector_divides_and_has_its_kernels_first():
    vector = flat.flatten(PARAMS)
    assert vector.size % flat.MULTIPLE == 0 and flat.kernels(LAYOUT) == 18
    kernels = np.concatenate([PARAMS["decoder"]["kernel"].ravel(), PARAMS["encoder"]["Dense_0"]["kernel"].ravel()])
    np.testing.assert_array_equal(vector[:18], kernels)
    assert not np.any(vector[sum(x.size for x in jax.tree.leaves(PARAMS)) :])
    jax.tree.map(np.testing.assert_array_equal, flat.unflatten(vector, LAYOUT), PARAMS)
