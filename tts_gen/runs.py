"""A run directory: all that evaluation and synthesis need of a trained model.

config.json audio.json stats.json inventory.json features.json     what the model was built from
speaker_embeddings.npy                                             [S, E], where data.speaker_embeddings is given
checkpoints/ metrics.jsonl spikes.jsonl tensorboard/               what training wrote

A joint run (text to mel, made by `tts-gen convert`) has config.json, audio.json, symbols.json and checkpoints/.
"""

import dataclasses
import functools
import logging
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tts_gen import config, flat, joint, tasks
from tts_gen.checkpoint import Checkpoints
from tts_gen.config import Audio, Config, UserError
from tts_gen.decoders import DECODERS
from tts_gen.features.embeddings import SpeakerEmbeddings, read_speakers
from tts_gen.features.files import read_json, write_json
from tts_gen.features.inventory import Inventory
from tts_gen.features.stats import Stats
from tts_gen.features.store import FeatureStore
from tts_gen.front_end import FrontEnd
from tts_gen.joint import Joint, JointModule

log = logging.getLogger(__name__)


def config_to_dict(c: Config | Joint) -> dict:
    """For config.json. Raises UserError when the decoder is of no family, listing those there are."""
    family = next((name for name, cls in DECODERS.items() if type(c.decoder) is cls), None)
    if family is None:
        raise UserError(f"decoder: {type(c.decoder).__name__} is no family; give settings of {', '.join(DECODERS)}")
    values = dataclasses.asdict(c)
    return values | {"decoder": {"family": family, **values["decoder"]}}


def config_from_dict(values: dict, where: str, cls: type = Config) -> Any:
    """Inverse of config_to_dict for settings of type `cls`. Raises UserError for names that do not exist, listing those
    that do."""
    decoder = dict(values.get("decoder", {}))
    family = decoder.pop("family", None)
    if family not in DECODERS:
        raise UserError(f"{where}: decoder.family {family!r} is not one of {', '.join(DECODERS)}")
    c = config.from_dict(cls, values | {"decoder": {}}, where)
    return replace(c, decoder=config.from_dict(DECODERS[family], decoder, f"{where}: decoder"))


def check_features(run: Path, audio: Audio, inventory: Inventory, stats: Stats, store: FeatureStore) -> None:
    """Raises UserError when the features are not of the kind that a run was trained on."""
    store.audio.check_equal(audio, str(store.root), str(run))
    for what, same in (
        ("phonemes, speakers or styles", inventory == store.inventory),
        ("means and standard deviations", _agree(stats.to_dict(), store.stats.to_dict())),
    ):
        if not same:
            raise UserError(
                f"{store.root} has other {what} than {run} was trained with: give the features it was trained on, "
                "or train a new run"
            )


def _agree(a: dict, b: dict) -> bool:
    """Where both have a value: stores prepared by an earlier version lack some."""
    return all(a[name] == b[name] for name in a.keys() & b.keys())


def audio_of(run: Path) -> Audio:
    return config.from_dict(Audio, read_json(run / "audio.json"), str(run / "audio.json"))


@dataclass(frozen=True)
class Run:
    """A trained model, ready to sample."""

    path: Path
    config: Config
    audio: Audio
    inventory: Inventory
    stats: Stats
    task: tasks.Task
    variables: dict[str, Any]
    """of the EMA at the best validation loss"""
    step: int
    guidance: float | None = None
    """scale of classifier-free guidance; None: off"""
    speaker_embeddings: np.ndarray | None = None
    """[S, E] of length 1, of the inventory's speakers; None: they are a table of parameters"""
    embeddings: SpeakerEmbeddings | None = None
    """the utterances', where the run is evaluated on them"""

    @property
    def label(self) -> str:
        """The family's name in rows and reports."""
        return self.config.decoder.label

    @property
    def parameters(self) -> dict[str, int]:
        """Number of parameters: encoder (with what else the task owns), decoder."""
        sizes = {name: sum(x.size for x in jax.tree.leaves(p)) for name, p in self.variables["params"].items()}
        return {"encoder": sum(sizes.values()) - sizes["decoder"], "decoder": sizes["decoder"]}

    @functools.cached_property
    def sample(self):
        """Jitted `sample(variables, batch, rng, temperature) -> [B, L, C]`, normalised; temperature compiles nothing
        anew."""
        sample = jax.jit(functools.partial(self.task.apply, method="sample"))
        return sample if self.guidance is None else functools.partial(sample, guidance=self.guidance)

    @functools.cached_property
    def log_prob(self):
        """Jitted `log_prob(variables, batch, rng)` -> nats [B], standard error [B], dimensions [B]."""
        return jax.jit(functools.partial(self.task.apply, method="log_prob"))


def check_temperature(temperature: float) -> None:
    """Raises UserError for what no noise can be multiplied by."""
    if not 0 <= temperature < float("inf"):
        raise UserError(f"temperature {temperature:g}: give 0 (no noise), 1 (the model's own) or what lies around it")


def load(run: str | Path, overrides: dict[str, Any] | None = None, guidance: float = 0.0) -> "AnyRun":
    """A run by its directory; `overrides` replace decoder fields that touch no parameter (solver, solver_steps).

    Raises UserError when the directory is not a run, has no checkpoint, or cannot be guided, and when an override names
    no field of the decoder or is a value that it does not take.
    """
    run = Path(run)
    if not (run / "config.json").is_file():
        raise UserError(
            f"{run} is not a run directory (config.json is missing); train one: python train.py CONFIG --workdir {run}"
        )
    values = read_json(run / "config.json")
    if (run / "generator.npz").is_file():
        raise UserError(f"{run} holds a vocoder: give it as --vocoder {run / 'generator.npz'}")
    cls = Joint if values.get("task") == "joint" else Config
    c = config_from_dict(values, str(run / "config.json"), cls)
    if overrides:
        values = config_to_dict(c)
        asked = ", ".join(f"{name} {value}" for name, value in overrides.items())
        where = f"{run} ({c.decoder.label}) with {asked}"
        c = config_from_dict(values | {"decoder": values["decoder"] | overrides}, where, cls)
    scale = _guidance(run, c, guidance)
    if cls is Joint:
        front_end = config.from_dict(FrontEnd, read_json(run / "symbols.json"), str(run / "symbols.json"))
        audio = audio_of(run)
        return JointRun(run, c, audio, front_end, c.build(audio.n_mels), *_parameters(Checkpoints(run, reading=True)))
    inventory, stats = Inventory.load(run / "inventory.json"), Stats.load(run / "stats.json")
    t = c.train
    checkpoints = Checkpoints(run, t.checkpoints, t.keep_latest, t.keep_best, t.best_metric, reading=True)
    variables, step = _parameters(checkpoints)
    speakers = read_speakers(run, len(inventory.speakers)) if c.data.speaker_embeddings else None
    task = tasks.build(c, inventory, stats)
    return Run(run, c, audio_of(run), inventory, stats, task, variables, step, scale, speakers)


def _guidance(run: Path, c: Config | Joint, scale: float) -> float | None:
    """What `sample` takes for a scale of guidance: None for 0, and where there is none to be had, which is logged."""
    if scale == 0:
        return None
    if isinstance(c, Joint) or not c.decoder.guided:
        log.warning("%s: %s takes no guidance and is sampled without", run, c.decoder.label)
        return None
    if c.encoder.label_dropout == 0:
        raise UserError(
            f"{run} cannot be guided: it never saw an utterance without its speaker and style; "
            "train a run with --encoder.label-dropout 0.1, or give --guidance 0"
        )
    return scale


def _parameters(checkpoints: Checkpoints) -> tuple[dict[str, Any], int]:
    """The variables to evaluate, and their step."""
    with checkpoints:
        params, step = checkpoints.restore_best()
        return {"params": params}, step


@dataclass(frozen=True)
class JointRun:
    """A text-to-mel model, ready to sample."""

    path: Path
    config: Joint
    audio: Audio
    front_end: FrontEnd
    task: JointModule
    variables: dict[str, Any]
    step: int

    label, parameters, guidance = Run.label, Run.parameters, None

    @functools.cached_property
    def _encode(self):
        return functools.partial(jax.jit(functools.partial(self.task.apply, method="encode")), self.variables)

    @functools.cached_property
    def _decode(self):
        decode = jax.jit(functools.partial(self.task.apply, method="decode"), static_argnames="total")
        return functools.partial(decode, self.variables)

    def sample(
        self, sentences: Sequence[np.ndarray], speakers: Sequence[int], rng: jax.Array, temperature: float,
        pace: float = 1.0,
    ) -> list[np.ndarray]:  # fmt: skip
        """Log-mels [T, M] of sentences, each [N] symbol ids; pace 2 is twice as fast. Raises UserError for durations
        that are not those of speech."""
        return joint.sample(self._encode, self._decode, sentences, speakers, rng, temperature, 1 / pace)


AnyRun = Run | JointRun


def save_joint(run: Path, c: Joint, audio: Audio, front_end: FrontEnd, params: dict) -> None:
    """Writes a joint run, which appears whole or not at all; `run` must be absent or empty."""
    partial = run.absolute().with_name(f"{run.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        write_json(partial / "config.json", config_to_dict(c))
        write_json(partial / "audio.json", dataclasses.asdict(audio))
        write_json(partial / "symbols.json", dataclasses.asdict(front_end))
        with Checkpoints(partial) as checkpoints:
            checkpoints.save(0, {"ema": flat.flatten(params)}, flat.layout(params), {"val_loss": 0.0})
        partial.replace(run)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
