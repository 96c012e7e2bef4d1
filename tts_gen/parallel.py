"""One program for one CPU, the GPUs of a machine, or a pod: a mesh over all devices, batches split over it, state
replicated."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from tts_gen.config import UserError

DATA = "data"


def make_mesh() -> Mesh:
    """All devices of all processes along one axis, `data`."""
    return jax.make_mesh((jax.device_count(),), (DATA,), axis_types=(AxisType.Auto,))


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def global_batch(mesh: Mesh, local: dict[str, np.ndarray]) -> dict[str, jax.Array]:
    """The global batch [B, ...] from each process's rows. Raises UserError when the rows do not divide over the
    devices."""
    rows = len(next(iter(local.values()))) * jax.process_count()
    if rows % mesh.size:
        raise UserError(
            f"a batch of {rows} utterances does not divide over {mesh.size} devices; change data.batch_size"
        )
    sharding = NamedSharding(mesh, PartitionSpec(DATA))
    return {name: jax.make_array_from_process_local_data(sharding, value) for name, value in local.items()}
