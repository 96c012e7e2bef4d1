"""Speed and padding between logged steps, spikes of a loss, and the measured peak."""

import time

import jax
import numpy as np
import pytest

from tts_gen import parallel, speed
from tts_gen.window import Spikes, Window


def test_a_window_counts_and_starts_again():
    window = Window(peak=1e9)
    for _ in range(2):
        with window.waiting():
            time.sleep(0.05)
        window.add(30, 40, 1e7)
        with window.pausing():
            time.sleep(0.5)
    found = window.close(processes=2, memory=3 * 10**9)
    seconds = 2 * found["step_seconds"]
    assert seconds < 0.9  # without the pause
    assert 0.1 <= found["data_wait"] <= seconds
    np.testing.assert_allclose(found["positions_per_second"], 120 / seconds)
    np.testing.assert_allclose(found["gflops"], 0.02 / seconds)
    np.testing.assert_allclose(found["peak_share"], 0.02 / seconds)
    assert found["padding"] == 0.25 and found["memory_gb"] == 3
    assert window.close(1, 0)["data_wait"] == 0


def test_what_is_not_known_is_left_out():
    window = Window(peak=None)
    window.add(1, 1, None)
    assert not {"gflops", "peak_share"} & set(window.close(1, 0))


@pytest.mark.parametrize("level", [0.0, -5.0, 100.0])
def test_spikes_stand_out_and_noise_does_not(level):
    rng, spikes = np.random.default_rng(0), Spikes()
    losses = level + rng.normal(size=2000)
    assert not [x for x in losses if spikes.above(x) is not None]
    median = spikes.above(level + 12)
    assert abs(median - level) < 0.5
    assert spikes.above(level - 12) is None and spikes.above(float("nan")) is None


def test_the_start_of_a_training_is_no_spike():
    spikes = Spikes()
    assert all(spikes.above(x) is None for x in np.linspace(9, 1, 300))


def test_peak_is_measured_or_from_the_table(monkeypatch):
    mesh = parallel.make_mesh()
    assert speed.peak(mesh, "float32", measure=False) is None  # a CPU is not in the table
    assert 1e8 < speed.peak(mesh, "float32", measure=True) < 1e14

    class Device:
        device_kind = "NVIDIA H100 PCIe"

    class Mesh:
        devices, size = np.array([Device(), Device()]), 2

    assert speed.peak(Mesh, "bfloat16", measure=False) == 2 * 756e12  # the longest name that fits


def test_operations_are_those_of_a_product():
    a = np.ones((64, 32), np.float32)
    program = jax.jit(lambda a: a @ a.T).lower(a).compile()
    np.testing.assert_allclose(speed.operations(program, 1), 2 * 64 * 64 * 32, rtol=0.05)
    assert speed.memory_in_use() > 1e7
