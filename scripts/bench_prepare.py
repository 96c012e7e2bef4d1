"""What each stage of `tts-gen prepare` takes: x real time of one core, and the hours that 200 hours of speech ask for.

    python scripts/bench_prepare.py data/queen/manifest.jsonl [--count 300]          one core, a stage after the other
    python scripts/bench_prepare.py data/queen/manifest.jsonl --whole [--workers 2]  prepare: wall time and memory

`--whole` prepares a quarter of the manifest, and all of it, each into a temporary folder, and prints how much memory
the process and its workers held at most (the sum of their resident sets; pages that they share count for each). About 2
minutes, and with `--whole` some 20 minutes for 4.4 hours of speech on 2 cores.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as in prepare's workers, and before numpy is imported

import numpy as np

from tts_gen.align.quality import quality
from tts_gen.config import Audio
from tts_gen.corpora import Utterance, read_manifest, write_manifest
from tts_gen.features import durations, mel, pitch, pooling, record
from tts_gen.features.segments import segments
from tts_gen.features.sound import Unusable, load
from tts_gen.features.writer import write_shard
from tts_gen.text import PAUSE

HOURS = 200
"""the paper's corpus"""


class Stages:
    """Seconds of this thread on a processor, by stage."""

    def __init__(self) -> None:
        self.seconds: Counter = Counter()

    @contextmanager
    def __call__(self, name: str):
        began = time.thread_time()
        yield
        self.seconds[name] += time.thread_time() - began


def one(utterance: Utterance, audio: Audio, stage: Stages) -> tuple[float, bytes]:
    """Seconds of the recording, and its packed record; as `features.extract` does it. Raises Unusable."""
    import soxr

    with stage("read"):
        recording = load(utterance.audio)
        recording.check()
    with stage("align"):
        spoken = segments(utterance, recording)
    with stage("resample"):
        wave = soxr.resample(recording.wave, recording.rate, audio.sample_rate).astype(np.float32)
    with stage("mel"):
        log_mel = mel.log_mel(wave, audio)
    with stage("f0"):
        f0 = pitch.f0(wave, audio)
    with stage("pool and pack"):
        duration = durations.fit(spoken, len(log_mel), audio)
        log_f0 = pooling.pool_log_f0(f0, duration, np.array([s.phoneme.symbol == PAUSE for s in spoken]))
        found = record.Record([s.phoneme for s in spoken], duration, log_f0, log_mel, pooling.log_contour(f0),
                              quality(spoken))  # fmt: skip
        return recording.seconds, record.pack(found)


def by_stage(utterances: list[Utterance], folder: Path) -> None:
    stage, audio, payloads, speech, dropped = Stages(), Audio(), [], 0.0, 0
    one(utterances[0], audio, Stages())  # models and filters are read
    for utterance in utterances:
        try:
            seconds, payload = one(utterance, audio, stage)
        except (Unusable, ValueError):
            dropped += 1
            continue
        speech += seconds
        payloads.append(payload)
    with stage("write"):
        write_shard(folder / "shard.array_record", payloads)
    print(
        f"{len(payloads)} utterances, {speech / 60:.1f} min of speech; {dropped} left out, whose time is counted too\n"
    )
    print(f"| stage | seconds | x real time | core hours for {HOURS} h |\n| --- | --- | --- | --- |")
    for name, seconds in [*stage.seconds.items(), ("together", sum(stage.seconds.values()))]:
        rate = speech / seconds
        print(f"| {name} | {seconds:.1f} | {rate:,.0f} | {HOURS} / {rate:,.0f} = {HOURS / rate:.2f} |")


def resident(pid: int) -> int:
    """Bytes of a process and all below it."""
    total, children = 0, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append((int(path.parent.name), int(fields[21])))
    stack = [pid]
    while stack:
        for child, pages in children.get(stack.pop(), []):
            total += pages * os.sysconf("SC_PAGE_SIZE")
            stack.append(child)
    return total


def whole(utterances: list[Utterance], folder: Path, workers: int) -> None:
    manifest = folder / f"{len(utterances)}.jsonl"
    write_manifest(manifest, utterances)
    command = [sys.executable, "-m", "tts_gen.cli", "prepare", str(manifest), str(folder / f"store{len(utterances)}"),
               "--workers", str(workers)]  # fmt: skip
    began, most = time.monotonic(), 0
    with (folder / "output").open("w+") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        while process.poll() is None:
            most = max(most, resident(os.getpid()))
            time.sleep(0.5)
        output.seek(0)
        said = [line for line in output if line.startswith("kept ")]
    if process.returncode or not said:
        raise SystemExit((folder / "output").read_text())
    print(
        f"| {len(utterances):,} | {time.monotonic() - began:.0f} | {most / 2**20:.0f} | {said[0].strip()} |", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    utterances = read_manifest(options.manifest)[0]
    with tempfile.TemporaryDirectory() as folder:
        if not options.whole:
            return by_stage(utterances[:: max(len(utterances) // options.count, 1)][: options.count], Path(folder))
        print("| utterances | seconds | MB at most | report |\n| --- | --- | --- | --- |")
        for part in (utterances[::4], utterances):
            whole(part, Path(folder), options.workers)


if __name__ == "__main__":
    main()
