"""`eval.py RUN...`: samples runs of both tasks on val and test at every temperature, beside controls and floor -> rows.

Val chooses (temperatures, scales, the controls' noise); test is what is reported.
"""

import logging
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tts_gen.evaluation import controls, mel_controls, rows
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.failure_rows import mel_failures, prosody_failures, training_mels, training_prosody
from tts_gen.evaluation.generate import (
    ends_of,
    flat_frames,
    in_frames,
    joint_samples,
    mel_samples,
    oracle_prosody,
    prosody_samples,
    samples_path,
    sayable,
)
from tts_gen.evaluation.headline import choose_temperatures
from tts_gen.evaluation.joint_prosody import joint_floor_rows, joint_rows, two_sample_floor_row, two_sample_row
from tts_gen.evaluation.likelihood import bits_per_dim_row
from tts_gen.evaluation.mel import Mels, mel_floor_rows, mel_rows
from tts_gen.evaluation.prosody import Prosody, floor_rows, of_floor, prosody_rows
from tts_gen.evaluation.seeds import but_the_seed, pooled
from tts_gen.evaluation.split import Lazy, Split
from tts_gen.features.files import write_json
from tts_gen.runs import AnyRun, JointRun, Run
from tts_gen.text.classes import phone_class

log = logging.getLogger(__name__)


def compare(c: Comparison) -> tuple[list[dict], dict[str, float]]:
    """All rows, and the temperature chosen on val for each generative run by name. Writes summary.json, summary.csv and
    chosen.json, and the samples; a second call does only what is missing."""
    start = time.monotonic()
    splits = c.splits
    found: list[dict] = []
    for task, of_task in (("prosody", _prosody), ("acoustic", _mels), ("joint", _mels)):
        if chosen_runs := c.of_task(task):
            found += of_task(c, chosen_runs, splits)
            found += [_bits(c, run, splits) for run in chosen_runs if isinstance(run, Run)]
    val = [row for row in found if row["split"] == "val"]
    chosen = {}
    for task in ("prosody", "acoustic", "joint"):
        best = choose_temperatures(val, task)
        chosen |= {Path(run).name: best[family, run] for family, run in best}
    tuned = {str(run.path): chosen[run.path.name] for run in c.runs if run.path.name in chosen}
    found += pooled(found, tuned, {str(run.path): but_the_seed(run) for run in c.runs})
    rows.write(found, c.out / "summary.json")
    rows.write_csv(found, c.out / "summary.csv")
    write_json(c.out / "chosen.json", chosen)
    log.info("evaluated %d runs in %.0f s", len(c.runs), time.monotonic() - start)
    return found, chosen


def rows_at(c: Comparison, run: AnyRun, split: Split, temperature: float | None) -> list[dict]:
    """Rows of one run at one temperature, of which a regression has none."""
    temperature = temperature if run.config.decoder.generative else None
    if run.config.task == "prosody":
        return _prosody_at(c, run, split, oracle_prosody(split, c.store), temperature)
    return _mels_at(c, run, split, temperature)


def _prosody_at(c, run, split, oracle, temperature) -> list[dict]:
    began = time.monotonic()
    generated = generated_prosody(c, run, split, oracle, temperature)
    identity = c.identity(run, "prosody", split.name, temperature, c.count(run, temperature))
    found = _of_set(c, generated, oracle, identity)
    _tell(run, split, temperature, began)
    return found


def _mels_at(c, run, split, temperature) -> list[dict]:
    began, task = time.monotonic(), run.config.task
    generated = generated_mels(c, run, split, temperature)
    identity = c.identity(run, task, split.name, temperature, 1)
    groups = groups_of(c, split)
    found = mel_rows(generated, split.mels, groups, identity, seed=c.seed, aligned=task == "acoustic")
    if task == "acoustic" and split.name == c.split:
        found += mel_failures(generated, split.mels, groups, training_mels(c.store), identity, c.seed)
    _tell(run, split, temperature, began)
    return found


def _prosody(c: Comparison, prosody_runs: list[Run], splits: dict[str, Split]) -> list[dict]:
    found, energy = [], any(run.config.energy for run in prosody_runs)
    for split in splits.values():
        oracle = oracle_prosody(split, c.store, energy)
        for run in prosody_runs:
            for temperature in c.grid(run):
                found += _prosody_at(c, run, split, oracle, temperature)
    split = splits[c.split]
    oracle = oracle_prosody(split, c.store, energy)
    identity = c.identity(None, "prosody", split.name, None, 1)
    found += floor_rows(oracle, identity, c.seed) + joint_floor_rows(oracle, identity, c.seed)
    found.append(two_sample_floor_row(oracle, identity, c.seed))
    found += prosody_failures(oracle, oracle, training_prosody(c.store), of_floor(identity), c.seed)
    # One that models energy, where any does, so that no table lacks the controls.
    baselines = sorted((run for run in prosody_runs if run.label == "l2"), key=lambda run: not run.config.energy)
    if not baselines:
        log.warning("no L2 prosody run among these: no controls, which are made from its predictions")
    for run in baselines[:1]:
        for family, generated in control_sets(c, run, splits, oracle):
            count = 1 if generated.log_f0.ndim == 1 else c.samples
            identity = c.identity(run, "prosody", split.name, None, count) | {"family": family}
            found += _of_set(c, generated, oracle, identity)
    return found


def _of_set(c: Comparison, generated: Prosody, oracle: Prosody, identity: dict) -> list[dict]:
    """All rows of one set; what takes long, the two-sample test and signs of failure, on the reported split alone."""
    found = prosody_rows(generated, oracle, identity, seed=c.seed)
    found += joint_rows(generated, oracle, identity, seed=c.seed)
    if identity["split"] == c.split:
        found.append(two_sample_row(generated, oracle, identity, seed=c.seed))
        found += prosody_failures(generated, oracle, training_prosody(c.store), identity, c.seed)
    return found


def generated_prosody(c: Comparison, run: Run, split: Split, oracle: Prosody, temperature: float | None) -> Prosody:
    """Samples [K, n] in whole frames and normalised log-f0; [n] where there is no temperature."""
    path = samples_path(c.out, run, split.name, temperature)
    y = prosody_samples(run, split, temperature, c.count(run, temperature), c.seed, path)
    return in_frames(run, oracle, y[0] if temperature is None else y)


def control_sets(c: Comparison, l2: Run, splits: dict[str, Split], oracle: Prosody) -> Iterator[tuple[str, Prosody]]:
    """The controls on the reported split, made from the L2 run and its residual on val."""
    prediction = {}
    for split in splits.values():
        path = samples_path(c.out, l2, split.name, None)
        prediction[split.name] = prosody_samples(l2, split, None, 1, c.seed, path)[0]
    val = oracle_prosody(splits["val"], c.store)
    # The middle of a whole frame's dequantisation interval stands for it.
    target = [val.log_f0, l2.stats.normalise_log_duration(np.log(val.duration + 0.5))]
    target += [val.energy] if l2.config.energy else []
    calibration = controls.calibrate(prediction["val"], np.stack(target, 1), val)
    ends = ends_of(oracle)
    return controls.controls(
        oracle, prediction[c.split], calibration, lambda d: flat_frames(l2, d, ends), c.samples, c.seed
    )


def _mels(c: Comparison, mel_runs: list[Run] | list[JointRun], splits: dict[str, Split]) -> list[dict]:
    """Of the acoustic runs, or of the joint ones."""
    found, task = [], mel_runs[0].config.task
    if task == "joint":
        splits = {name: sayable(mel_runs, c.store, split) for name, split in splits.items()}
    for split in splits.values():
        for run in mel_runs:
            for temperature in c.grid(run):
                found += _mels_at(c, run, split, temperature)
    split = splits[c.split]
    groups, identity = groups_of(c, split), of_floor(c.identity(None, task, split.name, None, 1))
    found += mel_floor_rows(split.mels, groups, identity, c.seed)
    if task == "acoustic":
        found += mel_failures(split.mels, split.mels, groups, training_mels(c.store), identity, c.seed)
    baselines = [run for run in mel_runs if task == "acoustic" and run.label in ("l1", "l2")]
    for run in baselines[:1]:
        for family, generated in mel_control_sets(c, run, splits).items():
            identity = c.identity(run, task, split.name, None, 1) | {"family": family}
            found += mel_rows(generated, split.mels, groups, identity, seed=c.seed)
    return found


def mel_control_sets(c: Comparison, regression: Run, splits: dict[str, Split]) -> dict[str, Mels]:
    """The controls on the reported split, made from a regression run and its residual on val."""
    prediction = {name: generated_mels(c, regression, split, None) for name, split in splits.items()}
    calibration = mel_controls.calibrate(prediction["val"], splits["val"].mels)
    split = splits[c.split]
    class_of = np.array([phone_class(symbol) for symbol in c.store.inventory.phonemes])

    def classes(i: int) -> np.ndarray:
        u = split.utterances[i]
        return np.repeat(class_of[u.phoneme], u.duration)

    return mel_controls.mel_controls(
        regression.label, prediction[c.split], split.mels, groups_of(c, split),
        Lazy(len(split.positions), classes), calibration, c.seed,
    )  # fmt: skip


def generated_mels(c: Comparison, run: AnyRun, split: Split, temperature: float | None) -> Mels:
    """One log-mel [T, M] for each utterance: from the oracle's prosody, or of a joint run from the text."""
    path = samples_path(c.out, run, split.name, temperature)
    if isinstance(run, Run):
        return mel_samples(run, split, temperature, c.seed, path)
    return joint_samples(run, [c.store.index[p] for p in split.positions], temperature, c.seed, path)


def _bits(c: Comparison, run: Run, splits: dict[str, Split]) -> dict:
    began = time.monotonic()
    identity = c.identity(run, run.config.task, c.split, None, 1)
    identity.pop("guidance", None)  # of samples; the density is the model's own
    row = bits_per_dim_row(
        run, splits["val"], splits[c.split], groups_of(c, splits[c.split]), identity, c.seed, c.ode_likelihood
    )
    log.info("%s: bits per dimension  %.1f s", run.path.name, time.monotonic() - began)
    return row


def groups_of(c: Comparison, split: Split) -> np.ndarray:
    """What is resampled together, a label for each utterance of the split."""
    return np.array([c.store.index[p].group for p in split.positions])


def _tell(run: AnyRun, split: Split, temperature: float | None, began: float) -> None:
    tau = "" if temperature is None else f" τ {temperature:g}"
    log.info("%s on %s%s  %.1f s", run.path.name, split.name, tau, time.monotonic() - began)
