"""Trains a vocoder in a directory: checkpoints, metrics.jsonl and TensorBoard as of any run, and `generator.npz`, which
--vocoder takes."""

import dataclasses
import itertools
import json
import logging
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import jax
import numpy as np

from tts_gen import parallel, training
from tts_gen.checkpoint import Checkpoints, folder_of, saved_steps
from tts_gen.config import Audio, Stopped, Train, UserError
from tts_gen.features.files import locked, read_json, write_json
from tts_gen.features.store import FeatureStore
from tts_gen.vocoder_training import gan, norms
from tts_gen.vocoder_training.discriminators import Discriminators
from tts_gen.vocoder_training.mels import GeneratedMels
from tts_gen.vocoder_training.segments import Segments
from tts_gen.vocoders import hifigan
from tts_gen.vocoders.windows import Windowed
from tts_gen.writer import Writer

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
    parallel.check_same({"OUT": str(run)} | dataclasses.asdict(s))
    mine, error, given = (jax.process_index(), jax.process_count()), "", None
    with ExitStack() as stack:
        try:
            generator, start = starting(s.start, store.audio)
            if s.batch % jax.device_count():
                raise UserError(f"--batch {s.batch} does not divide over {jax.device_count()} devices; give a multiple")
            given = GeneratedMels(store, run, s.mels, s.temperature, s.train.seed) if s.mels else None
            kept = _kept(s) | {"mels_of": given and given.identity, "index_sha256": store.fingerprint}
            run.mkdir(parents=True, exist_ok=True)
            if not mine[0]:
                stack.enter_context(locked(run))
            _check_folder(run, kept)
        except UserError as found:
            error = str(found)
        except OSError as found:
            error = f"{run} cannot be written: {found}; give an OUT that can"
        parallel.agree(error)
        mels = {name: given.of(name, *mine) if given else None for name in ("train", "val")}
        batches, val = (Segments(store, name, s.batch, s.frames, s.train.seed, of, *mine) for name, of in mels.items())
        if not mine[0]:
            write_json(run / SETTINGS, kept)
        of = gan.Gan(replace(generator, precision=None), Discriminators(s.narrow), store.audio)

        def inspect(params: dict, step: int, writer: Writer) -> dict[str, float]:
            vocoder = Windowed("hifigan", generator, {"params": norms.joined(params["generator"])}, store.audio)
            for name, mel in itertools.islice(val.whole(), HEARD):
                writer.audio(step, name, vocoder(mel), store.audio.sample_rate)
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
    """The generator of the checkpoint with the lowest error of mels on val, read by all processes and written by the
    first. Nothing where there is none."""
    if not saved_steps(folder_of(run)):
        return
    with Checkpoints(run, reading=True) as checkpoints:
        params, step = checkpoints.restore_best()
    if jax.process_index() == 0:
        path = run / RESULT
        hifigan.save(path, generator, jax.tree.map(np.asarray, norms.joined(params["generator"])), audio)
        log.info("%s: of step %d; give it as --vocoder %s", path, step, path)


def _kept(s: Settings) -> dict:
    """What must not change when a training goes on, as JSON has it."""
    values = json.loads(json.dumps(dataclasses.asdict(s)))
    free = ("steps", "log_every", "save_every", "sample_every")
    return {name: x for name, x in (values.pop("train") | values).items() if name not in free}


MEANING = {"index_sha256": "the corpus", "mels_of": "the run of --mels"}


def _check_folder(run: Path, now: dict) -> None:
    """Raises UserError for a folder of something else, or of a training that began otherwise."""
    path = run / SETTINGS
    if not path.exists() and {found.name for found in run.iterdir()} - {".lock", GeneratedMels.FOLDER}:
        raise UserError(f"{run} holds something else than the training of a vocoder; give another OUT")
    before = read_json(path) if path.exists() and saved_steps(folder_of(run)) else now
    for name, value in now.items():
        if before.get(name) != value:
            how = "" if name in MEANING else f" from {before.get(name)} to {value}"
            raise UserError(f"{path}: {MEANING.get(name, name)} changed{how} since this training began; give what it "
                            "began with, or another OUT")  # fmt: skip
