"""Settings of every test, made before jax is imported; the programs that tests start inherit them."""

import importlib.metadata
import os
import resource
from pathlib import Path

from hypothesis import settings

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_force_host_platform_device_count=4")
# Compiling is most of what the suite does: the first leaves a half of it, the second a third of that.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
if importlib.metadata.version("jaxlib").startswith("0.10."):  # XLA dies of a flag that it does not know
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")

import jax  # noqa: E402  (after its settings)
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from models import make_store, vectors  # noqa: E402

from tts_gen.features.embeddings import SpeakerEmbeddings  # noqa: E402
from tts_gen.features.store import FeatureStore  # noqa: E402

MOST_MEMORY = 3 << 30
"""bytes"""

LONG = ("test_end_to_end", "test_studies", "test_distributed", "test_readers_end_to_end", "test_runs", "test_sharing")
"""modules that start processes, or train; few tests each"""

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Small and simulated; the runs of a module may lie beside it."""
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def embeddings_file(store) -> Path:
    """Speaker embeddings, by speaker for ann, by utterance for bob and those without a speaker; ann's first one also
    has its own."""
    own = [e.id for e in store.index if e.speaker != "ann"]
    np.savez(store.root / "vectors.npz", **vectors(["ann", "train0", *own]))
    return store.root / "vectors.npz"


@pytest.fixture(scope="module")
def embedded(store, embeddings_file) -> FeatureStore:
    return store.with_embeddings(SpeakerEmbeddings.read(embeddings_file))


def pytest_collection_modifyitems(items):
    """Long modules first: the processes among which the suite is divided then end together."""
    items.sort(key=lambda item: item.path.stem not in LONG)


@pytest.fixture(scope="module", autouse=True)
def _programs_in_bounded_memory():
    """Modules share small programs; otherwise each process of the suite ends up holding many gigabytes of them."""
    yield
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    if pages * resource.getpagesize() > MOST_MEMORY:
        jax.clear_caches()
