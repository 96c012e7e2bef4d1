"""The training loop on a model of a few parameters: exact resumption, signals, bad batches, few compilations."""

import json
import logging
import os
import re
import signal
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import losses

from tts_gen import draws, training
from tts_gen.checkpoint import Checkpoints, hashes
from tts_gen.config import Stopped, Train, UserError

SETTINGS = {"warmup": 2, "log_every": 1, "save_every": 5, "learning_rate": 1e-2, "decay_steps": 50}
WEIGHT = np.array([1.0, -2.0, 0.5], np.float32)


class Batches:
    """Linear regression in two bucket lengths; `act(step)` is called before a batch is handed out."""

    def __init__(self, act=lambda step: None, bad: frozenset = frozenset()):
        self.act, self.bad = act, bad

    def batch(self, step: int) -> dict:
        x = np.random.default_rng(step).normal(size=(8, 4 + 4 * (step % 2), 3)).astype(np.float32)
        y = x @ WEIGHT
        if step in self.bad:
            y[3, 2] = np.nan
        return {"x": x, "y": y}

    def iterate(self, start: int):
        for step in range(start, 10**6):
            self.act(step)
            yield self.batch(step)

    def examples(self) -> list[dict]:
        return [self.batch(1), self.batch(0)]

    def ids(self, step: int) -> list[str]:
        return [f"utterance{step}-{row}" for row in range(8)]


def init_params(rng, batch):
    return {"linear": {"w": jax.random.normal(rng, (3,)), "b": jnp.zeros(())}}


def loss_fn(params, batch, rng, train):
    noise = 0.1 * draws.normal(rng, batch["y"].shape)
    error = batch["x"] @ params["linear"]["w"] + params["linear"]["b"] + noise - batch["y"]
    return jnp.sum(error**2, 1), jnp.full(len(error), error.shape[1], jnp.float32)


def validate(params, batch, rng):
    return {"val_loss": loss_fn(params, batch, rng, False)}


MODEL = training.Model(init_params, loss_fn, validate, lambda batch: (batch["y"].size, batch["y"].size))


def train(run: Path, steps: int, batches: Batches | None = None, model=MODEL, **changes) -> training.State:
    c = Train(steps=steps, **(SETTINGS | changes))
    batches = batches or Batches()
    validation = lambda: iter([batches.batch(1001), batches.batch(1002)])  # noqa: E731
    return training.train(c, run, model, batches, validation)


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    """The state after, and the directory of, 20 steps without a stop."""
    run = tmp_path_factory.mktemp("twenty")
    return train(run, 20), run


def assert_same(a: training.State, b: training.State) -> None:
    assert hashes(a) == hashes(b)


def test_it_learns(tmp_path):
    train(tmp_path, 150, learning_rate=0.2, decay_steps=150, log_every=10, save_every=75)
    found = losses(tmp_path)
    assert list(found) == sorted({*range(10, 151, 10), 75})
    assert found[150] < 0.1 * found[10]
    with Checkpoints(tmp_path) as checkpoints:
        ema = checkpoints.restore_ema(150)
    np.testing.assert_allclose(ema["linear"]["w"], WEIGHT, atol=0.3)


def test_a_line_of_metrics_for_each_logged_step(twenty):
    _, run = twenty
    rows = lines(run)
    assert [r["step"] for r in rows] == list(range(1, 21))
    assert [r["step"] for r in rows if "val_loss" in r] == [5, 10, 15, 20]
    assert all({"loss", "gradient_norm", "positions_per_second", "data_wait"} <= set(r) for r in rows)
    assert any(len(repr(r["loss"])) > 12 for r in rows)  # full precision
    assert list((run / "tensorboard").iterdir())


def test_samples_are_looked_at_in_their_own_time(tmp_path):
    """And a look is no reason for a checkpoint."""
    seen = []

    def inspect(params, step, writer):
        seen.append((step, params["linear"]["w"].shape))
        return {"sample_std_ratio": 0.5 + step}

    train(tmp_path, 12, model=MODEL._replace(inspect=inspect), sample_every=4, log_every=100)
    assert seen == [(4, (3,)), (8, (3,)), (12, (3,))]
    figures = {r["step"]: r.get("sample_std_ratio") for r in lines(tmp_path)}
    assert figures == {4: 4.5, 5: None, 8: 8.5, 10: None, 12: 12.5}
    with Checkpoints(tmp_path) as checkpoints:
        assert not {4, 8} & set(checkpoints.steps)


def test_a_spike_is_written_with_its_utterances(tmp_path):
    """Batch 40 has targets a hundred times too large."""

    class Spiked(Batches):
        def batch(self, step):
            batch = super().batch(step)
            return batch | {"y": batch["y"] * (100 if step == 40 else 1)}

    train(tmp_path, 60, Spiked(), log_every=20, save_every=60)
    (spike,) = [json.loads(line) for line in (tmp_path / "spikes.jsonl").read_text().splitlines()]
    assert spike["step"] == 41 and spike["loss"] > 100 * spike["median"]
    assert spike["ids"] == [f"utterance40-{row}" for row in range(8)]


@pytest.mark.parametrize("middle", [10, 7])
def test_ten_and_ten_are_twenty(twenty, tmp_path, middle):
    state, run = twenty
    train(tmp_path, middle)
    assert_same(train(tmp_path, 20), state)
    assert losses(tmp_path) == losses(run)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_run_goes_on_exactly(twenty, tmp_path, number):
    state, run = twenty
    before = signal.getsignal(number)
    send = lambda step: os.kill(os.getpid(), number) if step == 7 else None  # noqa: E731
    with pytest.raises(Stopped, match=f"{number.name}: step 8 of 20 is saved in {tmp_path}"):
        train(tmp_path, 20, Batches(send))
    assert signal.getsignal(number) is before
    with Checkpoints(tmp_path) as checkpoints:
        assert max(checkpoints.steps) == 8
        assert checkpoints.best_steps()[0] == 5  # the unvalidated step is never the best
    assert_same(train(tmp_path, 20), state)
    assert losses(tmp_path) == losses(run)


def test_after_a_crash_it_repeats_what_came_after_the_checkpoint(twenty, tmp_path):
    state, run = twenty

    class Crash(Exception):
        pass

    def crash(step):
        if step == 13:
            raise Crash

    with pytest.raises(Crash):
        train(tmp_path, 20, Batches(crash))
    assert max(losses(tmp_path)) > 10
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 13, "lo')  # killed while writing
    fetched = []
    assert_same(train(tmp_path, 20, Batches(fetched.append)), state)
    assert fetched[0] == 10
    assert losses(tmp_path) == losses(run)


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(twenty, tmp_path, caplog):
    state, run = twenty
    train(tmp_path, 15)
    for file in (tmp_path / "checkpoints/15/state").rglob("*"):
        if file.is_file() and file.parent.name == "d":
            file.write_bytes(b"?" * file.stat().st_size)
    with caplog.at_level(logging.WARNING):
        assert_same(train(tmp_path, 20), state)
    assert "checkpoints/15" in caplog.text
    assert losses(tmp_path) == losses(run)
    with Checkpoints(tmp_path) as checkpoints:
        assert {15, 20} <= set(checkpoints.steps)


def test_finished_runs_are_left_alone(twenty):
    state, run = twenty
    fetched = []
    assert_same(train(run, 20, Batches(fetched.append)), state)
    assert not fetched and len(lines(run)) == 20


def test_the_average_is_what_is_validated(twenty):
    state, run = twenty
    assert not np.array_equal(state.ema, state.params)
    b, *w = np.asarray(state.ema)[:4]  # leaves in the order of their names
    expected = np.mean([np.mean((Batches().batch(s)["x"] @ (w - WEIGHT) + b) ** 2) for s in (1001, 1002)])
    assert abs(lines(run)[-1]["val_loss"] - expected) < 0.1 * expected + 0.03  # the noise's 0.01, and its draw


# Bad batches


def test_a_bad_batch_is_skipped_and_named(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        state = train(tmp_path / "bad", 6, Batches(bad=frozenset({5})))
    before = train(tmp_path / "good", 5)
    np.testing.assert_array_equal(state.params, before.params)
    np.testing.assert_array_equal(state.ema, before.ema)
    assert hashes(state.optimizer) == hashes(before.optimizer)
    assert int(state.step) == 6 and int(state.skipped) == 1
    assert losses(tmp_path / "bad")[6] is None and losses(tmp_path / "bad")[5] > 0
    assert re.search(r"step 6: loss or gradient not finite of utterance5-3; skipped \(1 in a row\)", caplog.text)
    state = train(tmp_path / "bad", 8)
    assert int(state.skipped) == 0 and np.isfinite(state.params).all()
    assert not np.array_equal(state.params, before.params)


def test_too_many_bad_batches_in_a_row_end_the_run(tmp_path):
    batches = Batches(bad=frozenset({3, 7, 8, 9, 10}))
    with pytest.raises(UserError, match="3 steps in a row.*utterance9-3; lower train.learning_rate"):
        train(tmp_path, 20, batches, max_skipped=3)


# Compilations


def test_no_compilation_after_each_bucket_was_seen_once(tmp_path, caplog):
    compiled, at = [], {"step": 0}
    listen = lambda event, *_, **__: compiled.append(at["step"]) if "backend_compile" in event else None  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with caplog.at_level(logging.INFO):
            train(tmp_path, 300, Batches(lambda step: at.update(step=step)), save_every=100, log_every=10)
    finally:
        jax.monitoring.clear_event_listeners()
    assert len(re.findall("compiled training step", caplog.text)) == 2  # one for each bucket
    assert len(re.findall("compiled validation", caplog.text)) == 2
    assert compiled and not [step for step in compiled if step > 101]


def test_learning_rate_does_not_depend_on_the_number_of_steps(tmp_path):
    short, long = train(tmp_path / "a", 5), train(tmp_path / "b", 5, save_every=2)
    np.testing.assert_array_equal(short.params, long.params)
