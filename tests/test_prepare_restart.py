"""prepare, started again: after a kill, a full disk, a change of the manifest or the settings."""

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prepared import contents, files, make_corpus, run

from tts_gen.config import Audio, UserError
from tts_gen.corpora import Utterance, espeak, read_manifest
from tts_gen.features import pool
from tts_gen.features.prepare import prepare
from tts_gen.features.store import FeatureStore


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> list[Utterance]:
    return make_corpus(tmp_path_factory.mktemp("espeak"))


def state(directory: Path) -> dict:
    return {path: path.stat().st_mtime_ns for path in directory.rglob("*") if path.is_file() and path.name != ".lock"}


def test_a_second_run_does_only_what_is_missing(corpus, tmp_path):
    moved = []
    for utterance in corpus:
        path = tmp_path / utterance.audio.name
        path.write_bytes(utterance.audio.read_bytes())
        moved.append(replace(utterance, audio=path))
    run(tmp_path, moved)
    before = state(tmp_path / "features")
    assert run(tmp_path, moved)[0].processed == 0
    assert state(tmp_path / "features") == before

    os.utime(moved[2].audio, ns=(1, 1))
    moved[3] = replace(moved[3], text="Another text.")
    report, store = run(tmp_path, moved)
    assert report.processed == 2 and len(store.index) == len(moved) and store.index[3].text == "Another text."
    assert store.read(range(len(moved)))[2].mel.any()

    moved[4] = replace(moved[4], style="shouted", split="train")  # labels cost no new features
    report, store = run(tmp_path, moved[1:])
    assert report.processed == 0 and len(store.index) == len(moved) - 1 and store.index[3].style == "shouted"

    entry = next(e for e in store.index if e.id == moved[2].id)
    (store.root / "shards" / entry.shard).unlink()
    assert run(tmp_path, moved)[0].processed == 2  # those of that shard; what was taken out above is still there


def test_a_killed_run_makes_no_difference(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("tts_gen.features.work.SHARD_SIZES", (4, 512))
    run(tmp_path, corpus)
    store = tmp_path / "features"
    whole = files(store)
    killed, *_ = sorted((store / "shards").glob("*.rows.jsonl"))
    for name in ("index.jsonl", "stats.json", f"shards/{killed.name}"):
        (store / name).unlink()
    (store / "stats.json.1234.tmp").write_text("half")
    (store / "shards" / "abc.array_record.1234.tmp").write_text("half")
    assert run(tmp_path, corpus)[0].processed == 4
    assert files(store) == whole


def test_a_full_disk_loses_nothing(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("tts_gen.features.work.SHARD_SIZES", (4, 512))
    run(tmp_path, corpus[:4])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))  # no file can grow beyond
    try:
        with pytest.raises(UserError, match="shards cannot be written to.*File too large.*start again"):
            run(tmp_path, corpus)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "features").rglob("*.tmp"))
    assert run(tmp_path, corpus)[0].processed == len(corpus) - 4
    (tmp_path / "whole").mkdir()
    run(tmp_path / "whole", corpus)
    assert contents(FeatureStore(tmp_path / "features")) == contents(FeatureStore(tmp_path / "whole" / "features"))


def test_other_settings_need_another_directory(corpus, tmp_path):
    run(tmp_path, corpus)
    with pytest.raises(UserError, match="prepare.json: f0_method was dio and is now pyin"):
        run(tmp_path, corpus, f0_method="pyin")
    with pytest.raises(UserError, match="audio was .*another directory"):
        run(tmp_path, corpus, audio=Audio(fmax=7600.0))


def test_two_runs_do_not_meet(corpus, tmp_path):
    import fcntl

    run(tmp_path, corpus)
    with (tmp_path / "features" / ".lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(UserError, match="another process is at work"):
            run(tmp_path, corpus)


PREPARE = "import sys; from tts_gen.features.prepare import prepare; prepare(*sys.argv[1:])"


def test_a_killed_run_goes_on(tmp_path):
    utterances = read_manifest(espeak.build(tmp_path, count=48))[0]
    command = [sys.executable, "-c", PREPARE, tmp_path / "manifest.jsonl", tmp_path / "features"]
    process = subprocess.Popen(command)
    while not list((tmp_path / "features" / "shards").glob("*.rows.jsonl")):
        assert process.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    with pytest.raises(UserError, match="unfinished"):
        FeatureStore(tmp_path / "features")
    wait_until_gone(children)

    done = prepare(tmp_path / "manifest.jsonl", tmp_path / "features", workers=1)
    assert 0 < done.processed < len(utterances)
    assert prepare(tmp_path / "manifest.jsonl", tmp_path / "features", workers=1).processed == 0
    prepare(tmp_path / "manifest.jsonl", tmp_path / "whole", workers=1)
    assert contents(FeatureStore(tmp_path / "features")) == contents(FeatureStore(tmp_path / "whole"))


def wait_until_gone(processes: list[str]) -> None:
    """Workers of a killed run must not live on."""
    end = time.monotonic() + 20
    while any(lives(pid) for pid in processes):
        assert time.monotonic() < end, "workers outlive the run"
        time.sleep(0.05)


def lives(process: str) -> bool:
    try:
        return bool(Path(f"/proc/{process}/cmdline").read_bytes())  # empty where it is dead but still listed
    except (FileNotFoundError, ProcessLookupError):
        return False


def die_on_three(task: int) -> int:
    if task == 3:
        os._exit(1)
    return 10 * task


def test_a_dying_worker_costs_only_its_task():
    results = dict(pool.run(die_on_three, range(8), workers=1))
    assert results == {task: None if task == 3 else 10 * task for task in range(8)}


def test_errors_of_a_task_are_raised():
    with pytest.raises(TypeError):
        list(pool.run(die_on_three, ["a", None], workers=1))
