"""A run directory: all that evaluation and synthesis need of a trained model.

config.json audio.json stats.json inventory.json     what the model was built from
checkpoints/ metrics.jsonl tensorboard/              what training wrote
"""

import dataclasses
import functools
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tts_gen import config, tasks, training
from tts_gen.batches import TrainingBatches, validation_batches
from tts_gen.checkpoint import Checkpoints
from tts_gen.config import Audio, Config, UserError
from tts_gen.decoders import DECODERS
from tts_gen.features.files import locked, read_json, write_json
from tts_gen.features.inventory import Inventory
from tts_gen.features.stats import Stats
from tts_gen.features.store import FeatureStore

log = logging.getLogger(__name__)


def config_to_dict(c: Config) -> dict:
    family = next(name for name, cls in DECODERS.items() if type(c.decoder) is cls)
    values = dataclasses.asdict(c)
    return values | {"decoder": {"family": family, **values["decoder"]}}


def config_from_dict(values: dict, where: str) -> Config:
    """Inverse of config_to_dict. Raises UserError for names that do not exist, listing those that do."""
    decoder = dict(values.get("decoder", {}))
    family = decoder.pop("family", None)
    if family not in DECODERS:
        raise UserError(f"{where}: decoder.family {family!r} is not one of {', '.join(DECODERS)}")
    c = config.from_dict(Config, {k: v for k, v in values.items() if k != "decoder"}, where)
    return replace(c, decoder=config.from_dict(DECODERS[family], decoder, f"{where}: decoder"))


def train(c: Config, run: Path) -> None:
    """Trains `c` in the directory `run`, or goes on there. Raises UserError, Stopped."""
    store = FeatureStore(c.data.features)
    run.mkdir(parents=True, exist_ok=True)
    if jax.process_index() > 0:
        return _train(c, run, store)
    with locked(run):
        _write_run(c, run, store)
        _train(c, run, store)


def _train(c: Config, run: Path, store: FeatureStore) -> None:
    task = tasks.build(c, store.inventory, store.stats)
    training.train(
        c.train,
        run,
        lambda rng, batch: task.init(rng, batch, rng, False, method="loss")["params"],
        lambda params, batch, rng, train: tasks.mean_loss(task, {"params": params}, batch, rng, train),
        TrainingBatches(store, c, jax.process_index(), jax.process_count()),
        functools.partial(validation_batches, store, c),
        lambda batch: float(np.sum(batch["frames"] if c.task == "acoustic" else batch["length"])),
    )


def _write_run(c: Config, run: Path, store: FeatureStore) -> None:
    """Saves what the run is; on resuming, refuses a change that would break it."""
    path = run / "config.json"
    if path.exists():
        _check_resumable(config_from_dict(read_json(path), str(path)), c, path)
        check_features(run, _audio(run), Inventory.load(run / "inventory.json"), Stats.load(run / "stats.json"), store)
    write_json(run / "audio.json", dataclasses.asdict(store.audio))
    store.stats.save(run / "stats.json")
    store.inventory.save(run / "inventory.json")
    write_json(path, config_to_dict(c))


def check_features(run: Path, audio: Audio, inventory: Inventory, stats: Stats, store: FeatureStore) -> None:
    """Raises UserError when the features are not of the kind that a run was trained on."""
    store.audio.check_equal(audio, str(store.root), str(run))
    for what, same in (
        ("phonemes, speakers or styles", inventory == store.inventory),
        ("means and standard deviations", stats.to_dict() == store.stats.to_dict()),
    ):
        if not same:
            raise UserError(
                f"{store.root} has other {what} than {run} was trained with: give the features it was trained on, "
                "or train a new run"
            )


RESUMABLE = {"train.steps", "train.log_every", "train.save_every", "train.max_skipped", "data.features"}
"""fields that may change when a run goes on"""


def _check_resumable(before: Config, now: Config, path: Path) -> None:
    old, new = (_flat(json.loads(json.dumps(config_to_dict(c)))) for c in (before, now))
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name) and name not in RESUMABLE:
            raise UserError(f"{path}: {name} is {old.get(name)} in this run but {new.get(name)} now; "
                            "give the old value, or a new --workdir")  # fmt: skip


def _flat(values: dict, prefix: str = "") -> dict:
    items = [_flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {prefix + k: v} for k, v in values.items()]
    return functools.reduce(lambda a, b: a | b, items, {})


def _audio(run: Path) -> Audio:
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
        return jax.jit(functools.partial(self.task.apply, method="sample"))

    @functools.cached_property
    def log_prob(self):
        """Jitted `log_prob(variables, batch, rng)` -> nats [B], standard error [B], dimensions [B]."""
        return jax.jit(functools.partial(self.task.apply, method="log_prob"))


def load(run: str | Path, overrides: dict[str, Any] | None = None) -> Run:
    """A run by its directory; `overrides` replace decoder fields that touch no parameter (solver, solver_steps).

    Raises UserError when the directory is not a run, has no checkpoint, or an override names no field of the decoder.
    """
    run = Path(run)
    if not (run / "config.json").is_file():
        raise UserError(
            f"{run} is not a run directory (config.json is missing); train one: python train.py CONFIG --workdir {run}"
        )
    c = config_from_dict(read_json(run / "config.json"), str(run / "config.json"))
    if overrides:
        values = config_to_dict(c)
        c = config_from_dict(values | {"decoder": values["decoder"] | overrides}, f"{run} with {overrides}")
    inventory, stats = Inventory.load(run / "inventory.json"), Stats.load(run / "stats.json")
    with Checkpoints(run) as checkpoints:
        step = checkpoints.best_step()
        params = checkpoints.restore_ema(step)
    return Run(run, c, _audio(run), inventory, stats, tasks.build(c, inventory, stats), {"params": params}, step)
