"""Time and memory of an evaluation from stored samples, of more and more utterances.

    python scripts/bench_evaluation.py STORE prosody --counts 1000,3000,10000     8 samples of each utterance
    python scripts/bench_evaluation.py STORE acoustic --counts 300,1000,3000      mels of 2 systems

Utterances are drawn from STORE with replacement, samples are stretches of its speech: real statistics, no text. Each
count is evaluated by `eval.py`'s own comparison in a process of its own: a regression, diffusion, all controls and
floors, and the regression's likelihood, which is computed. Files go to a temporary folder, 1 GB for 10,000 utterances.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # configs import one another
RUNS = {"prosody": ("prosody_l2", "prosody_diffusion"), "acoustic": ("acoustic_l1", "acoustic_diffusion")}
SHARD = 1000
"""records"""


def larger_store(source, root: Path, count: int, rng: np.random.Generator):
    """A store with `source`'s train and val, and `count` test utterances drawn from all of it, each its own group."""
    from tts_gen.features import writer
    from tts_gen.features.store import SHARDS, FeatureStore, RecordReader

    (root / SHARDS).mkdir(parents=True)
    reader = RecordReader(source.root, source.index.shard_lengths)
    chosen = [e for e in source.index if e.split in ("train", "val")]
    drawn = rng.choice(len(source.index), count)
    chosen += [replace(source.index[j], id=f"u{i}", group=f"u{i}", split="test") for i, j in enumerate(drawn)]
    index = []
    for first in range(0, len(chosen), SHARD):
        part, shard = chosen[first : first + SHARD], f"{first // SHARD:05d}.array_record"
        writer.write_shard(root / SHARDS / shard, [reader.payload(e) for e in part])
        index += [replace(e, shard=shard, position=i) for i, e in enumerate(part)]
    writer.finish(root, source.audio, index)
    return FeatureStore(root)


def store_samples(c, rng: np.random.Generator) -> None:
    """What eval.py would have stored, of stretches of the training split's speech."""
    from tts_gen.evaluation import generate, stored
    from tts_gen.evaluation.split import Split

    stats = c.store.stats
    known = Split.read(c.store, "train").only(slice(200)).utterances
    prosody = c.runs[0].config.task == "prosody"

    def speech(u) -> np.ndarray:
        if not prosody:
            return u.mel
        log_f0 = stats.normalise_log_f0(u.log_f0, np.asarray(u.speaker))
        log_f0 = np.where(u.voiced, log_f0, rng.standard_normal(len(log_f0)))
        return np.stack([log_f0, stats.normalise_log_duration(np.log(u.duration + 0.5))], -1).astype(np.float32)

    flat = np.concatenate([speech(u) for u in known])

    def stretch(n: int) -> np.ndarray:
        first = rng.integers(len(flat) - n)
        return flat[first : first + n]

    for run in c.runs:
        for split in c.splits.values():
            for temperature in c.grid(run):
                k = c.count(run, temperature)

                def make(part: Split, first: int, k=k) -> dict[str, np.ndarray]:
                    lengths = [e.n_phonemes if prosody else e.n_frames for e in part.entries]
                    drawn = [np.concatenate([stretch(n) for n in lengths]) for _ in range(k)]
                    return {"y": np.stack(drawn)} if prosody else {"mel": drawn[0].astype(np.float16)}

                folder = generate.samples_path(c.out, run, split.name, temperature)
                stored.parts(folder, split, generate.settings_of(run, k, c.seed), make)


def opened(store: Path, runs: list[Path], out: Path):
    from tts_gen.evaluation.comparison import open_comparison

    return open_comparison(runs, out, (1.0,), 8, "test", 0, features=store)


def untrained(names: tuple[str, ...], store, folder: Path) -> list[Path]:
    """Runs of random parameters: only their likelihood, of the regression, is computed."""
    import jax

    from tts_gen import fit, flat, tasks
    from tts_gen.batches import TrainingBatches
    from tts_gen.checkpoint import Checkpoints
    from tts_gen.config import read_config_file

    key = jax.random.key(0)
    for name in names:
        c = read_config_file(ROOT / f"configs/{name}.py")
        c = replace(c, data=replace(c.data, features=str(store.root)))
        task = tasks.build(c, store.inventory, store.stats)
        batch = TrainingBatches(store, c)[0]
        shapes = jax.eval_shape(lambda b, t=task: t.init(key, b, key, False, method="loss")["params"], batch)
        params = jax.tree.map(lambda x: 0.05 * np.random.default_rng(0).standard_normal(x.shape, np.float32), shapes)
        (folder / name).mkdir()
        fit.write_run(c, folder / name, store)
        with Checkpoints(folder / name) as checkpoints:
            checkpoints.save(1, {"ema": flat.flatten(params)}, flat.layout(params), {"val_loss": 0.0})
    return [folder / name for name in names]


def evaluate(store: Path, out: Path, runs: list[Path]) -> None:
    """One count, in this process; prints its figures."""
    from tts_gen.evaluation.compare import compare

    c = opened(store, runs, out)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    rows, _ = compare(c)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"seconds": time.monotonic() - began, "before": before, "peak": peak, "rows": len(rows)}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("task", choices=RUNS)
    parser.add_argument("--counts", type=lambda text: [int(n) for n in text.split(",")], default=[1000, 3000, 10000])
    parser.add_argument("--evaluate", nargs="+", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("tts_gen.evaluation").setLevel(logging.INFO)
    if options.evaluate:
        out, *runs = options.evaluate
        return evaluate(options.store, out, runs)

    from tts_gen.features.store import FeatureStore

    source, rng, runs = FeatureStore(options.store), np.random.default_rng(0), []
    print("| utterances | seconds | MB before | MB at most |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for count in options.counts:
            store = larger_store(source, Path(folder) / f"store{count}", count, rng)
            runs, out = runs or untrained(RUNS[options.task], store, Path(folder)), Path(folder) / f"out{count}"
            store_samples(opened(store.root, runs, out), rng)
            command = [sys.executable, __file__, store.root, options.task, "--evaluate", out, *runs]
            done = subprocess.run(list(map(str, command)), stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"| {count:,} | {found['seconds']:.0f} | {found['before'] / 1024:.0f} | {found['peak'] / 1024:.0f} |",
                  flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
