"""A store at an address is read as a local one; each shard is fetched once, when it is needed, whole or not at all."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations
from mixtures import make_pair, mixed
from models import small_config
from rich.console import Console

from tts_gen.batches import TrainingBatches
from tts_gen.config import UserError
from tts_gen.features.mix import mix
from tts_gen.features.remote import Unreachable, relative, resolved
from tts_gen.features.store import FeatureStore
from tts_gen.inspection.measures import measure


class Told(MemoryFileSystem):
    """memory:// that notes what is fetched, and fails as it is told to."""

    protocol = "told"
    store, pseudo_dirs = {}, [""]
    fetched: list[str] = []
    failure: Exception | None = None
    cut = False

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(path.replace("told://", "memory://"))

    def get_file(self, name, local, **_):
        if type(self).failure:
            raise type(self).failure
        data = self.cat_file(name)
        type(self).fetched.append(Path(name).name)
        Path(local).write_bytes(data[: len(data) // 2] if type(self).cut else data)


fsspec.register_implementation("told", Told)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """first, second and a mixture of both."""
    folder = tmp_path_factory.mktemp("corpora")
    make_pair(folder)
    mixed(folder, 1, 2)
    return folder


@pytest.fixture(autouse=True)
def bucket(folder, tmp_path, monkeypatch):
    """The folder's address; nothing is fetched yet."""
    monkeypatch.setenv("TTS_GEN_STORES", str(tmp_path / "cache"))
    Told.store.clear()
    Told.fetched, Told.failure, Told.cut = [], None, False
    upload(folder, "told://bucket/corpora")
    return "told://bucket/corpora"


def upload(folder: Path, address: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            Told().pipe_file(f"{address}/{path.relative_to(folder)}", path.read_bytes())


def shards_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("shards/*") if p.suffix != ".lock")


def assert_same(store: FeatureStore, local: FeatureStore) -> None:
    assert len(store.index) == len(local.index) and store.fingerprint == local.fingerprint
    for here, there in zip(store.read(range(len(store.index))), local.read(range(len(store.index))), strict=True):
        for name, value in vars(here).items():
            np.testing.assert_array_equal(value, getattr(there, name), name)


@pytest.mark.parametrize("name", ["first", "second", "mixed"])
def test_a_store_at_an_address_is_read_as_a_local_one(bucket, folder, name):
    store, local = FeatureStore(f"{bucket}/{name}/"), FeatureStore(folder / name)
    assert_same(store, local)
    assert store.root.name == name and store.inventory == local.inventory
    assert store.stats.to_dict() == local.stats.to_dict() and store.mixture.rates == local.mixture.rates
    for task in ("prosody", "acoustic"):
        batches = [TrainingBatches(s, small_config(task)) for s in (store, local)]
        for step in (0, 5):
            one, other = (b[step] for b in batches)
            assert all((one[key] == other[key]).all() for key in one | other)


def test_a_shard_is_fetched_when_it_is_needed_and_once(bucket, tmp_path):
    store = FeatureStore(f"{bucket}/mixed")
    assert shards_in(tmp_path / "cache") == []
    store.read([0])
    assert len(shards_in(tmp_path / "cache")) == 1
    store.read([1, 60])
    assert len(shards_in(tmp_path / "cache")) == 2
    Told.failure = OSError("the network is down")
    store.read(range(len(store.index)))
    Told.failure = None
    again = FeatureStore(f"{bucket}/mixed")
    Told.failure = OSError("the network is down")
    again.read(range(len(again.index)))
    assert Told.fetched.count("00000.array_record") == 2 and len(list((tmp_path / "cache").glob("*/*"))) == 1


def test_threads_fetch_a_shard_once(bucket):
    store = FeatureStore(f"{bucket}/first")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: store.read([i]), range(40)))
    assert Told.fetched.count("00000.array_record") == 1


def test_a_store_that_changed_is_fetched_anew(bucket, folder, tmp_path):
    old = FeatureStore(f"{bucket}/first")
    old.read([0])
    upload(folder / "second", f"{bucket}/first")
    new = FeatureStore(f"{bucket}/first")
    assert new.fingerprint != old.fingerprint
    assert_same(new, FeatureStore(folder / "second"))
    assert_same(old, FeatureStore(folder / "first"))  # what it had stays


def test_a_local_mixture_of_stores_elsewhere(bucket, folder, tmp_path):
    mix(tmp_path / "mixed", [(f"{bucket}/first", 1.0), (f"{bucket}/second", 2.0)])
    store, local = FeatureStore(tmp_path / "mixed"), FeatureStore(folder / "mixed")
    for i in (0, 70):
        (here,), (there,) = store.read([i]), local.read([i])
        np.testing.assert_array_equal(here.mel, there.mel)
    assert store.index[0].audio == f"{bucket}/first/train0.wav"
    assert store.stats.to_dict() == local.stats.to_dict() and store.mixture.rates == local.mixture.rates
    Told().rm(f"{bucket}/second/index.jsonl")
    with pytest.raises(UserError, match=f"second is not at {bucket}/second any more"):
        FeatureStore(tmp_path / "mixed")
    upload(folder / "first", f"{bucket}/second")
    with pytest.raises(UserError, match=f"{bucket}/second changed since it was mixed"):
        FeatureStore(tmp_path / "mixed")


SLOW = """
import sys, time
from pathlib import Path
import fsspec
from fsspec.implementations.local import LocalFileSystem

class Slow(LocalFileSystem):
    protocol = "slow"

    @classmethod
    def _strip_protocol(cls, path):
        return path.removeprefix("slow://")

    def get_file(self, name, local, **_):
        data = Path(name).read_bytes()
        with open(local, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            if name.endswith(".array_record"):
                print("fetching", flush=True)
                time.sleep(float(sys.argv[2]))
            file.write(data[len(data) // 2 :])

fsspec.register_implementation("slow", Slow)
from tts_gen.features.store import FeatureStore
store = FeatureStore("slow://" + sys.argv[1])
print("read", len(store.read(range(40))))
"""


def slowly(store: Path, seconds: float) -> subprocess.Popen:
    command = [sys.executable, "-c", SLOW, str(store), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ, cwd=Path(__file__).parents[1])


def test_processes_share_what_is_fetched_and_one_killed_harms_none(folder, tmp_path):
    killed = slowly(folder / "first", 600)
    assert killed.stdout.readline() == "fetching\n"
    waiting = [slowly(folder / "first", 0.2) for _ in range(2)]
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    told = [process.communicate(timeout=60)[0].splitlines() for process in waiting]
    assert sorted(told) == [["fetching", "read 40"], ["read 40"]]
    (shard,) = shards_in(tmp_path / "cache")  # and no half of one
    assert (tmp_path / "cache" / shard).read_bytes() == next((folder / "first" / "shards").iterdir()).read_bytes()


def test_a_network_that_fails_ends_training_and_leaves_nothing_out(bucket, tmp_path):
    batches = TrainingBatches(FeatureStore(f"{bucket}/first"), small_config())
    Told.failure = RuntimeError("503")
    with pytest.raises(Unreachable, match=r"first/shards/00000.array_record cannot be fetched .*RuntimeError: 503"):
        batches[0]
    with pytest.raises(Unreachable):  # also out of the threads that read ahead
        next(batches.iterate(0))
    Told.failure, Told.cut = None, True
    with pytest.raises(Unreachable, match="00000.array_record broke off after .* bytes"):
        batches[0]
    assert shards_in(tmp_path / "cache") == []
    Told.cut = False
    assert (batches[0]["length"] > 0).all()  # and goes on


def test_a_shard_that_is_missing_or_damaged_there_is_told(bucket, folder):
    shard = f"{bucket}/first/shards/00000.array_record"
    local = FeatureStore(folder / "first")
    data = bytearray(Told().cat_file(shard))
    data[data.find(local._records.payload(local.index[7])[200:300])] ^= 0xFF
    Told().pipe_file(shard, bytes(data))
    store, problems = FeatureStore(f"{bucket}/first"), []
    for i in range(len(store.index)):
        try:
            store.read([i])
        except UserError as error:
            problems.append(str(error))
    assert len(problems) == 1 and f"delete that file and it will be fetched again from {shard}" in problems[0]
    Told().rm(f"{bucket}/second/shards/00000.array_record")
    with pytest.raises(UserError, match="utterance .*: damaged record 0 in .*second"):
        FeatureStore(f"{bucket}/second").read([0])


def test_addresses_that_cannot_be_opened_are_told(bucket, monkeypatch):
    lacking = {"class": "no_such_package.FileSystem", "err": "Please install no_such_package"}
    monkeypatch.setitem(known_implementations, "absent", lacking)
    Told().rm(f"{bucket}/second/index.jsonl")
    for address, message in (
        (f"{bucket}/nothing", f"nothing is not a finished feature store .there is no {bucket}/nothing/index.jsonl"),
        (f"{bucket}/second", "second is not a finished feature store .there is no .*/index.jsonl"),
        ("nonsense://bucket/store", "nonsense://bucket/store cannot be opened: Protocol not known: nonsense"),
        ("absent://bucket/store", "absent://bucket/store cannot be opened: Please install no_such_package"),
    ):
        with pytest.raises(UserError, match=message):
            FeatureStore(address)


def test_a_file_address_is_the_folder_itself(folder, tmp_path):
    store = FeatureStore(f"file://{folder}/first")
    assert store.root == folder / "first" and len(store.read([0])) == 1
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("name", ["first", "mixed"])
def test_inspection_takes_an_address(bucket, name):
    store = FeatureStore(f"{bucket}/{name}")
    found = measure(store, Console(quiet=True))
    assert not found.damaged and found.durations.sum() == store.index.n_phonemes.sum()


def test_names_are_seen_from_a_folder_or_an_address():
    assert resolved("gs://b/c/store/shards", "../../other/shards/x") == "gs://b/c/other/shards/x"
    assert resolved("gs://b/store", "s3://d/x") == resolved("/a/b", "s3://d/x") == "s3://d/x"
    assert resolved("/a/b", "../c/x") == "/a/c/x"
    for name in ("/a/c/x", "gs://b/x"):
        assert resolved("/a/b", relative(Path("/a/b"), name)) == name
