"""Classifier-free guidance: off it changes nothing, on it exaggerates what a label does, in every generative family."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from models import GENERATIVE, away_from_start, mean_loss, small_config, small_decoder, write_untrained

from tts_gen import command, doors, runs, tasks
from tts_gen.batches import prosody_batch
from tts_gen.config import UserError
from tts_gen.decoders import DECODERS
from tts_gen.decoders.guidance import condition, guided
from tts_gen.layers import length_mask

B, L, C, D = 3, 8, 2, 6
KEY = jax.random.key(0)
FAMILIES = {family: {} for family in GENERATIVE} | {"regression": {"loss": "gaussian"}}


def draw(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


def test_guided_is_the_papers_formula():
    f = lambda x: {"a": x**2, "b": -x}  # noqa: E731
    assert guided(f, condition(3.0, None, 2.0)) == f(3.0)
    found = guided(f, condition(3.0, 1.0, 2.0))
    assert found == {"a": 3 * 9 - 2 * 1, "b": 3 * -3 + 2 * 1}


@functools.cache
def sampler(family: str):
    module = small_decoder(family, **FAMILIES[family]).build(C)
    init = lambda y, cond: module.init(KEY, y, cond, jnp.ones((B, L)), KEY, False, method="loss")  # noqa: E731
    variables = away_from_start(init, draw(1, B, L, C), draw(2, B, L, D))
    return jax.jit(functools.partial(module.apply, variables, method="sample"))


@pytest.mark.parametrize("family", FAMILIES)
def test_guidance_of_0_or_by_the_condition_itself_changes_nothing(family):
    sample, cond, null, mask = sampler(family), draw(2, B, L, D), draw(3, B, L, D), length_mask(jnp.array([4, 6, 8]), L)
    m = mask[..., None]
    plain = sample(cond, mask, KEY, 1.0) * m
    np.testing.assert_allclose(sample(cond, mask, KEY, 1.0, null, 0.0) * m, plain, atol=1e-5)
    np.testing.assert_allclose(sample(cond, mask, KEY, 1.0, cond, 2.0) * m, plain, atol=1e-4)
    strong = sample(cond, mask, KEY, 1.0, null, 2.0) * m
    assert np.isfinite(strong).all() and np.abs(strong - plain).max() > 1e-2
    padded = [jnp.where(m > 0, x, 50.0) for x in (cond, null)]
    np.testing.assert_allclose(sample(padded[0], mask, KEY, 1.0, padded[1], 2.0) * m, strong, atol=1e-4)


@pytest.mark.parametrize("loss", ["l1", "l2", "mdn"])
def test_regressions_without_a_single_spread_out_mean_refuse(loss):
    module = small_decoder("regression", loss=loss).build(C)
    cond, mask = draw(2, B, L, D), jnp.ones((B, L))
    variables = module.init(KEY, draw(1, B, L, C), cond, mask, KEY, False, method="loss")
    with pytest.raises(UserError, match=f"decoder.loss {loss} takes no guidance"):
        module.apply(variables, cond, mask, KEY, 1.0, cond, 2.0, method="sample")


@pytest.mark.parametrize("family", FAMILIES)
def test_guidance_exaggerates_a_planted_style(family):
    """y = -1 or 1 by style, + N(0, 0.5^2); a fifth of the training sequences do not tell their style."""
    # In few steps even the exact denoiser does not get there: guidance is stiff.
    steps = {"solver_steps": 40} if hasattr(DECODERS[family], "solver") else {}
    module = small_decoder(family, **FAMILIES[family], **steps, dropout=0.0).build(C)
    mask, optimizer = jnp.ones((64, 4)), optax.adam(optax.cosine_decay_schedule(1e-2, 200))

    def told(style):
        return jnp.broadcast_to(jnp.stack([style, jnp.abs(style)], -1)[:, None], (len(style), 4, 2))

    def data(key):
        style_key, known_key, noise_key = jax.random.split(key, 3)
        style = jax.random.rademacher(style_key, (64,), jnp.float32)
        y = style[:, None, None] + 0.5 * jax.random.normal(noise_key, (64, 4, C))
        return y, told(style * (jax.random.uniform(known_key, (64,)) > 0.2))

    @jax.jit
    def step(params, state, key):
        y, cond = data(key)
        mean = lambda p: module.apply(p, y, cond, mask, jax.random.fold_in(key, 1), True, method="loss").mean()  # noqa: E731
        updates, state = optimizer.update(jax.grad(mean)(params), state)
        return optax.apply_updates(params, updates), state

    y, cond = data(KEY)
    params = away_from_start(lambda: module.init(KEY, y, cond, mask, KEY, False, method="loss"), scale=0.0)
    state = optimizer.init(params)
    for i in range(200):
        params, state = step(params, state, jax.random.key(i))

    @jax.jit
    def distance(scale):
        style = jnp.tile(jnp.array([-1.0, 1.0]), 32)
        y = module.apply(params, told(style), mask, KEY, 1.0, told(0 * style), scale, method="sample")
        return y[1::2].mean() - y[::2].mean()

    plain, strong = distance(0.0), distance(2.0)
    assert abs(plain - 2) < 0.5
    assert strong > plain + 0.15


# Label dropout, runs and commands


def config(store, rate: float, family: str = "regression", **decoder):
    c = small_config(family=family, features=store.root, steps=2, save_every=2)
    return replace(c, encoder=replace(c.encoder, label_dropout=rate), decoder=replace(c.decoder, **decoder))


def test_dropped_labels_train_the_unknown_rows(store):
    """Utterances that all have labels reach row 0 of both tables by dropout alone, and keep their own in validation."""
    labelled = [u for u in store.read(store.split("train")) if u.speaker][:8]
    batch = prosody_batch(labelled, store.stats, 16)
    task = tasks.build(config(store, 0.5), store.inventory, store.stats)
    variables = away_from_start(lambda: task.init(KEY, batch, KEY, False, method="loss"))
    rows = {}
    for train in (True, False):
        loss = functools.partial(mean_loss, task, batch=batch, rng=KEY, train=train)
        gradient = jax.jit(jax.grad(loss))(variables)["params"]["encoder"]
        rows[train] = [np.abs(gradient[name]["embedding"]).max(1) for name in ("speaker", "style")]
    assert all(of[0] == 0 and of[1:].max() > 0 for of in rows[False])
    assert all(of[0] > 0 and of[1:].max() > 0 for of in rows[True])


@pytest.fixture(scope="module")
def trained(store, tmp_path_factory):
    """A run with label dropout, one without, and L2 regression."""
    root = tmp_path_factory.mktemp("runs")
    made = {"guided": ("flow", 0.2), "plain": ("flow", 0.0), "l2": ("regression", 0.0)}
    for name, (family, rate) in made.items():
        write_untrained(config(store, rate, family), store, root / name)
        (root / name / "metrics.jsonl").touch()
    return {name: root / name for name in made}


def test_a_run_is_guided_as_it_was_trained_to_be(trained, store, caplog):
    batch = prosody_batch(store.read(store.split("test")), store.stats, 16)
    plain, strong = (runs.load(trained["guided"], guidance=scale) for scale in (0.0, 3.0))
    assert plain.guidance is None and strong.guidance == 3.0
    samples = [np.asarray(run.sample(run.variables, batch, KEY, 1.0)) for run in (plain, strong)]
    labelled = batch["speaker"] > 0
    assert np.abs(samples[1] - samples[0])[labelled].max() > 1e-4
    with pytest.raises(UserError, match=r"cannot be guided.*--encoder\.label-dropout 0\.1"):
        runs.load(trained["plain"], guidance=1.0)
    assert runs.load(trained["l2"], guidance=1.0).guidance is None
    assert "l2 takes no guidance" in caplog.text


def test_eval_says_where_samples_were_guided(trained, tmp_path, capsys):
    arguments = [str(trained["guided"]), str(trained["l2"]), "--out", str(tmp_path), "--temperatures", "1"]
    assert doors.evaluate([*arguments, "--samples", "2", "--guidance", "1.5"]) == command.DONE
    table = (tmp_path / "summary.csv").read_text().splitlines()
    at = table[0].split(",").index("guidance")
    by_family = {(line.split(",")[1], line.split(",")[4]): line.split(",")[at] for line in table[1:]}
    assert by_family["flow", "std"] == "1.5"
    assert by_family["flow", "bits_per_dim"] == by_family["l2", "std"] == by_family["floor", "js"] == ""
    assert doors.evaluate([str(trained["plain"]), "--out", str(tmp_path), "--guidance", "1"]) == command.FAILED
    assert "cannot be guided" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        doors.evaluate([*arguments, "--guidance=-1"])
