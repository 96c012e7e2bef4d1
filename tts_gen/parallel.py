"""One program for one CPU, the GPUs of a machine, or a pod: processes, a mesh over all their devices, batches split
over it, the state copied or split.

Mesh axes: `data` and `fsdp`. A batch is split over both. The state's vectors (parameters, their mean, the optimiser's
moments) are split over `fsdp` and copied along `data`; a step gathers the parameters before it uses them.
"""

import json
import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tts_gen import flat
from tts_gen.config import Stopped, UserError

DATA, FSDP = "data", "fsdp"
LONGEST_MESSAGE = 2**15
"""bytes that `gather` passes on"""


@contextmanager
def processes(coordinator: str = "", count: int = 0, process: int = -1) -> Iterator[None]:
    """Joins the processes of one training or evaluation; does nothing where there is one. Must come before all other
    use of jax.

    With a coordinator HOST:PORT (of process 0) the count and the rank must be given too, here or by JAX_NUM_PROCESSES
    and JAX_PROCESS_ID; "auto" leaves all three to jax, which asks SLURM, Open MPI or the TPU's metadata. Without one,
    what the environment says counts (`_found`). Raises UserError.

    An error within that not all processes have ends this one at once: what the others wait for will never come.
    """
    coordinator = coordinator or _found()
    if not coordinator:
        if count or process >= 0:
            raise UserError("--processes and --process need the first one's address: --coordinator HOST:PORT")
        yield
        return
    _join(coordinator, count, process)
    try:
        yield
    except (Stopped, Agreed):
        jax.distributed.shutdown()
        raise
    except Exception as error:
        known = isinstance(error, UserError)
        print(f"error: {error}" if known else traceback.format_exc(), file=sys.stderr, flush=True)
        os._exit(1)
    jax.distributed.shutdown()


def _join(coordinator: str, count: int, process: int) -> None:
    # The training loop agrees on a stop itself: jax's service would take SIGTERM from it.
    jax.config.update("jax_enable_preemption_service", False)
    settings: dict[str, Any] = {}
    if coordinator != "auto":
        if not coordinator.rpartition(":")[2].isdigit():
            raise UserError(f"coordinator {coordinator}: give HOST:PORT, such as 10.0.0.1:1234")
        count = count or int(os.environ.get("JAX_NUM_PROCESSES") or 0)
        rank = os.environ.get("JAX_PROCESS_ID", os.environ.get("JOB_COMPLETION_INDEX", "-1"))
        process = process if process >= 0 else int(rank)
        if not 0 <= process < count:
            raise UserError(
                f"coordinator {coordinator}: process {process} of {count}; give --processes N and --process 0 to "
                "N - 1, or JAX_NUM_PROCESSES and JAX_PROCESS_ID in the environment"
            )
        settings = {"coordinator_address": coordinator, "num_processes": count, "process_id": process,
                    "cluster_detection_method": "deactivate"}  # fmt: skip
    try:
        jax.distributed.initialize(**settings)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"coordinator {coordinator}: the processes did not find each other: {error}") from error


def _found() -> str:
    """The coordinator that the environment names; "auto" where jax finds it; "" for a process of its own."""
    e = os.environ
    many = lambda name: e.get(name, "1").isdigit() and int(e.get(name, "1")) > 1  # noqa: E731
    launched = ("SLURM_PROCID" in e and many("SLURM_NTASKS")) or many("OMPI_COMM_WORLD_SIZE")
    pod = "," in e.get("TPU_WORKER_HOSTNAMES", "") or many("MEGASCALE_NUM_SLICES")
    return e.get("JAX_COORDINATOR_ADDRESS") or ("auto" if launched or pod else "")


def make_mesh(fsdp: int = 1) -> Mesh:
    """All devices of all processes. Raises UserError when they do not divide into groups of `fsdp`."""
    devices = jax.device_count()
    fitting = [n for n in range(1, devices + 1) if devices % n == 0 and flat.MULTIPLE % n == 0]
    if fsdp not in fitting:
        allowed = ", ".join(map(str, fitting))
        raise UserError(f"train.fsdp is {fsdp}, but there are {devices} devices; give one of {allowed}")
    return jax.make_mesh((devices // fsdp, fsdp), (DATA, FSDP), axis_types=(AxisType.Auto,) * 2)


def local_mesh() -> Mesh:
    """All devices of this process."""
    return Mesh(np.array(jax.local_devices()).reshape(-1, 1), (DATA, FSDP), axis_types=(AxisType.Auto,) * 2)


def over_rows(mesh: Mesh) -> NamedSharding:
    """A batch's arrays [B, ...], split over all devices."""
    return NamedSharding(mesh, PartitionSpec((DATA, FSDP)))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def split_state(mesh: Mesh, state: Any) -> Any:
    """The sharding of each leaf: vectors over `fsdp`, scalars copied."""
    vector = NamedSharding(mesh, PartitionSpec(FSDP))
    return jax.tree.map(lambda x: vector if x.ndim else replicated(mesh), state)


def check_rows(mesh: Mesh, rows: Mapping[int, int], accumulate: int) -> None:
    """Raises UserError when the batches, `rows` sequences for each bucket length, do not divide over the devices and
    the parts of a step."""
    for length, count in rows.items():
        if count % (mesh.size * accumulate):
            parts = f" in {accumulate} parts (train.accumulate)" if accumulate > 1 else ""
            raise UserError(
                f"a batch has {count} sequences of length {length}, which do not divide over {mesh.size} "
                f"devices{parts}; set data.row_multiple to {mesh.size * accumulate} or a multiple of it, "
                f"and data.batch_size to at least {mesh.size * accumulate * max(rows)}"
            )


def global_batch(mesh: Mesh, local: dict[str, np.ndarray], stop: bool = False) -> dict[str, jax.Array]:
    """The global batch [B, ...] from each process's rows, in the order of the processes.

    Adds `row` [B], the place of each row in it, and `stop` [B], whether the row's process was asked to stop.
    """
    n = len(next(iter(local.values())))
    row = np.arange(n, dtype=np.int32) + jax.process_index() * n
    local = local | {"row": row, "stop": np.full(n, stop)}
    return {name: jax.make_array_from_process_local_data(over_rows(mesh), value) for name, value in local.items()}


def put(vector: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """An array that every process holds whole, laid out over the devices."""
    return jax.make_array_from_callback(vector.shape, sharding, lambda index: vector[index])


class Agreed(UserError):
    """An error that every process raises."""


def gather(text: str) -> list[str]:
    """What each process gave, cut to LONGEST_MESSAGE bytes."""
    if jax.process_count() == 1:
        return [text]
    padded = np.frombuffer(text.encode()[:LONGEST_MESSAGE].ljust(LONGEST_MESSAGE), np.uint8)
    return [bytes(row).decode(errors="ignore").strip() for row in multihost_utils.process_allgather(padded)]


def agree(error: str) -> None:
    """Raises Agreed in every process, with the message of the first that has an `error`."""
    if found := next((text for text in gather(error) if text), ""):
        raise Agreed(found)


def check_same(settings: Mapping[str, Any]) -> None:
    """Raises Agreed, in every process, where `settings` differ between them, naming the first that do."""
    everyone = [json.loads(text) for text in gather(json.dumps(settings, default=str))]
    for process, other in enumerate(everyone):
        if names := [name for name in other if other[name] != everyone[0].get(name)]:
            raise Agreed(
                f"processes 0 and {process} were started with different {', '.join(names[:5])}; give all processes "
                "the same options"
            )
