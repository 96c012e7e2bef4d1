"""Kills `tts-gen prepare` at random moments, starts it again, and compares the store with one that was never killed.

    python scripts/check_prepare.py data/asterisk/manifest.jsonl [--kills 20] [--utterances 60] [--seed 0]

Each time a new store is begun and ended by SIGKILL: every other time at a moment drawn over the length of a whole run,
else as soon as a file drawn at random is there, when the next may be half written. The run is started again at once,
while workers of the killed one may still be at work, and must leave the same files, all of the same SHA-256. Prints a
line for each kill and exits 1 where something differs. About 8 minutes on 2 cores.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tts_gen.corpora import read_manifest, write_manifest
from tts_gen.features.store import INDEX


def command(manifest: Path, store: Path) -> list[str]:
    return [sys.executable, "-m", "tts_gen.cli", "prepare", str(manifest), str(store)]


def to_the_end(manifest: Path, store: Path) -> float:
    """Seconds it took."""
    began = time.monotonic()
    done = subprocess.run(command(manifest, store), capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.monotonic() - began


def checksums(store: Path) -> dict[str, str]:
    files = [p for p in store.rglob("*") if p.is_file() and p.name != ".lock"]
    return {str(p.relative_to(store)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def half_written(store: Path) -> list[str]:
    """Files by the name they will have."""
    return sorted(p.name.rsplit(".", 2)[0] for p in store.rglob("*.tmp"))


def wait_for(process: subprocess.Popen, file: Path | None, seconds: float) -> None:
    """Until `file` is there, or where none is given for some seconds; no longer than the process runs."""
    end = time.monotonic() + seconds
    while process.poll() is None and (not file.exists() if file else time.monotonic() < end):
        time.sleep(0.0002)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--utterances", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng, same = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as folder:
        manifest = Path(folder) / "manifest.jsonl"
        utterances = read_manifest(options.manifest)[0]
        write_manifest(manifest, utterances[:: max(len(utterances) // options.utterances, 1)][: options.utterances])
        whole = to_the_end(manifest, Path(folder) / "reference")
        reference = checksums(Path(folder) / "reference")
        print(f"never killed: {whole:.1f} s, {len(reference)} files", flush=True)
        for kill in range(options.kills):
            store = Path(folder) / str(kill)
            target = store / rng.choice(sorted(reference.keys() - {INDEX})) if kill % 2 else None
            quiet = subprocess.DEVNULL  # not a pipe, whose end would wait for the workers'
            began, process = time.monotonic(), subprocess.Popen(command(manifest, store), stdout=quiet, stderr=quiet)
            wait_for(process, target, whole * rng.random())
            process.kill()
            process.wait()
            moment = time.monotonic() - began
            left, finished = half_written(store), (store / INDEX).is_file()
            shards = len(list(store.glob("shards/*.rows.jsonl")))
            to_the_end(manifest, store)
            same.append(checksums(store) == reference)
            print(f"killed at {moment:.1f} s with {shards} shards, {'finished' if finished else 'not finished'}, half "
                  f"written: {', '.join(left) or 'nothing'}; then {'identical' if same[-1] else 'DIFFERENT'}",
                  flush=True)  # fmt: skip
    print(f"{sum(same)} of {len(same)} stores are identical to the one that was never killed")
    raise SystemExit(0 if all(same) else 1)


if __name__ == "__main__":
    main()
