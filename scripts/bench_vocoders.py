"""Speed and memory of a vocoder by the length of a mel, and how far its windows are from the whole at once.

    python scripts/bench_vocoders.py v3 --seconds 60 --whole

Random weights and mels: neither changes what is computed.
"""

import argparse
import resource
import time

import jax
import numpy as np

from tts_gen.config import Audio
from tts_gen.vocoders.hifigan import VERSIONS
from tts_gen.vocoders.vocos import Vocos
from tts_gen.vocoders.windows import Windowed

NETWORKS = VERSIONS | {"vocos": Vocos()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--whole", action="store_true", help="synthesise the whole mel at once too, and compare")
    options = parser.parse_args()
    network, audio, rng = NETWORKS[options.network], Audio(), np.random.default_rng(0)
    example = np.zeros((1, 8, audio.n_mels), np.float32), np.ones((1, 8), bool)
    shapes = jax.eval_shape(network.init, jax.random.key(0), *example)
    params = jax.tree.map(lambda s: rng.normal(0, 0.03, s.shape).astype(np.float32), shapes)
    vocoder = Windowed(options.network, network, params, audio)
    mel = rng.normal(-5, 2, (round(options.seconds / audio.frame_seconds), audio.n_mels)).astype(np.float32)
    vocoder(mel[:1])
    before, start = memory(), time.perf_counter()
    pieces = vocoder.stream(mel)
    first = next(pieces)
    latency = time.perf_counter() - start
    wave = np.concatenate([first, *pieces])
    taken = time.perf_counter() - start
    print(
        f"{options.network}: reach {network.reach} frames, window {vocoder.window}\n"
        f"  {options.seconds:g} s in {taken:.1f} s (RTF {taken / options.seconds:.3f}), first piece {latency:.2f} s\n"
        f"  peak memory {memory():.0f} MB, {memory() - before:.0f} since the start; the wave {wave.nbytes / 2**20:.0f}"
    )
    if options.whole:
        whole = np.asarray(jax.jit(network.apply)(params, mel[None], np.ones((1, len(mel)), bool)))[0]
        print(f"  the whole at once: differs by {np.abs(wave - whole).max():.1e} of {np.abs(whole).max():.2g} at most")
        print(f"  peak memory with it {memory():.0f} MB")


def memory() -> float:
    """Peak so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
