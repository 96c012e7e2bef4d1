"""Trains a vocoder in a directory: checkpoints, metrics.jsonl and TensorBoard as of any run, and `generator.npz`, which
--vocoder takes."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import numpy as np

from tts_gen import parallel, training
from tts_gen.checkpoint import Checkpoints, saved_steps
from tts_gen.config import Audio, Stopped, Train, UserError
from tts_gen.features.files import locked, read_json, write_json
from tts_gen.features.store import FeatureStore
from tts_gen.vocoder_training import gan, norms
from tts_gen.vocoder_training.discriminators import Discriminators
from tts_gen.vocoder_training.segments import Segments
from tts_gen.vocoders import hifigan
from tts_gen.vocoders.windows import Windowed

log = logging.getLogger(__name__)

HEARD = 2
"""utterances of val that TensorBoard plays"""
RESULT, SETTINGS = "generator.npz", "vocoder.json"


@dataclass(frozen=True)
class Settings:
    """One training. What changes no step may change when it goes on."""

    start: str = "hifigan"
    """a vocoder's file, hifigan, or one of hifigan.VERSIONS, new"""
    mels: str = ""
    """acoustic run whose mels are given to the generator; the recordings' own if empty"""
    temperature: float = 1.0
    """of that run's samples"""
    batch: int = 16
    frames: int = 32
    """of a stretch: the paper's 8,192 samples"""
    train: Train = field(default_factory=lambda: Train(
        steps=10000, optimizer="gan_adamw", learning_rate=2e-4, warmup=0, decay="constant", decay_on="all", clip=1e4,
        ema=0.999, save_every=1000, log_every=50,
    ))  # fmt: skip
    narrow: int = 1
    """divides the channels of the discriminators"""


def train(store: FeatureStore, run: Path, s: Settings) -> None:
    """Trains in the directory `run`, or goes on there, in every process alike. Raises UserError, Stopped."""
    generator, start = starting(s.start, store.audio)
    if s.batch % jax.device_count():
        raise UserError(f"--batch {s.batch} does not divide over {jax.device_count()} devices; give a multiple")
    parallel.check_same({"OUT": str(run)} | _kept(s))
    run.mkdir(parents=True, exist_ok=True)
    mine = (jax.process_index(), jax.process_count())
    with nullcontext() if mine[0] else locked(run):
        _check_resumable(run, s, store)
        mels = {name: _mels(s, store, name, run) for name in ("train", "val")}
        batches, val = (
            Segments(store, name, s.batch, s.frames, s.train.seed, of, *mine) for name, of in mels.items()
        )  # fmt: skip
        of = gan.Gan(replace(generator, precision=None), Discriminators(s.narrow), store.audio)

        def inspect(params: dict, step: int, writer) -> dict[str, float]:
            vocoder = _vocoder(generator, params, store.audio)
            for place in range(min(HEARD, len(val.entries))):
                writer.audio(step, val.entries[place].id, vocoder(val.read(place)[1]), store.audio.sample_rate)
            return {}

        try:
            training.train(s.train, run, gan.model(of, start, inspect), batches, val.held_out)
        except Stopped:
            write_result(run, generator, store.audio)
            raise
        write_result(run, generator, store.audio)


def starting(name: str, audio: Audio) -> tuple[hifigan.Generator, dict | None]:
    """The generator, and the parameters that it starts from; None of a new one. Raises UserError for a name or file
    that is none, and for mels of another definition."""
    if new := hifigan.VERSIONS.get(name):
        if new.hop != audio.hop:
            raise UserError(f"--from {name}: it makes {new.hop} samples a frame, but the mels' hop is {audio.hop}")
        return new, None
    if name != "hifigan" and not Path(name).is_file():
        raise UserError(f"--from {name}: neither a checkpoint file nor one of hifigan, {', '.join(hifigan.VERSIONS)}")
    vocoder = hifigan.load(None if name == "hifigan" else name, audio)
    return vocoder.network, vocoder.params["params"]


def write_result(run: Path, generator: hifigan.Generator, audio: Audio) -> None:
    """The generator with the lowest error of mels on val, by the first process. Nothing without a checkpoint."""
    if jax.process_index() or not saved_steps(Checkpoints(run, reading=True).directory):
        return
    with Checkpoints(run, reading=True) as checkpoints:
        params, step = checkpoints.restore_best()
    path = run / RESULT
    hifigan.save(path, generator, jax.tree.map(np.asarray, norms.joined(params["generator"])), audio)
    log.info("%s: step %d, the lowest error of mels on val; give it as --vocoder %s", path, step, path)


def _vocoder(generator: hifigan.Generator, params: dict, audio: Audio) -> Windowed:
    return Windowed("hifigan", generator, {"params": norms.joined(params["generator"])}, audio)


def _mels(s: Settings, store: FeatureStore, split: str, run: Path) -> Sequence[np.ndarray] | None:
    """Of the acoustic run, from the recordings' prosody; made once, in `run`/mels."""
    if not s.mels:
        return None
    from tts_gen import runs
    from tts_gen.evaluation.generate import mel_samples
    from tts_gen.evaluation.split import Split

    source = runs.load(s.mels)
    if source.config.task != "acoustic":
        raise UserError(f"--mels {s.mels} is a {source.config.task} run; give an acoustic one")
    store.audio.check_equal(source.audio, str(store.root), s.mels)
    tau = s.temperature if source.config.decoder.generative else None
    log.info("mels of %s for %s, by %s", split, store.root, s.mels)
    return mel_samples(source, Split.read(store, split), tau, s.train.seed, run / "mels" / split)


def _kept(s: Settings) -> dict:
    """What must not change when a training goes on, as JSON has it."""
    values = json.loads(json.dumps(dataclasses.asdict(s)))
    free = ("steps", "log_every", "save_every", "sample_every")
    return {name: x for name, x in (values.pop("train") | values).items() if name not in free}


def _check_resumable(run: Path, s: Settings, store: FeatureStore) -> None:
    path, now = run / SETTINGS, _kept(s) | {"index_sha256": store.fingerprint}
    before = read_json(path) if path.exists() else now
    for name, value in now.items():
        if before.get(name) != value:
            known = (
                "it is of another corpus, or of one that changed since"
                if name == "index_sha256"
                else (f"{name} is {before.get(name)} there but {value} now")
            )
            raise UserError(f"{path}: {known}; give what it was started with, or another OUT")
    write_json(path, now)
