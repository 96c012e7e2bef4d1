"""How fast the hardware could be, and how much memory is used."""

import resource
import sys
import time

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

PEAKS = {
    "TPU v3": 123e12 / 2,  # of a core, which is a device of its own
    "TPU v4": 275e12,
    "TPU v5": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v6 lite": 918e12,
    "NVIDIA A100": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "Tesla V100": 125e12,
    "Tesla T4": 65e12,
}
"""Multiply-adds count twice; floating-point operations a second of one device with bfloat16 (float16: V100, T4) inputs,
dense, from the makers' data sheets. A device's kind starts with its name here."""


def peak(mesh: Mesh, precision: str, measure: bool) -> float | None:
    """Operations a second of all devices together: measured where that is asked for, or else from the table; None for
    devices that are not there."""
    if measure:
        return measured_peak(mesh, precision)
    kind = mesh.devices.flat[0].device_kind
    names = [name for name in PEAKS if kind.startswith(name)]
    return PEAKS[max(names, key=len)] * mesh.size if names else None


def measured_peak(mesh: Mesh, precision: str, size: int = 2048, repeats: int = 5) -> float:
    """From the fastest of some products of two [size, size] matrices on all devices at once."""
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    ones = jax.jit(lambda: jnp.ones((mesh.size, size, size), precision), out_shardings=sharding)()
    product = jax.jit(lambda a: jnp.sum(a @ a, 2))
    product(ones).block_until_ready()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        product(ones).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 * mesh.size / min(seconds)


def operations(program: jax.stages.Compiled, devices: int) -> float | None:
    """Floating-point operations of a compiled program on all its devices, as XLA counts them; None where it does not
    tell."""
    count = (program.cost_analysis() or {}).get("flops", 0.0)
    return count * devices if count > 0 else None


def memory_in_use() -> int:
    """Bytes: of the first local device where it tells, or else the most that this process has held."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
