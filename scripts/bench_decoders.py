"""Speed of a training step (forward, backward, Adam; float32) of the decoders in their references' published shapes.

    python scripts/bench_decoders.py [--repeats 5] [--only glow,grad,matcha]

Each step's frames/s and GFLOP/s (XLA's count) stand beside the float32 matrix product's peak, which is measured anew
around every case, so that what else the machine does shows. A minute or two on 2 CPU cores.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tts_gen.decoders import DECODERS

MELS = 80
CASES = {
    "glow": ("flow", {"steps": 12, "width": 192, "layers": 4, "kernel": 5, "prior": "given"}, 4, 500, 2 * MELS),
    "grad": (
        "diffusion",
        {
            "network": "unet2d",
            "widths": (64, 128, 256),
            "heads": 4,
            "head_width": 32,
            "prior_mean": "given",
            "predict": "score",
        },
        4,
        172,
        MELS,
    ),
    "matcha": ("flow_matching", {"network": "matcha", "widths": (256, 256), "prior_mean": "given"}, 4, 500, MELS),
}
"""name -> family, settings, batch, frames, width of cond (the given prior)"""


def matmul_peak(size: int = 2048, repeats: int = 8) -> float:
    """FLOP/s of the best of `repeats` float32 products of two square matrices."""
    x = jnp.ones((size, size), jnp.float32)
    product = jax.jit(lambda a, b: a @ b)
    jax.block_until_ready(product(x, x))
    return 2 * size**3 / min(_seconds(product, x, x) for _ in range(repeats))


def _seconds(function, *args) -> float:
    start = time.perf_counter()
    jax.block_until_ready(function(*args))
    return time.perf_counter() - start


def measure(name: str, repeats: int) -> dict[str, float]:
    family, settings, batch, frames, width = CASES[name]
    config = DECODERS[family](**settings, dropout=0.0)
    module = config.build(MELS)
    rng = np.random.default_rng(0)
    y, cond = (rng.standard_normal((batch, frames, n)).astype(np.float32) for n in (MELS, width))
    mask, key, adam = jnp.ones((batch, frames)), jax.random.key(0), optax.adam(1e-4)
    params = jax.jit(lambda y, cond: module.init(key, y, cond, mask, key, True, method="loss"))(y, cond)

    def step(params, state, y, cond):
        gradient = jax.grad(lambda p: module.apply(p, y, cond, mask, key, True, method="loss").mean())(params)
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state

    state = adam.init(params)
    start = time.perf_counter()
    jitted = jax.jit(step, donate_argnums=(0, 1), compiler_options=config.compiler_options)
    program = jitted.lower(params, state, y, cond).compile()
    compiled = time.perf_counter() - start
    params, state = program(params, state, y, cond)
    before, taken = matmul_peak(), []
    for _ in range(repeats):
        start = time.perf_counter()
        params, state = jax.block_until_ready(program(params, state, y, cond))
        taken.append(time.perf_counter() - start)
    seconds = np.median(taken)
    return {
        "parameters": sum(x.size for x in jax.tree.leaves(params)),
        "compile": compiled,
        "seconds": seconds,
        "frames": batch * frames / seconds,
        "flops": program.cost_analysis()["flops"] / seconds,
        "peak": max(before, matmul_peak()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", default=",".join(CASES), help="comma list of " + ", ".join(CASES))
    options = parser.parse_args()
    print("decoder  parameters  compile s  step s  frames/s  GFLOP/s   peak  % of peak")
    for name in options.only.split(","):
        r = measure(name, options.repeats)
        print(
            f"{name:7s} {r['parameters'] / 1e6:9.2f} M {r['compile']:10.1f} {r['seconds']:7.2f} {r['frames']:9,.0f} "
            f"{r['flops'] / 1e9:8.0f} {r['peak'] / 1e9:6.0f} {100 * r['flops'] / r['peak']:9.0f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
