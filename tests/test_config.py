"""Settings: names are checked, JSON comes back as it went, and every config of configs/ makes a fair comparison."""

import dataclasses
import functools
import math
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import pytest
from models import make_store

from tts_gen import tasks
from tts_gen.batches import collate
from tts_gen.config import Audio, Config, Data, Encoder, Train, UserError, from_dict, read_config_file
from tts_gen.decoders import DECODERS

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "configs").rglob("*.py") if p.name != "__init__.py")


def read(name: str) -> Config:
    return read_config_file(ROOT / name)


@pytest.fixture(autouse=True)
def from_the_root(monkeypatch):
    """Config files import each other as train.py finds them."""
    monkeypatch.syspath_prepend(ROOT)


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(UserError, match="run.json: Train has no stepz; valid names are steps, init_from"):
        from_dict(Train, {"stepz": 3}, "run.json")


def test_missing_names_are_named():
    @dataclasses.dataclass
    class Needs:
        size: int

    with pytest.raises(UserError, match="f: Needs lacks size"):
        from_dict(Needs, {}, "f")


@pytest.mark.parametrize(
    "cls, values, message",
    [
        (Train, {"steps": "many"}, "w: steps: expected int, found 'many'"),
        (Train, {"clip": math.nan}, "clip: expected float, found nan"),
        (Data, {"buckets": 8}, "buckets: expected a list, found 8"),
        (Data, {"buckets": [8, "x"]}, "buckets: expected int, found 'x'"),
        (Config, {"task": "song"}, "task: 'song' is not one of prosody, acoustic"),
        (Config, {"train": 3}, "train: expected an object, found 3"),
        (Config, {"train": {"stepz": 3}}, "w: train: Train has no stepz"),
    ],
)
def test_wrong_values_are_named(cls, values, message):
    with pytest.raises(UserError, match=message):
        from_dict(cls, values, "w")


def test_json_values_become_the_fields_types():
    @dataclasses.dataclass
    class All:
        f: float
        t: tuple[int, ...]
        o: str | None
        c: Literal["a", "b"]
        d: Data

    found = from_dict(All, {"f": 1, "t": [1, 2], "o": None, "c": "b", "d": {"buckets": [4]}}, "w")
    assert found == All(1.0, (1, 2), None, "b", Data(buckets=(4,))) and isinstance(found.f, float)


def test_mel_definitions_are_compared_by_field():
    Audio().check_equal(Audio(), "the run", "the features")
    with pytest.raises(UserError, match="fmax is 8000.0 in the run but 7600.0 in the features"):
        Audio().check_equal(Audio(fmax=7600.0), "the run", "the features")


def test_bad_config_files(tmp_path):
    path = tmp_path / "c.py"
    with pytest.raises(UserError, match=r"c\.py: no such config file"):
        read_config_file(path)
    path.write_text("x = 1")
    with pytest.raises(UserError, match=r"c\.py: defines no `config"):
        read_config_file(path)
    path.write_text("from tts_gen.config import Train\nTrain(stepz=1)")
    with pytest.raises(UserError, match=r"c\.py:.*'stepz'"):
        read_config_file(path)
    imports = "from tts_gen.config import Config, Train\nfrom tts_gen.decoders.diffusion import Diffusion\n"
    path.write_text(imports + "config = Config(decoder=Diffusion(solver='rk45'))")
    with pytest.raises(UserError, match=r"c\.py: decoder: solver: 'rk45' is not one of euler, midpoint"):
        read_config_file(path)
    path.write_text(imports + "config = Config(train=Train(steps='many'))")
    with pytest.raises(UserError, match=r"c\.py: train: steps: expected int, found 'many'"):
        read_config_file(path)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store"), audio=Audio(), train=8, held_out=1)


@pytest.fixture(scope="module")
def parameters(store):
    """Config name -> number of parameters (shapes only: nothing is compiled)."""

    @functools.cache
    def count(name: str) -> int:
        c = read(name)
        task = tasks.build(c, store.inventory, store.stats)
        batch = collate(store, c, np.array([0]), c.data.buckets[0], np.zeros(1))
        shapes = jax.eval_shape(
            lambda b: task.init(jax.random.key(0), b, jax.random.key(0), False, method="loss"), batch
        )
        return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))

    return count


@pytest.mark.parametrize("name", CONFIGS)
def test_config_builds_and_its_docstring_gives_the_command(name, parameters):
    assert parameters(name) > 100_000
    assert f"train.py {name} " in (ROOT / name).read_text()


@pytest.mark.parametrize("group", sorted({(Path(n).parent.as_posix(), Path(n).stem.split("_")[0]) for n in CONFIGS}))
def test_families_differ_in_the_decoder_alone_and_agree_in_size(group, parameters):
    folder, task = group
    names = [n for n in CONFIGS if Path(n).parent.as_posix() == folder and Path(n).stem.startswith(task)]
    assert len(names) >= 3
    shared = [dataclasses.replace(read(name), decoder=None) for name in names]
    assert all(c == shared[0] and c.task == task for c in shared)
    assert len({read(name).decoder.label for name in names}) == len(names)
    sizes = {name: parameters(name) for name in names}
    assert max(sizes.values()) <= 1.1 * min(sizes.values()), sizes


@pytest.mark.parametrize(
    "build, field",
    [
        (lambda: Encoder(width=30, heads=4), "encoder.width 30"),
        (lambda: Encoder(label_dropout=2.0), "encoder.label_dropout is 2"),
        (lambda: DECODERS["regression"](dropout=1.0), "decoder.dropout is 1"),
        (lambda: DECODERS["regression"](loss="mdn", mixtures=0), "decoder.mixtures is 0"),
        (lambda: DECODERS["flow"](steps=0), "decoder.steps is 0"),
        (lambda: DECODERS["flow"](coupling="spline", bins=1000), "decoder.bins is 1000"),
        (lambda: DECODERS["diffusion"](widths=(30, 30)), "decoder.widths 30,30"),
        (lambda: DECODERS["diffusion"](widths=()), "decoder.widths is empty"),
        (lambda: DECODERS["diffusion"](network="unet2d", widths=(12, 24)), "multiples of 8"),
        (lambda: DECODERS["diffusion"](beta0=5.0, beta1=5.0), "decoder.beta0 5.0 is not below"),
        (lambda: DECODERS["diffusion"](solver_steps=0), "decoder.solver_steps is 0"),
        (lambda: DECODERS["flow_matching"](sigma_min=2.0), "decoder.sigma_min is 2"),
        (lambda: DECODERS["flow_matching"](solver="dpm++2m"), "decoder: solver: 'dpm.*euler, midpoint, heun"),
        (lambda: DECODERS["flow"](coupling="x"), "decoder: coupling: 'x' is not one of affine, spline"),
        (lambda: DECODERS["regression"](loss="l3"), "decoder: loss: 'l3' is not one of l1, l2, gaussian, mdn"),
        (lambda: DECODERS["flow"](steps=1.5), "decoder: steps: expected int, found 1.5"),
        (lambda: Audio(hop=-1), "audio.hop is -1; give at least 1"),
    ],
)
def test_settings_that_no_model_can_have_are_named(build, field):
    with pytest.raises(UserError, match=field):
        build()
