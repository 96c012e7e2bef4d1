"""The training loop. It sees a loss function, batches and a mesh; nothing of speech.

Everything random derives from (seed, purpose, step), a batch is a function of its step, and the state holds all else:
so
20 steps equal 10, a stop, and 10 more, bit for bit.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tts_gen import config, flat, parallel
from tts_gen.checkpoint import Checkpoints
from tts_gen.config import Stopped, UserError
from tts_gen.writer import Writer

log = logging.getLogger(__name__)

INIT, STEP, VALIDATION = range(3)
"""purposes of random keys"""


class State(NamedTuple):
    """All that a step changes. Parameters are one vector [P]: compiling clipping, Adam and EMA for each of a model's
    hundred
    leaves takes XLA longer than compiling the model, and one vector shards evenly over any number of devices."""

    step: jax.Array
    params: jax.Array
    ema: jax.Array
    """running mean of params: what is evaluated"""
    optimizer: optax.OptState
    skipped: jax.Array
    """steps in a row whose loss or gradient was not finite"""


def key(seed: int, purpose: int, step: int | jax.Array = 0) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), purpose), step)


def make_optimizer(c: config.Train) -> optax.GradientTransformation:
    """AdamW with clipping, a linear warm-up and a cosine decay over `decay_steps`, whatever the number of steps run."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, c.learning_rate, c.warmup, max(c.decay_steps, c.warmup + 1), c.learning_rate / 20
    )
    adamw = optax.adamw(schedule, b2=0.98, weight_decay=c.weight_decay)
    return optax.chain(optax.clip_by_global_norm(c.clip), adamw)


def make_step(loss_fn: Callable, layout: flat.Layout, c: config.Train) -> Callable:
    """`step(state, batch) -> (state, metrics)`. `loss_fn(params, batch, rng, train) -> scalar`."""
    optimizer = make_optimizer(c)

    def step(state: State, batch):
        rng = key(c.seed, STEP, state.step)
        params = flat.unflatten(state.params, layout)
        loss, gradient = jax.value_and_grad(loss_fn)(params, batch, rng, True)
        gradient = jax.lax.optimization_barrier(flat.flatten(gradient))
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
        params = state.params + updates
        decay = jnp.minimum(c.ema, (1.0 + state.step) / (10.0 + state.step))
        new = (params, decay * state.ema + (1 - decay) * params, optimizer_state)
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, (state.params, state.ema, state.optimizer))
        state = State(state.step + 1, *kept, jnp.where(finite, 0, state.skipped + 1))
        return state, {"loss": loss, "gradient_norm": norm, "skipped": state.skipped}

    return step


def make_init(init_params: Callable, c: config.Train) -> Callable:
    """`init(batch) -> State`; `init_params(rng, batch) -> params`. The EMA starts as a copy, after data-dependent
    layers."""

    def init(batch):
        params = flat.flatten(init_params(key(c.seed, INIT), batch))
        zero = jnp.zeros((), jnp.int32)
        return State(zero, params, params.copy(), make_optimizer(c).init(params), zero)

    return init


class Compiled:
    """A jitted function compiled ahead for each batch shape, so that compilations are counted and timed."""

    def __init__(self, name: str, function: Callable, **jit_options):
        self.name, self.jitted, self.programs, self.lock = name, jax.jit(function, **jit_options), {}, threading.Lock()

    def prepare(self, *args) -> Callable:
        """The program for these arguments' shapes; the last argument, the batch, is the one whose shape varies.

        A second thread that asks for a program in the making waits for it.
        """
        shape = str(jax.tree.map(jnp.shape, args[-1]))
        if shape not in self.programs:
            with self.lock:
                if shape not in self.programs:
                    start = time.monotonic()
                    self.programs[shape] = self.jitted.lower(*args).compile()
                    log.info("compiled %s (%d) in %.1f s", self.name, len(self.programs), time.monotonic() - start)
        return self.programs[shape]

    def __call__(self, *args):
        return self.prepare(*args)(*args)


def train(
    c: config.Train,
    run: Path,
    init_params: Callable,
    loss_fn: Callable,
    batches: Any,
    validation: Callable[[], Iterator[dict[str, np.ndarray]]],
    positions: Callable[[dict[str, np.ndarray]], float],
) -> State:
    """Trains to `c.steps`, from the newest checkpoint of `run` where there is one.

    `batches.iterate(step)` yields this process's part of each global batch, `batches.examples()` is one for each shape,
    the longest first; `batches.ids(step)` names a batch's utterances.
    `validation()` yields the held-out batches; `positions(batch)` counts what a rate is given in. Raises Stopped after
    a
    SIGTERM or SIGINT, when the state is saved; UserError when too many steps in a row were not finite.
    """
    begin = time.monotonic()
    mesh = parallel.make_mesh()
    with _StopFlag() as stop, Checkpoints(run) as checkpoints, ThreadPoolExecutor(1) as compiler:
        example, *others = [parallel.global_batch(mesh, batch) for batch in batches.examples()]
        layout = flat.layout(jax.eval_shape(init_params, jax.random.key(0), example))
        init = make_init(init_params, c)
        sharding = parallel.replicated(mesh)
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), jax.eval_shape(init, example)
        )
        step_fn = Compiled("training step", make_step(loss_fn, layout, c), donate_argnums=0)
        validate = Compiled("validation", lambda ema, rng, x: loss_fn(flat.unflatten(ema, layout), x, rng, False))
        # The longest bucket is compiled first, so that a lack of memory shows at once, and beside the initialisation.
        compiling = compiler.submit(step_fn.prepare, abstract, example)
        initialise = jax.jit(init, out_shardings=sharding, compiler_options=_quick_compilation())
        first, state = checkpoints.restore_newest(abstract) or (0, initialise(example))
        _announce(mesh, first, state.params, example)
        compiling.result()
        writer = Writer(run, first, c.steps, jax.process_index() == 0)
        pending, val_loss = None, {}
        iterator = batches.iterate(first) if first < c.steps else iter(())
        window = {"time": time.monotonic(), "wait": 0.0, "positions": 0.0}
        for step in range(first, c.steps + 1):
            done = step == c.steps or stop.signal is not None
            if step > first and (step % c.save_every == 0 or step == c.steps):
                val_loss[step] = _mean_validation(validate, state.ema, c.seed, mesh, validation(), positions)
            if step > first and (step in val_loss or done):
                checkpoints.save(step, state, layout, val_loss.get(step, float("inf")))
            if done:
                break
            waiting = time.monotonic()
            local = next(iterator)
            window["wait"] += time.monotonic() - waiting
            window["positions"] += positions(local) * jax.process_count()
            state, metrics = step_fn(state, parallel.global_batch(mesh, local))
            if step == first:
                jax.block_until_ready(metrics)
                log.info("first step after %.1f s", time.monotonic() - begin)
                for batch in others:  # compiled while the first steps run
                    compiler.submit(step_fn.prepare, abstract, batch)
                for batch in (example, *others):
                    compiler.submit(validate.prepare, abstract.ema, key(c.seed, VALIDATION), batch)
            if pending:
                _log(c, writer, window, *pending, val_loss, batches)
            pending = (step + 1, metrics)
        if pending:
            _log(c, writer, window, *pending, val_loss, batches)
        writer.close()
    if stop.signal is not None and int(state.step) < c.steps:
        step, name = int(state.step), signal.Signals(stop.signal).name
        saved = f"step {step} of {c.steps} is saved in {run}" if step else "before the first step"
        raise Stopped(f"stopped by {name}: {saved}")
    return state


def _quick_compilation() -> dict[str, Any]:
    """Options for a program that runs once. On CPU the initialisation would compile for longer than a training step."""
    on_cpu = jax.default_backend() == "cpu"
    return {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True} if on_cpu else {}


def _log(c, writer, window, step, metrics, val_loss: dict[int, float], batches) -> None:
    """The step before the one just dispatched, so that reading its metrics does not hold the device up."""
    skipped = int(metrics["skipped"])
    if skipped:
        names = ", ".join(batches.ids(step - 1)[:8])
        log.warning("step %d: loss or gradient not finite, skipped (%d in a row); utterances %s", step, skipped, names)
        if skipped >= c.max_skipped:
            raise UserError(
                f"{skipped} steps in a row had a non-finite loss or gradient, last with utterances {names}; "
                "lower train.learning_rate, or look at these utterances"
            )
    if step % c.log_every and step != c.steps and step not in val_loss:
        return
    seconds = time.monotonic() - window["time"]
    rate = window["positions"] / seconds
    values = {"loss": float(metrics["loss"]), "gradient_norm": float(metrics["gradient_norm"])}
    if step in val_loss:
        values["val_loss"] = val_loss[step]
    writer.write(step, values | {"positions_per_second": rate, "data_wait": window["wait"]})
    latest = f"  val {list(val_loss.values())[-1]:.4f}" if val_loss else ""
    writer.progress(step, f"loss {values['loss']:.4f}{latest}  {rate:,.0f}/s  data wait {window['wait']:.2f} s")
    window.update(time=time.monotonic(), wait=0.0, positions=0.0)


def _mean_validation(validate, ema, seed, mesh, batches, positions) -> float:
    """Mean over batches, weighted by their valid positions, with the same random draws each time."""
    total, weight = 0.0, 0.0
    for i, local in enumerate(batches):
        n = positions(local)
        total += n * float(validate(ema, key(seed, VALIDATION, i), parallel.global_batch(mesh, local)))
        weight += n
    return total / weight


def _announce(mesh, first, params, batch) -> None:
    rows, count = len(next(iter(batch.values()))), params.size
    log.info(
        "%s parameters; %s; longest batch: %d sequences, %d per device on %d device(s) of %d process(es)",
        f"{count:,}", f"goes on from step {first}" if first else "starts at step 0",
        rows, rows // mesh.size, mesh.size, jax.process_count(),
    )  # fmt: skip


class _StopFlag:
    """Remembers SIGTERM or SIGINT instead of dying of it, until the step in progress is saved."""

    def __enter__(self) -> "_StopFlag":
        self.signal = None
        self.before = {number: signal.signal(number, self._catch) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _catch(self, number, _):
        self.signal = number
