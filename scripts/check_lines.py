"""Kills the synthesis of many lines at random moments, lets it go on, and compares with one that was never killed.

    python scripts/check_lines.py RUNS [--lines 1000] [--kills 20] [--seed 0]

RUNS holds prosody_flow and acoustic_flow, as the demo's directory does. The lines are ends of synthetic
sentences; Griffin-Lim makes the waves. Every wav must be there, told no more than once, and equal byte for byte;
exits 1 where something differs. A few lines have a phoneme that a small corpus lacks, and are left out of both. About
ten minutes on 2 cores.
"""

import argparse
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tts_gen.corpora.sentences import sentences


def start(runs: Path, lines: Path, out: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "tts_gen.cli", "synthesize", "--file", lines, "--out", out, "--vocoder"]
    command += ["griffin_lim", "--prosody", runs / "prosody_flow", "--acoustic", runs / "acoustic_flow"]
    return subprocess.Popen([str(c) for c in command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def made(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.wav"))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, metavar="RUNS")
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        lines, whole, killed = (Path(folder) / name for name in ("lines.txt", "whole", "killed"))
        texts = [f"{' '.join(text.split()[-3:])}\n" for text, _ in sentences(options.lines)]
        lines.write_text("".join(texts))
        began = time.monotonic()
        told = start(options.runs, lines, whole).communicate()[0]
        seconds = time.monotonic() - began
        print(f"{len(made(whole))} wavs in {seconds:.0f} s without a stop", flush=True)
        shown = []
        for kill in range(options.kills):
            process, before = start(options.runs, lines, killed), len(made(killed))
            goal = before + rng.randint(1, max(1, 2 * (options.lines - before) // (options.kills - kill + 1)))
            while process.poll() is None and len(list(killed.glob("*.wav"))) < goal:
                time.sleep(0.005)
            time.sleep(rng.random() * 0.2)
            process.kill()
            shown += process.communicate()[0].splitlines()
        shown += start(options.runs, lines, killed).communicate()[0].splitlines()
        expected, found = made(whole), made(killed)
        files = [line.split("  ")[0] for line in shown]
        again = len(files) - len(set(files))
        left = [path.name for path in killed.iterdir() if path.name not in found]
        print(
            f"{options.kills} kills: {len(found)} wavs, equal: {found == expected}; {again} told twice; besides: {left}"
        )
        return 0 if found == expected and len(found) == len(told.splitlines()) and not again else 1


if __name__ == "__main__":
    sys.exit(main())
