"""What training costs besides its steps.

    python scripts/bench_training.py STORE overhead      share of wall time outside the jitted steps, small models
    python scripts/bench_training.py STORE devices       8 simulated devices against 1 at the same global batch
    python scripts/bench_training.py STORE memory        of a step: remat, and the state split over 4 of 8 devices
    python scripts/bench_training.py STORE flat          live arrays and resident memory over 2,000 steps

2 to 5 minutes each on 2 cores, on a machine that does nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from tts_gen import fit, training

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # configs import one another
OVERHEAD = ("prosody_l2", "prosody_flow", "prosody_diffusion", "acoustic_l1", "acoustic_flow", "acoustic_diffusion")


def settings(name: str, store: str, **train):
    from tts_gen.config import read_config_file

    c = read_config_file(ROOT / f"configs/{name}.py")
    return replace(c, data=replace(c.data, features=store), train=replace(c.train, **train))


def prepared(c):
    """Batches, mesh, an example, jitted init and step, model and layout, as training makes them."""
    from tts_gen import flat, parallel, steps, tasks
    from tts_gen.batches import TrainingBatches
    from tts_gen.features.store import FeatureStore

    store = FeatureStore(c.data.features)
    batches = TrainingBatches(store, c)
    model = fit.model_of(c, Path("nowhere"), store, tasks.build(c, store.inventory, store.stats), None)
    mesh = parallel.make_mesh(c.train.fsdp)
    example = parallel.global_batch(mesh, batches.examples()[0])
    layout = flat.layout(jax.eval_shape(model.init, jax.random.key(0), steps.split_batch(example)[0]))
    init = steps.make_init(model.init, layout, c.train)
    shardings = parallel.split_state(mesh, jax.eval_shape(init, example))
    step = jax.jit(steps.make_step(model.loss, layout, c.train, mesh), donate_argnums=0,
                   out_shardings=(shardings, parallel.replicated(mesh)))  # fmt: skip
    return batches, mesh, example, jax.jit(init, out_shardings=shardings), step, model, layout


def logged(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


class Stopwatch(training.Program):
    """A program that notes when each run was asked for, and when it was done, without holding up who asks."""

    notes, waiter = [], ThreadPoolExecutor(1)

    def __new__(cls, program):
        def run(*args):
            asked = time.monotonic()
            state, metrics = program.run(*args)
            cls.waiter.submit(lambda: cls.notes.append((asked, jax.block_until_ready(metrics) and time.monotonic())))
            return state, metrics

        return super().__new__(cls, run, program.operations)


def overhead(store: str, steps: int = 300) -> None:
    """Steps 100 to 300 of a training: the share of wall time in which no step was being computed. A step is, from when
    it was asked for or the one before it was done, whichever is later, to when it is done."""
    prepare = training.Compiled.prepare
    timed = lambda self, *args: (  # noqa: E731
        Stopwatch(prepare(self, *args)) if self.name == "training step" else prepare(self, *args)
    )
    training.Compiled.prepare = timed
    print("| model | ms a step | of these in the jitted step | outside |\n| --- | --- | --- | --- |")
    for name in OVERHEAD:
        Stopwatch.notes.clear()
        c = settings(name, store, steps=steps, save_every=10**6)
        with tempfile.TemporaryDirectory() as folder:
            fit.train(c, Path(folder))
        asked, done = np.array(Stopwatch.notes[99:]).T
        inside = np.sum(done[1:] - np.maximum(asked[1:], done[:-1]))
        each, wall = 1e3 / (len(done) - 1), done[-1] - done[0]
        print(f"| {name} | {each * wall:.1f} | {each * inside:.1f} | {100 * (1 - inside / wall):.1f} % |", flush=True)


def devices(store: str, steps: int = 60) -> None:
    print("| model | ms a step, 1 device | 8 | ratio |\n| --- | --- | --- | --- |")
    for name in ("prosody_flow", "acoustic_diffusion"):
        seconds = []
        for count in (1, 8):
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, ROOT / "train.py", ROOT / f"configs/{name}.py", "--workdir", folder]
                command += ["--data.features", store, "--train.steps", steps, "--train.log-every", 1]
                env = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
                subprocess.run([str(a) for a in command], check=True, env=env, stderr=subprocess.DEVNULL)
                rows = [row["step_seconds"] for row in logged(Path(folder)) if row["step"] > 20]
                seconds.append(sum(rows) / len(rows))
        one, eight = seconds
        print(f"| {name} | {1e3 * one:.1f} | {1e3 * eight:.1f} | {eight / one:.2f} |", flush=True)


def memory(store: str) -> None:
    """Of the first device: the state, and what a step keeps from the forward for the backward pass. (XLA's own account
    shows no remat on CPU, which computes again but in an order of its own.)"""
    print("| model | setting | state, MB | kept for the backward pass, MB |\n| --- | --- | --- | --- |")
    for name in ("prosody_flow", "acoustic_diffusion", "base/prosody_flow", "base/acoustic_diffusion"):
        for label, count, changes in (
            ("plain", 1, {}), ("remat", 1, {"remat": True}), ("fsdp 4 of 8", 8, {"fsdp": 4}),
        ):  # fmt: skip
            code = f"import bench_training as b; b.of_a_step({name!r}, {store!r}, {label!r}, {changes!r})"
            env = os.environ | {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count}"}
            subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "scripts", env=env)


def of_a_step(name: str, store: str, label: str, changes: dict) -> None:
    c = settings(name, store, **changes)
    from tts_gen import flat, steps

    _, _, example, init, _, model, layout = prepared(c)
    state = init(example)
    of = lambda tree: sum(x.addressable_shards[0].data.nbytes for x in jax.tree.leaves(tree)) / 1e6  # noqa: E731
    batch = steps.split_batch(example)[0]
    params = jax.eval_shape(lambda v: flat.unflatten(v, layout), state.params)
    loss = lambda p: model.loss(p, batch, jax.random.key(0), True)[0].sum()  # noqa: E731
    residuals = jax.eval_shape(lambda p: jax.vjp(loss, p)[1], params)
    kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(residuals)) / 1e6 / jax.device_count()
    print(f"| {name} | {label} | {of(state):.1f} | {kept:.0f} |", flush=True)


def flat(store: str, steps: int = 2000) -> None:
    rows, done = [], threading.Event()
    c = settings("prosody_l2", store, steps=steps, log_every=1, save_every=200)
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "metrics.jsonl"

        def sample() -> None:
            while not done.wait(1.0):
                if metrics.exists() and (lines := metrics.read_text().splitlines()):
                    pages = int(Path("/proc/self/statm").read_text().split()[1])
                    live = sum(x.nbytes for x in jax.live_arrays())
                    rows.append((len(lines), live / 1e6, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))

        thread = threading.Thread(target=sample)
        thread.start()
        try:
            fit.train(c, Path(folder))
        finally:
            done.set(), thread.join()
    print("| steps | samples | live arrays, MB, highest | resident, MB, mean |\n| --- | --- | --- | --- |")
    quarters = [[r for r in rows if i * steps // 4 < r[0] <= (i + 1) * steps // 4] for i in range(4)]
    for i, part in enumerate(quarters):
        last, live, resident = f"{(i + 1) * steps // 4}", max(r[1] for r in part), sum(r[2] for r in part) / len(part)
        print(f"| to {last} | {len(part)} | {live:.1f} | {resident:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("what", choices=("overhead", "devices", "memory", "flat"))
    options = parser.parse_args()
    globals()[options.what](str(Path(options.store).absolute()))


if __name__ == "__main__":
    main()
