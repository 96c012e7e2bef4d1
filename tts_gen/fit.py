"""Training a config in a run directory: what is written there first, and what may change when it goes on."""

import dataclasses
import functools
import json
import logging
import textwrap
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from tts_gen import parallel, runs, tasks, training
from tts_gen.batches import TrainingBatches, validation_batches
from tts_gen.checkpoint import folder_of, saved_steps
from tts_gen.config import Config, UserError
from tts_gen.features.embeddings import FINGERPRINT, open_store, write_speakers
from tts_gen.features.files import locked, read_json, write_json
from tts_gen.features.inventory import Inventory
from tts_gen.features.stats import Stats
from tts_gen.features.store import FeatureStore
from tts_gen.finetune import carry_over
from tts_gen.plan import Plan
from tts_gen.runs import config_from_dict, config_to_dict

log = logging.getLogger(__name__)


def train(c: Config, run: Path, inspect: Callable | None = None) -> None:
    """Trains `c` in the directory `run`, or goes on there; in every process of a training alike.

    `inspect(task, variables, step, writer) -> figures` looks at samples from time to time. Raises UserError, Stopped.
    """
    if c.train.checkpoints:  # absolute in the run's config.json: it is read from anywhere
        c = replace(c, train=replace(c.train, checkpoints=str(folder_of(run, c.train.checkpoints))))
    paths = ("data.features", "data.speaker_embeddings")
    mine = {name: value for name, value in _flat(config_to_dict(c)).items() if name not in paths}
    parallel.check_same({"--workdir": str(run)} | mine)
    with ExitStack() as stack:
        error, model = "", None
        try:
            store = open_store(c.data)
            if store.embeddings:
                store.embeddings.check(store, ("train", "val"))
            task = tasks.build(c, store.inventory, store.stats)
            batches = TrainingBatches(store, c, jax.process_index(), jax.process_count())
            Plan.build(store, c, "val")  # training stops for nothing else that could be known before
            parallel.check_rows(parallel.make_mesh(c.train.fsdp), batches.rows, c.train.accumulate)
            metrics = ["val_loss", *(["val_bits_per_dim"] if c.decoder.exact else [])]
            if c.train.best_metric not in metrics:
                raise UserError(f"train.best_metric {c.train.best_metric!r} is not one of {', '.join(metrics)}")
            model = model_of(c, run, store, task, inspect)
            try:
                run.mkdir(parents=True, exist_ok=True)
                if jax.process_index() == 0:
                    stack.enter_context(locked(run))
                    if c.train.checkpoints and "://" not in c.train.checkpoints:  # they may be shared by mistake
                        Path(c.train.checkpoints).mkdir(parents=True, exist_ok=True)
                        stack.enter_context(locked(Path(c.train.checkpoints)))
                    write_run(c, run, store)
            except OSError as found:
                raise UserError(f"--workdir {run} cannot be written: {found}; give a folder that can") from found
        except (UserError, OSError) as found:
            error = str(found)
        parallel.agree(error)
        vectors = store.embeddings.fingerprint if store.embeddings else None
        parallel.check_same({"data.speaker_embeddings": vectors})
        log.info("%s", batches.plan)
        validation = functools.partial(
            validation_batches, store, c, process=jax.process_index(), processes=jax.process_count()
        )
        training.train(c.train, run, model, batches, validation)


def model_of(c: Config, run: Path, store: FeatureStore, task: tasks.Task, inspect: Callable | None) -> training.Model:
    adapt = None
    if c.train.init_from and not saved_steps(folder_of(run, c.train.checkpoints)):
        source = runs.load(c.train.init_from)
        if source.config.task != c.task:
            kind = source.config.task
            raise UserError(f"train.init_from: {source.path} is of the {kind} task; give a run of the {c.task} task")
        store.audio.check_equal(source.audio, str(store.root), str(source.path))
        if (source.speaker_embeddings is None) != (store.embeddings is None):
            has, give = ("a table of speakers", "leave out") if store.embeddings else ("speaker embeddings", "give")
            raise UserError(f"train.init_from: {source.path} has {has}, this run not; {give} data.speaker_embeddings")
        old, where = jax.tree.map(np.asarray, source.variables["params"]), str(source.path)
        adapt = lambda fresh: carry_over(old, source.inventory, fresh, store.inventory, where)  # noqa: E731
    look = lambda params, step, writer: inspect(task, {"params": params}, step, writer)  # noqa: E731

    def positions(batch: dict[str, np.ndarray]) -> tuple[int, int]:
        prosody = c.task == "prosody"
        shape = batch["phoneme"].shape if prosody else batch["mel"].shape[:2]
        return int(np.sum(batch["length" if prosody else "frames"])), int(np.prod(shape))

    def with_settings(function: Callable) -> Callable:
        return lambda params, *args: function(task, {"params": params}, *args)

    return training.Model(
        lambda rng, batch: task.init(rng, batch, rng, False, method="loss")["params"],
        with_settings(tasks.loss_sums), with_settings(tasks.validation_sums), positions, adapt,
        look if inspect else None, c.decoder.compiler_options,
    )  # fmt: skip


def write_run(c: Config, run: Path, store: FeatureStore) -> None:
    """Saves what the run is; on resuming, refuses a change that would break it, and tells others."""
    path, features = run / "config.json", {"index_sha256": store.fingerprint, "utterances": len(store.index)}
    if store.embeddings:
        features[FINGERPRINT] = store.embeddings.fingerprint
    folder = folder_of(run, c.train.checkpoints)
    before = config_from_dict(read_json(path), str(path)) if path.exists() else None
    if before and saved_steps(folder_of(run, before.train.checkpoints)):
        _check_resumable(before, c, path)
        inventory, stats = Inventory.load(run / "inventory.json"), Stats.load(run / "stats.json")
        runs.check_features(run, runs.audio_of(run), inventory, stats, store)
        if (run / "features.json").exists() and (known := read_json(run / "features.json")) != features:
            if (was := known.get(FINGERPRINT)) != features.get(FINGERPRINT):
                raise UserError(
                    f"data.speaker_embeddings is {c.data.speaker_embeddings or 'empty'}, but {run} was started with "
                    f"{'other vectors; give the file as it was' if was else 'none; leave it out'}, or a new --workdir"
                )
            raise UserError(
                f"{store.root} changed since {run} was started ({known['utterances']} utterances then, "
                f"{len(store.index)} now): its batches would be others. Give the store as it was, or train a new run "
                f"with --train.init-from {run}"
            )
    elif steps := saved_steps(folder):
        raise UserError(
            f"{folder} holds checkpoints {', '.join(map(str, steps[:3]))}, which are not of {run}, or have lost its "
            "config.json: put that back, give another train.checkpoints or --workdir, or delete them"
        )
    else:
        log.info("%s", _paragraphs(config_to_dict(c)))
    write_json(run / "audio.json", dataclasses.asdict(store.audio))
    store.stats.save(run / "stats.json")
    store.inventory.save(run / "inventory.json")
    write_json(run / "features.json", features)
    if store.embeddings:
        write_speakers(run, store.embeddings.of_speakers(store))
    write_json(path, config_to_dict(c))


RESUMABLE = {
    "data.features", "data.speaker_embeddings",
    *(f"train.{name}" for name in (
        "steps", "init_from", "accumulate", "remat", "fsdp", "log_every", "save_every", "keep_latest", "keep_best",
        "sample_every", "max_skipped", "step_limit", "measure_peak",
    )),
}  # fmt: skip
"""fields that may change when a run goes on: they change no step (accumulate, remat and fsdp by rounding alone)"""


def _check_resumable(before: Config, now: Config, path: Path) -> None:
    old, new = (_flat(json.loads(json.dumps(config_to_dict(c)))) for c in (before, now))
    # Another family has other fields: what it is comes before what it lacks.
    for name in sorted(old.keys() | new.keys(), key=lambda name: (name not in ("task", "decoder.family"), name)):
        was, value = old.get(name), new.get(name)
        if was == value:
            continue
        if name not in RESUMABLE:
            raise UserError(
                f"{path}: {name} is {was} in this run but {value} now; give the old value, or a new --workdir"
            )
        log.info("%s is %s now, was %s", name, value, was)


def _paragraphs(values: dict) -> str:
    """Every setting, for people."""
    listed = [f"{name}: " + ", ".join(f"{k} {v!r}" for k, v in part.items()) if isinstance(part, dict) else
              f"{name}: {part}" for name, part in values.items()]  # fmt: skip
    return "\n".join(textwrap.fill(text, 120, subsequent_indent="  ") for text in listed)


def _flat(values: dict, prefix: str = "") -> dict:
    items = [_flat(v, f"{prefix}{k}.") if isinstance(v, dict) else {prefix + k: v} for k, v in values.items()]
    return functools.reduce(lambda a, b: a | b, items, {})
