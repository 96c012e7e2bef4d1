"""Small simulated corpora with planted structure, and tiny models, for the tests of batches, tasks and training."""

import json
import os
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from tts_gen import fit, flat, tasks
from tts_gen.batches import TrainingBatches
from tts_gen.checkpoint import Checkpoints
from tts_gen.config import Audio, Config, Data, Encoder, Train
from tts_gen.corpora import Utterance
from tts_gen.decoders import DECODERS
from tts_gen.features.record import Record
from tts_gen.features.store import FeatureStore
from tts_gen.features.writer import write_store
from tts_gen.text import PAUSE, Phoneme

AUDIO = Audio(n_mels=8)
VOICED, UNVOICED = ("AH", "IY", "M"), ("S", "T")
MEAN_LOG_F0 = {"ann": 5.3, "bob": 4.7, None: 5.0}

SMALL = {
    "regression": {"width": 16, "layers": 2, "kernel": 3},
    "flow": {"steps": 2, "width": 8, "layers": 2},
    "diffusion": {"widths": (16, 24), "solver_steps": 6},
    "flow_matching": {"widths": (16, 24), "solver_steps": 4},
}
"""settings that make a family tiny; one that is not named here is tested at its defaults"""
GENERATIVE = [name for name in DECODERS if name != "regression"]


def small_decoder(family: str, **changes):
    return DECODERS[family](**(SMALL.get(family, {}) | changes))


def small_config(
    task: str = "prosody", family: str = "regression", features: str | Path = "", buckets: tuple[int, ...] = (8, 16),
    **train,
) -> Config:  # fmt: skip
    """Buckets of 8 and 16 phonemes, or crops of 32 frames; 8 or 16 sequences in a batch. A program is compiled for each
    bucket."""
    acoustic = task == "acoustic"
    data = Data(str(features), (32,) if acoustic else buckets, 256 if acoustic else 128, context=2, max_phonemes=16)
    settings = {"steps": 10, "warmup": 2, "log_every": 1, "save_every": 5, "learning_rate": 1e-2} | train
    return Config(task, data, Encoder(16, 1, 3, 1, 2), small_decoder(family), Train(**settings))


EMBEDDING = 5
"""values of a speaker's"""


def vectors(keys: Iterable[str], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: rng.normal(size=EMBEDDING) for key in keys}


def embedded_config(file: Path, store: FeatureStore, task: str = "prosody", family: str = "regression", **train):
    """small_config, of the speaker embeddings of `file`."""
    c = small_config(task, family, store.root, **train)
    return replace(c, data=replace(c.data, speaker_embeddings=str(file)))


def write_config(path: Path, **settings) -> Path:
    """A config file for train.py, of small_config(**settings)."""
    values = {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
    path.write_text(
        f"import sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        f"from models import small_config\nconfig = small_config(**{values!r})\n"
    )
    return path


def losses(run: Path) -> dict[int, float]:
    """Step -> loss, of metrics.jsonl; fails on a step that stands twice."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len({r["step"] for r in rows}) == len(rows)
    return {r["step"]: r["loss"] for r in rows}


def xla_flags(devices: int) -> str:
    """For a program with that many simulated devices; of two the last counts."""
    return f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"


def simulated(n_phonemes: int, speaker: str | None, rng: np.random.Generator) -> Record:
    """Phones of known effect: AH is high, IY low, M long; S and T are unvoiced; mels follow phone, pitch and noise."""
    symbols = [PAUSE, *rng.choice([*VOICED, *UNVOICED], n_phonemes - 2), PAUSE]
    phonemes = [Phoneme(s, int(s in ("AH", "IY")), i % 4, int(i % 5 == 0)) for i, s in enumerate(symbols)]
    duration = np.array([4 + 3 * (s == "M") for s in symbols]) + rng.integers(-2, 3, n_phonemes)
    effect = np.array([{"AH": 0.2, "IY": -0.2}.get(s, 0.0) for s in symbols])
    log_f0 = (MEAN_LOG_F0[speaker] + effect + rng.normal(0, 0.1, n_phonemes)).astype(np.float32)
    log_f0[[s not in VOICED for s in symbols]] = np.nan
    level = np.repeat(np.nan_to_num(log_f0), duration)[:, None]
    mel = level * np.linspace(-1, 1, AUDIO.n_mels) + rng.normal(0, 0.5, (duration.sum(), AUDIO.n_mels))
    contour = np.repeat(log_f0, duration) + 0.02 * (-1) ** np.arange(duration.sum())
    return Record(phonemes, duration.astype(np.int32), log_f0, mel.astype(np.float32), contour.astype(np.float32))


def sung(n_frames: int, rng) -> np.ndarray:
    """[n_frames * hop]: tones and noise."""
    t = np.arange(n_frames * AUDIO.hop) / AUDIO.sample_rate
    tones = sum(np.sin(2 * np.pi * f * t) for f in rng.uniform(100, 2000, 4))
    return 0.1 * tones + 0.02 * rng.standard_normal(len(t))


def make_store(root: Path, train: int = 42, held_out: int = 9, longest: int = 16, audio: Audio = AUDIO) -> FeatureStore:
    """A feature store with the speakers ann, bob and none, and splits train, val and test."""
    rng = np.random.default_rng(0)
    items = []
    for split, count in (("train", train), ("val", held_out), ("test", held_out)):
        for i in range(count):
            speaker = ("ann", "bob", None)[i % 3]
            utterance = Utterance(f"{split}{i}", root / f"{split}{i}.wav", f"Text {i}.", speaker, "calm", split)
            items.append((utterance, simulated(int(rng.integers(4, longest + 1)), speaker, rng)))
    write_store(root, audio, items)
    return FeatureStore(root)


def randomised(variables, seed: int = 0, scale: float = 0.1):
    """Parameters away from their start, where many layers are the identity or zero."""
    leaves, tree = jax.tree.flatten(variables)
    rng = np.random.default_rng(seed)
    return tree.unflatten([x + scale * rng.standard_normal(x.shape).astype(np.float32) for x in leaves])


def away_from_start(init, *args, seed: int = 0, scale: float = 0.1, gain: float = 1.0):
    """Randomised variables of a model whose start is `init(*args)`: kernels with that gain, scales around one, the rest
    around zero. Only the shapes come from `init`: to compile it takes XLA ten times as long as the model itself."""
    rng = np.random.default_rng(seed)

    def fill(path, leaf):
        name, shape = path[-1].key, leaf.shape
        start = np.zeros(shape)
        if name == "scale":
            start += 1
        elif name == "weight":  # of a channel mixing, which must have an inverse
            start += np.linalg.qr(rng.standard_normal(shape))[0]
        elif len(shape) > 1:
            start += gain * rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))
        return jnp.asarray(start + scale * rng.standard_normal(shape), leaf.dtype)

    return jax.tree_util.tree_map_with_path(fill, jax.eval_shape(init, *args))


def write_untrained(config: Config, store: FeatureStore, run: Path) -> None:
    """A run directory with random parameters, in a fraction of the time that training would take."""
    task, key = tasks.build(config, store.inventory, store.stats), jax.random.key(0)
    batch = TrainingBatches(store, config)[0]
    # Of half the gain, so that the likelihood of an ODE takes few steps.
    params = away_from_start(lambda b: task.init(key, b, key, False, method="loss")["params"], batch, gain=0.5)
    run.mkdir(exist_ok=True)
    fit.write_run(config, run, store)
    with Checkpoints(run) as checkpoints:
        checkpoints.save(1, {"ema": flat.flatten(params)}, flat.layout(params), {"val_loss": 0.0})


def mean_loss(task, variables, batch, rng, train: bool):
    """Over all valid positions of the batch, as a training step takes it."""
    sums, counts = tasks.loss_sums(task, variables, batch, rng, train)
    return jnp.sum(sums) / jnp.sum(counts)


def with_train(config: Config, **changes) -> Config:
    return replace(config, train=replace(config.train, **changes))
