"""A feature store of a million utterances: to open it, to plan an epoch, to fetch batches, to read at random.

    python scripts/bench_store.py STORE [--utterances 1000000] [--records 20000] [--config configs/prosody_flow.py]

The index has so many lines, which share so many records, copied from STORE into shards of a temporary folder (50 KB
each). Prints what each step takes and the resident memory after it; reading at random with the shards dropped from the
system's cache, and again. About 2 minutes.
"""

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tts_gen.batches import TrainingBatches
from tts_gen.config import read_config_file
from tts_gen.features.store import AUDIO, INDEX, INVENTORY, SHARDS, STATS, FeatureStore, RecordReader
from tts_gen.features.writer import write_shard

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # configs import one another
SHARD = 2000
"""records, about 100 MB"""


def enlarge(source: FeatureStore, root: Path, utterances: int, records: int) -> None:
    """A store of as many training utterances."""
    (root / SHARDS).mkdir(parents=True)
    for name in (AUDIO, STATS, INVENTORY):
        shutil.copy(source.root / name, root)
    reader = RecordReader(source.root, source.index.shard_lengths)
    entries = [source.index[i % len(source.index)] for i in range(records)]
    for first in range(0, records, SHARD):
        payloads = [reader.payload(e) for e in entries[first : first + SHARD]]
        write_shard(root / SHARDS / f"{first // SHARD:06d}.array_record", payloads)
    rows = [asdict(e) for e in entries]
    with (root / INDEX).open("w") as file:
        for i in range(utterances):
            j = i % records
            at = {"shard": f"{j // SHARD:06d}.array_record", "position": j % SHARD}
            names = {"id": f"utterance-{i:07d}", "group": f"group-{i // 10:06d}", "split": "train"}
            file.write(json.dumps(rows[j] | names | at) + "\n")


def forget(folder: Path) -> None:
    """Drops files from the system's cache."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Clock:
    """Prints lines of a table: what was done since the last."""

    def __init__(self) -> None:
        print("| step | seconds | rate | MB resident |\n| --- | --- | --- | --- |")
        self.began = time.monotonic()

    def tell(self, what: str, count: int = 0, unit: str = "") -> None:
        seconds = time.monotonic() - self.began
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        memory = pages * resource.getpagesize() / 2**20
        print(f"| {what} | {seconds:.2f} | {f'{count / seconds:,.0f} {unit}/s' if count else ''} | {memory:.0f} |",
              flush=True)  # fmt: skip
        self.began = time.monotonic()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--utterances", type=int, default=1_000_000)
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--config", type=Path, default=ROOT / "configs/prosody_flow.py")
    parser.add_argument("--reads", type=int, default=3000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        enlarge(FeatureStore(options.store), root, options.utterances, options.records)
        forget(root / SHARDS)
        clock = Clock()
        clock.tell("start")
        store = FeatureStore(root)
        clock.tell("open", options.utterances, "utterances")
        positions = np.random.default_rng(0).choice(options.records, options.reads, replace=False)
        for cache in ("dropped", "warm"):
            for position in positions:
                store.read([position])
            clock.tell(f"read at random, system's cache {cache}", options.reads, "utterances")
        batches = TrainingBatches(store, read_config_file(options.config))
        clock.tell("plan: lengths, buckets")
        steps = batches.plan.rounds.start(1)
        for step in range(steps):
            batches.plan(step)
        clock.tell(f"plan: all {steps:,} batches of an epoch", steps, "batches")
        iterator, rows = batches.iterate(0), 0
        while rows < options.reads:
            rows += len(next(iterator)["length"])
        clock.tell("fetch batches, 2 threads", rows, "utterances")


if __name__ == "__main__":
    main()
