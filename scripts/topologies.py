"""The losses of one training on other topologies: devices, processes, a split state, accumulation.

    python scripts/topologies.py STORE [--steps 20] [--configs configs/prosody_flow.py configs/acoustic_diffusion.py]

Each is a train.py of its own (two for two processes) on simulated CPU devices. Prints the losses of every step and each
topology's largest relative difference from one device. About 10 minutes on 2 cores, most of it compiling.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOPOLOGIES = {
    "1 device": (1, 1, []),
    "8 devices": (1, 8, []),
    "8, fsdp 4": (1, 8, ["--train.fsdp", "4"]),
    "2 x 4": (2, 4, []),
    "accumulate 4": (1, 1, ["--train.accumulate", "4"]),
}
"""name -> processes, devices of each, options"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def losses(config: str, store: str, steps: int, workdir: Path, processes: int, devices: int, options: list) -> list:
    """Of every step, from metrics.jsonl."""
    command = [sys.executable, ROOT / "train.py", config, "--workdir", workdir, "--data.features", store]
    # The same batches for all: rows that divide over 8 devices or 4 parts of one.
    command += ["--train.steps", steps, "--train.log-every", 1, "--train.save-every", steps, *options]
    address, started = f"127.0.0.1:{free_port()}", []
    for process in range(processes):
        rank = ["--coordinator", address, "--processes", processes, "--process", process] if processes > 1 else []
        env = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        arguments = [str(a) for a in (*command, *rank)]
        started.append(subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=env))
    messages = [process.communicate()[1] for process in started]
    if any(process.returncode for process in started):
        raise SystemExit("\n".join(messages))
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--configs", nargs="+", default=["configs/prosody_flow.py", "configs/acoustic_diffusion.py"])
    options = parser.parse_args()
    for config in options.configs:
        found = {}
        with tempfile.TemporaryDirectory() as folder:
            for i, (name, (processes, devices, more)) in enumerate(TOPOLOGIES.items()):
                run = Path(folder) / str(i)
                found[name] = losses(config, options.store, options.steps, run, processes, devices, more)
                print(f"{config}: {name} done", file=sys.stderr)
        print(f"\n{config}\n\n| step | {' | '.join(found)} |\n|{' --- |' * (len(found) + 1)}")
        for step, row in enumerate(zip(*found.values(), strict=True), 1):
            print(f"| {step} | {' | '.join(f'{x:.7f}' for x in row)} |")
        reference = found["1 device"]
        for name in list(found)[1:]:
            difference = [abs(a / b - 1) for a, b in zip(found[name], reference, strict=True)]
            first, every = max(difference[:5]), max(difference)
            print(f"{name}: largest relative difference {first:.1e} in 5 steps, {every:.1e} in all", flush=True)


if __name__ == "__main__":
    main()
