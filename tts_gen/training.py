"""The training loop. It sees functions, batches and devices; nothing of speech.

Everything random derives from (seed, purpose, step), a batch is a function of its step, and the state holds all else:
so 20 steps equal 10, a stop, and 10 more, bit for bit.
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
import numpy as np

from tts_gen import config, flat, optimizers, parallel, speed, steps
from tts_gen.checkpoint import Checkpoints, saved_steps
from tts_gen.config import Stopped, UserError
from tts_gen.steps import State
from tts_gen.watchdog import Watchdog
from tts_gen.window import Spikes, Window
from tts_gen.writer import Writer

log = logging.getLogger(__name__)

Batch = dict[str, np.ndarray]


class Model(NamedTuple):
    """What is trained, as pure functions of its parameters, a nested dict."""

    init: Callable
    """(rng, batch) -> params"""
    loss: Callable
    """(params, batch, rng, train) -> [B] sums of each row's loss, [B] what they are sums over"""
    validate: Callable
    """(params, batch, rng) -> name -> (sums [B], counts [B]), the loss as val_loss among them"""
    positions: Callable[[Batch], tuple[int, int]]
    """valid positions of a batch, and all with padding"""
    adapt: Callable[[dict], dict] | None = None
    """fresh params -> those to start from, on the host; None: the fresh ones"""
    inspect: Callable[[dict, int, Writer], dict[str, float]] | None = None
    """(params, step, writer) -> figures of samples; called in the first process alone"""
    compiler_options: dict[str, str] | None = None
    """XLA's, of the training step"""


class Program(NamedTuple):
    run: Callable
    operations: float | None
    """floating-point, on all devices"""


class Compiled:
    """A jitted function compiled ahead for each batch shape, so that compilations are counted and timed."""

    def __init__(self, name: str, function: Callable, devices: int, **jit_options):
        self.name, self.devices, self.jitted = name, devices, jax.jit(function, **jit_options)
        self.programs, self.lock = {}, threading.Lock()

    def prepare(self, *args) -> Program:
        """The program for these arguments' shapes; the last argument, the batch, is the one whose shape varies.

        A second thread that asks for a program in the making waits for it.
        """
        shape = str(jax.tree.map(jax.numpy.shape, args[-1]))
        if shape not in self.programs:
            with self.lock:
                if shape not in self.programs:
                    start = time.monotonic()
                    compiled = self.jitted.lower(*args).compile()
                    self.programs[shape] = Program(compiled, speed.operations(compiled, self.devices))
                    log.info("compiled %s (%d) in %.1f s", self.name, len(self.programs), time.monotonic() - start)
        return self.programs[shape]


def train(
    c: config.Train, run: Path, model: Model, batches: Any, validation: Callable[[], Iterator[Batch]]
) -> State:  # fmt: skip
    """Trains to `c.steps`, from the newest checkpoint of `run` where there is one.

    `batches.iterate(step)` yields this process's rows of each global batch, which divides over the devices and the
    parts of a step; `batches.examples()` is one for each shape, the longest first; `batches.ids(step)` names a batch's
    utterances. `validation()` yields this process's rows of the held-out batches.

    Raises Stopped after a SIGTERM or SIGINT to any of the processes, when the state is saved; UserError when too many
    steps in a row were not finite, and when the last state cannot be saved.
    """
    mesh = parallel.make_mesh(c.fsdp)
    checkpoints = Checkpoints(run, c.checkpoints, c.keep_latest, c.keep_best, c.best_metric)
    dog = Watchdog(checkpoints.directory / "beats", jax.process_index(), jax.process_count(), c.step_limit)
    try:
        with _StopFlag() as stop, checkpoints, dog, ThreadPoolExecutor(1) as compiler:
            try:
                state = _loop(c, run, model, batches, validation, mesh, stop, checkpoints, dog, compiler)
            finally:
                compiler.shutdown(wait=False, cancel_futures=True)  # a stop waits for no program that none will run
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or "RESOURCE_EXHAUSTED" in str(error):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(
            f"another process of {jax.process_count()} is gone, or cannot be reached ({reason}). Start all of them "
            "again: they go on from the newest checkpoint"
        ) from error
    step = int(state.step)
    if step and step not in saved_steps(checkpoints.directory):
        newest = max(saved_steps(checkpoints.directory), default="none")
        raise UserError(
            f"{checkpoints.directory}: step {step} could not be saved, the newest that is there is {newest}; make "
            "room, and start again to go on from it"
        )
    if step < c.steps:
        by = signal.Signals(stop.signal).name if stop.signal else "another process"
        saved = f"step {step} of {c.steps} is saved in {run}" if step else "before the first step"
        raise Stopped(f"stopped by {by}: {saved}")
    return state


def _loop(c, run, model, batches, validation, mesh, stop, checkpoints, dog, compiler) -> State:
    begin, many = time.monotonic(), jax.process_count() > 1
    example, *others = [parallel.global_batch(mesh, batch) for batch in batches.examples()]
    layout = flat.layout(jax.eval_shape(model.init, jax.random.key(0), steps.split_batch(example)[0]))
    init = steps.make_init(model.init, layout, c)
    shapes = jax.eval_shape(init, example)
    shardings, whole = parallel.split_state(mesh, shapes), parallel.replicated(mesh)
    abstract = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
    step_fn = Compiled("training step", steps.make_step(model.loss, layout, c, mesh), mesh.size,
                       donate_argnums=0, out_shardings=(shardings, whole),
                       compiler_options=model.compiler_options)  # fmt: skip
    validate = Compiled("validation", steps.make_validation(model.validate, layout), mesh.size,
                        out_shardings=whole)  # fmt: skip
    restored = checkpoints.restore_newest(abstract, layout)
    if restored and restored[0] >= c.steps:
        log.info("nothing to do: step %d is saved, train.steps is %d", restored[0], c.steps)
        return restored[1]
    # The longest bucket is compiled first, so that a lack of memory shows at once, and beside the initialisation.
    compiling = compiler.submit(step_fn.prepare, abstract, example)
    gather = jax.jit(lambda x: x, out_shardings=whole)
    if restored:
        first, state = restored
    else:
        first, state = 0, jax.jit(init, out_shardings=shardings, compiler_options=_quick_compilation())(example)
        if model.adapt:
            fresh = flat.unflatten(np.asarray(gather(state.params)), layout)
            adapted = np.asarray(flat.flatten(model.adapt(fresh)))
            params, ema = (parallel.put(adapted, shardings.params) for _ in range(2))
            state = state._replace(params=params, ema=ema)
    _announce(mesh, first, layout, example)
    compiling.result()
    peak = speed.peak(mesh, c.precision, c.measure_peak)
    writer = Writer(run, first, c.steps, jax.process_index() == 0)
    window, spikes, rate = Window(peak), Spikes(), optimizers.schedule(c)
    pending, figures, latest, counts, agreed = None, {}, {}, {"skipped": 0}, False
    iterator = batches.iterate(first)

    def report(step: int, metrics: dict) -> bool:
        """Of the step before the one just dispatched, so that reading its figures does not hold the device up. Returns
        whether a process was asked to stop."""
        metrics = jax.tree.map(np.asarray, metrics)
        loss = float(metrics["loss"])
        counts["skipped"] += _check_finite(c, step, metrics, batches)
        if (median := spikes.above(loss)) is not None:
            writer.spike(step, loss, median, batches.ids(step - 1))
        if step % c.log_every == 0 or step == c.steps or figures:
            values = {"loss": loss, "gradient_norm": float(metrics["gradient_norm"])} | figures
            values |= {"learning_rate": float(rate(step - 1))} | counts
            values |= window.close(jax.process_count(), speed.memory_in_use())
            writer.write(step, values)
            writer.progress(step, _line(values, latest))
        return bool(metrics["stop"])

    for step in range(first, c.steps + 1):
        dog.beat(step)
        done = step == c.steps or (agreed if many else stop.signal is not None)
        figures, due = {}, step > first and (step % c.save_every == 0 or step == c.steps)
        with window.pausing():
            if due:
                figures = _validation(validate, state.ema, c.seed, mesh, validation())
                latest.update(figures)
            if step > first and c.sample_every and step % c.sample_every == 0 and model.inspect:
                params = np.asarray(gather(state.ema))
                if jax.process_index() == 0:
                    figures |= model.inspect(flat.unflatten(params, layout), step, writer)
            if due or (done and step > first):
                checkpoints.save(step, state, layout, {k: v for k, v in figures.items() if np.isfinite(v)})
        if done:
            break
        with window.waiting():
            local = next(iterator)
        batch = parallel.global_batch(mesh, local, stop.signal is not None)
        program = step_fn.prepare(abstract, batch)
        state, metrics = program.run(state, batch)
        if step == first:
            jax.block_until_ready(metrics)
            log.info("first step after %.1f s", time.monotonic() - begin)
            for batch in others:  # compiled while the first steps run
                compiler.submit(step_fn.prepare, abstract, batch)
            for batch in (example, *others):
                compiler.submit(validate.prepare, abstract.ema, steps.key(c.seed, steps.VALIDATION), batch)
        if pending:
            agreed = report(*pending) or agreed
        window.add(*model.positions(local), program.operations)
        pending = (step + 1, metrics)
    if pending:
        report(*pending)
    writer.close()
    return state


def _quick_compilation() -> dict[str, Any]:
    """Options for a program that runs once. On CPU the initialisation would compile for longer than a training step."""
    on_cpu = jax.default_backend() == "cpu"
    return {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True} if on_cpu else {}


def _check_finite(c: config.Train, step: int, metrics: dict, batches: Any) -> bool:
    """Whether the step was skipped, which is logged. Raises UserError when that was so too many times in a row."""
    skipped = int(metrics["skipped"])
    if not skipped:
        return False
    ids = batches.ids(step - 1)
    bad = [ids[i] for i in np.flatnonzero(metrics["bad_rows"])]
    names = f"of {', '.join(bad[:8])}" if bad else f"in the batch of {', '.join(ids[:8])}"
    log.warning("step %d: loss or gradient not finite %s; skipped (%d in a row)", step, names, skipped)
    if skipped >= c.max_skipped:
        raise UserError(
            f"{skipped} steps in a row had a non-finite loss or gradient, the last {names}; "
            "lower train.learning_rate, or look at these utterances"
        )
    return True


def _line(values: dict[str, float], latest: dict[str, float]) -> str:
    """What a person watches."""
    parts = [f"loss {values['loss']:.4f}"]
    parts += [f"val {latest['val_loss']:.4f}"] if latest else []
    parts += [f"{values['positions_per_second']:,.0f}/s", f"data wait {values['data_wait']:.2f} s"]
    parts += [f"{100 * values['peak_share']:.0f} % of peak"] if "peak_share" in values else []
    return "  ".join(parts)


def _validation(validate, ema, seed, mesh, batches) -> dict[str, float]:
    """Means over all valid positions, with the same random draws each time (for diffusion: the same times and noise, so
    that it varies little from one to the next)."""
    sums: dict[str, np.ndarray] = {}
    for i, local in enumerate(batches):
        rng, batch = steps.key(seed, steps.VALIDATION, i), parallel.global_batch(mesh, local)
        for name, pair in validate.prepare(ema, rng, batch).run(ema, rng, batch).items():
            sums[name] = sums.get(name, 0) + np.asarray(pair, np.float64)
    return {name: float(total / count) for name, (total, count) in sums.items()}


def _announce(mesh, first: int, layout: flat.Layout, batch) -> None:
    rows, count = batch["row"].size, sum(int(np.prod(shape)) for _, shape in layout)
    log.info(
        "%s parameters; %s; longest batch: %d sequences, %d per device on %d device(s) of %d process(es)%s",
        f"{count:,}", f"goes on from step {first}" if first else "starts at step 0",
        rows, rows // mesh.size, mesh.size, jax.process_count(),
        f"; state split over {mesh.shape[parallel.FSDP]}" if mesh.shape[parallel.FSDP] > 1 else "",
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
