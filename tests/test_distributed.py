"""Several processes of one training on loopback: the same losses, stops that are agreed on, a lost process, errors."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
from models import losses, small_config, with_train, write_config
from processes import finish, free_port, joined, started

from tts_gen import fit, flat, parallel
from tts_gen.config import UserError

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def config(store):
    return small_config(family="flow", features=store.root, buckets=(16,))


@pytest.fixture(scope="module")
def config_files(store, tmp_path_factory):
    """Family -> file. The flow has layers that start from the data; regression compiles soon."""
    folder = tmp_path_factory.mktemp("config")
    return {family: write_config(folder / f"{family}.py", family=family, features=store.root, buckets=(16,))
            for family in ("flow", "regression")}  # fmt: skip


def start(config_file: Path, run: Path, *options) -> list[subprocess.Popen]:
    """A pair of processes."""
    return joined([ROOT / "train.py", config_file, "--workdir", run, *options])


def saved(run: Path) -> list[int]:
    return sorted(int(f.name) for f in (run / "checkpoints").glob("*") if f.name.isdigit())


def wait_for(condition, pair: list[subprocess.Popen]) -> None:
    while not condition():
        assert all(process.poll() is None for process in pair), finish(pair)
        time.sleep(0.05)


def test_two_processes_stop_together_lose_one_and_end_in_one(config, config_files, tmp_path):
    """SIGTERM to one of two; both resume, the state split; SIGKILL of one; the rest in one process. All the way the
    losses are those of a single process that was never stopped."""
    run, reference, config_file = tmp_path / "run", tmp_path / "reference", config_files["flow"]
    endless = ("--train.steps", "1000000", "--train.keep-latest", "100")
    pair = start(config_file, run, *endless)
    wait_for(lambda: len(saved(run)) >= 2, pair)
    pair[1].send_signal(signal.SIGTERM)
    codes, messages = finish(pair)
    assert codes == [75, 75], messages
    (stopped,) = {m.split(": step ")[-1].split(" of")[0] for m in messages}
    assert max(saved(run)) == int(stopped)
    assert "stopped by another process" in messages[0] and "stopped by SIGTERM" in messages[1]

    pair = start(config_file, run, *endless, "--train.fsdp", "2")
    wait_for(lambda: max(saved(run)) > int(stopped) + 5, pair)
    pair[1].kill()
    killed = time.monotonic()
    codes, messages = finish(pair)
    assert codes == [1, -signal.SIGKILL], messages
    assert time.monotonic() - killed < 150  # where gloo hangs, the watchdog: after 60 s, or 120 from the start
    assert re.search("(another process|process 1) of 2 is gone.*Start all of them again", messages[0])
    assert "train.fsdp is 2 now, was 1" in messages[0] and "state split over 2" in messages[0]

    longer = with_train(config, steps=max(saved(run)) + 5, save_every=1000, keep_latest=100)
    longer_in_pieces = with_train(longer, save_every=5)
    fit.train(longer_in_pieces, run)
    fit.train(with_train(longer, save_every=5), reference)
    found, expected = losses(run), losses(reference)
    assert found.keys() == expected.keys() and len(found) == longer.train.steps
    first = [abs(found[s] / expected[s] - 1) for s in sorted(found)[:20]]
    assert max(first[:5]) < 1e-5 and max(first) < 1e-4


def test_all_processes_give_the_error_of_the_first(config_files, store, tmp_path):
    """Which alone looks into the workdir."""
    fit.train(small_config(features=store.root, buckets=(16,), steps=2), tmp_path)
    pair = start(config_files["regression"], tmp_path, "--train.steps", "4", "--train.clip", "3")
    codes, messages = finish(pair)
    assert codes == [1, 1] and all("train.clip is 1.0 in this run but 3.0 now" in m for m in messages)


SLURM = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_STEP_NUM_NODES": "1"}
LAUNCHERS = {
    "kubernetes": lambda rank, port: {
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2", "JOB_COMPLETION_INDEX": str(rank),
    },
    "slurm": lambda rank, port: SLURM | {
        "SLURM_JOB_ID": str(port), "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank),
    },
}  # fmt: skip


JOINED = """import sys
from tts_gen import parallel
with parallel.processes():
    sys.stderr.write(" ".join(parallel.gather(sys.argv[1])))
"""


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_launchers_need_no_options(launcher):
    """With the variables that srun and an indexed Job of Kubernetes set."""
    port = free_port()
    environments = [LAUNCHERS[launcher](rank, port) for rank in range(2)]
    pair = [started([sys.executable, "-c", JOINED, f"rank{rank}"], env) for rank, env in enumerate(environments)]
    codes, messages = finish(pair)
    assert codes == [0, 0] and all(m.endswith("rank0 rank1") for m in messages), messages


def test_what_counts_as_several_processes(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "TPU_", "JAX_COORDINATOR")):
            monkeypatch.delenv(name)
    assert parallel._found() == ""
    for values, expected in (
        ({"SLURM_NTASKS": "2"}, ""),  # in a batch script, before srun
        ({"SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, "auto"),
        ({"SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, ""),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "auto"),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, ""),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "auto"),
        ({"JAX_COORDINATOR_ADDRESS": "a:1"}, "a:1"),
    ):
        with monkeypatch.context() as m:
            for name, value in values.items():
                m.setenv(name, value)
            assert parallel._found() == expected, values


def test_a_rank_that_is_not_there():
    with pytest.raises(UserError, match="process 2 of 2; give --processes N and --process 0 to N - 1"):
        with parallel.processes("127.0.0.1:1", 2, 2):
            pass


@pytest.mark.parametrize("count", ["", "0"])
def test_an_environment_that_says_nothing(count, monkeypatch):
    monkeypatch.setenv("JAX_NUM_PROCESSES", count)
    with pytest.raises(UserError, match="process 0 of 0; give --processes N"):
        with parallel.processes("127.0.0.1:1", 0, 0):
            pass


def test_an_address_without_a_port():
    with pytest.raises(UserError, match="coordinator foo: give HOST:PORT"):
        with parallel.processes("foo", 1, 0):
            pass


# One process


def test_meshes_that_do_not_fit():
    n = jax.device_count()
    assert parallel.make_mesh(n).shape == {"data": 1, "fsdp": n}
    for fsdp in (0, 3, 2 * n):
        with pytest.raises(UserError, match=f"train.fsdp is {fsdp}, but there are {n} devices; give one of 1"):
            parallel.make_mesh(fsdp)


def test_batches_that_do_not_divide():
    mesh, n = parallel.make_mesh(), jax.device_count()
    parallel.check_rows(mesh, {8: 4 * n}, 2)
    with pytest.raises(UserError, match=rf"4 parts \(train.accumulate\); set data.row_multiple to {4 * n} or"):
        parallel.check_rows(mesh, {8: 4 * n, 16: 6 * n}, 4)


def test_state_vectors_are_split_and_scalars_copied():
    mesh = parallel.make_mesh(jax.device_count())
    state = {"v": np.zeros(flat.MULTIPLE), "s": np.zeros(())}
    shardings = parallel.split_state(mesh, state)
    placed = jax.tree.map(lambda x, s: jax.device_put(x, s), state, shardings)
    assert placed["v"].addressable_shards[0].data.size == flat.MULTIPLE // jax.device_count()
    assert placed["s"].is_fully_replicated
