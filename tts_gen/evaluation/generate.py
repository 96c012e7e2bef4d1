"""Samples of a run over a split, on disk so that an interrupted evaluation goes on where it stopped."""

import functools
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from tts_gen.batches import whole_batches
from tts_gen.config import UserError
from tts_gen.evaluation.prosody import Prosody
from tts_gen.features.durations import whole_frames
from tts_gen.features.store import Entry, Features, FeatureStore
from tts_gen.runs import AnyRun, JointRun, Run
from tts_gen.text import PAUSE
from tts_gen.text.classes import phone_class

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Split:
    """Utterances of one split, in the order of the store's index."""

    name: str
    positions: np.ndarray
    utterances: list[Features]

    @classmethod
    def read(cls, store: FeatureStore, name: str) -> "Split":
        positions = store.split(name)
        return cls(name, positions, store.read(positions))


def samples_path(out: Path, run: AnyRun, split: str, temperature: float | None) -> Path:
    tau = "" if temperature is None else f"_tau{temperature:g}"
    return out / "samples" / f"{run.path.name}_{split}{tau}.npz"


def prosody_samples(
    run: Run, split: Split, temperature: float | None, samples: int, seed: int, path: Path
) -> np.ndarray:
    """[K, n, 2] normalised log-f0 and log-duration over the split's phonemes, one utterance after the other."""

    def generate():
        drawn = [_sample(run, split.utterances, temperature, seed, k) for k in range(samples)]
        return {"y": np.stack([np.concatenate(y) for y in drawn])}

    return cached(path, identity_of(run, split, samples, seed), generate)["y"]


def mel_samples(run: Run, split: Split, temperature: float | None, seed: int, path: Path) -> list[np.ndarray]:
    """One log-mel [T, M] for each utterance, from the oracle's prosody."""

    def generate():
        drawn = _sample(run, split.utterances, temperature, seed, 0)
        return {"mel": np.concatenate([run.stats.denormalise_mel(y) for y in drawn]).astype(np.float16)}

    mel = cached(path, identity_of(run, split, 1, seed), generate)["mel"].astype(np.float32)
    return np.split(mel, np.cumsum([len(u.mel) for u in split.utterances])[:-1])


def joint_samples(
    run: JointRun, entries: Sequence[Entry], temperature: float | None, seed: int, path: Path
) -> list[np.ndarray]:
    """One log-mel [T, M] for each utterance, from its text alone, with durations of the model's own.

    An utterance's speaker is the run's of that name, else its first. Raises UserError for a text that the run cannot
    say.
    """
    sentences = [run.front_end.encode(entry.text) for entry in entries]
    known = run.front_end.speakers
    if others := sorted({e.speaker for e in entries} - set(known)) if known else []:
        log.info("%s knows no speaker %s: its speaker %s stands in", run.path, ", ".join(others), known[0])
    speakers = [known.index(e.speaker) if e.speaker in known else 0 for e in entries]

    def generate():
        mels = run.sample(sentences, speakers, jax.random.key(seed), temperature or 0.0)
        return {"mel": np.concatenate(mels), "frames": np.array([len(mel) for mel in mels])}

    texts = zlib.crc32(repr([(e.text, s) for e, s in zip(entries, speakers, strict=True)]).encode())
    identity = f"weights {_weights(run)} texts {texts} {run.config} {run.front_end} seed {seed}"
    arrays = cached(path, identity, generate)
    return np.split(arrays["mel"], np.cumsum(arrays["frames"])[:-1])


def sayable(joint_runs: Sequence[JointRun], store: FeatureStore, split: Split) -> Split:
    """The utterances whose text each of the runs has the symbols for, so that all are scored on the same; the others
    are counted in a warning. Raises UserError where none is left."""
    problems: dict[int, str] = {}
    for i, position in enumerate(split.positions):
        entry = store.index[position]
        for run in joint_runs:
            try:
                run.front_end.encode(entry.text)
            except UserError as error:
                problems[i] = f"{entry.id} cannot be said by {run.path}: {error}"
    kept = [i for i in range(len(split.positions)) if i not in problems]
    if not kept:
        raise UserError(f"no {split.name} utterance is left: {next(iter(problems.values()))}")
    if problems:
        log.warning("%d of %d %s utterances are left out, first %s", len(problems), len(split.positions), split.name,
                    next(iter(problems.values())))  # fmt: skip
    return Split(split.name, split.positions[kept], [split.utterances[i] for i in kept])


def _weights(run: AnyRun) -> int:
    leaves = jax.tree.leaves(run.variables)
    return functools.reduce(lambda crc, x: zlib.crc32(np.asarray(x).tobytes(), crc), leaves, 0)


def identity_of(run: Run, split: Split, samples: int, seed: int) -> str:
    """All that samples depend on: weights and statistics of the run, utterances, solver, guidance, draws."""
    content = functools.reduce(
        lambda crc, u: zlib.crc32(u.phoneme.tobytes() + u.mel.tobytes(), crc), split.utterances, 0
    )
    stats = zlib.crc32(repr(run.stats.to_dict()).encode())
    guidance = "" if run.guidance is None else f" guidance {run.guidance:g}"
    settings = f"{run.config.decoder}{guidance} K {samples} seed {seed}"
    return f"weights {_weights(run)} utterances {content} stats {stats} {settings}"


def cached(path: Path, identity: str, generate) -> dict[str, np.ndarray]:
    """Arrays of `path` when it was made from the same things and settings, `identity`, else made and written there."""
    if path.exists():
        with np.load(path) as file:
            if str(file["identity"]) == identity:
                return dict(file)
    arrays = generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, identity=identity, **arrays)
    partial.replace(path)
    return arrays


def _sample(run: Run, utterances: Sequence[Features], temperature: float | None, seed: int, k: int) -> list[np.ndarray]:
    """Normalised y [L, C] of each utterance."""
    result: list = [None] * len(utterances)
    task = run.config.task
    rng = jax.random.fold_in(jax.random.key(seed), k)
    for i, (places, batch) in enumerate(whole_batches(utterances, run.stats, task)):
        y = np.asarray(run.sample(run.variables, batch, jax.random.fold_in(rng, i), temperature or 0.0))
        lengths = batch["length"] if task == "prosody" else batch["frames"]
        for row, place in enumerate(places):
            result[place] = y[row, : lengths[row]]
    return result


def flat_frames(run: Run, log_duration: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whole frames [n] of flat normalised log-durations [n], utterance by utterance (they end at `ends`), exactly as
    synthesis makes them; NaN where the model's value is not finite."""
    finite = np.isfinite(log_duration)
    values = run.stats.denormalise_log_duration(np.where(finite, log_duration, 0.0))
    parts = [whole_frames(part) for part in np.split(values, ends[:-1])]
    return np.where(finite, np.concatenate(parts), np.nan)


def oracle_prosody(split: Split, store: FeatureStore) -> Prosody:
    """The recordings' prosody, flat."""
    inventory, stats = store.inventory, store.stats
    rows = split.utterances
    lengths = [len(u.phoneme) for u in rows]
    symbols = [inventory.phonemes[p] for u in rows for p in u.phoneme]
    entries = [store.index[p] for p in split.positions]
    return Prosody(
        log_f0=np.concatenate([stats.normalise_log_f0(u.log_f0, np.asarray(u.speaker)) for u in rows]),
        duration=np.concatenate([u.duration for u in rows]),
        voiced=np.concatenate([u.voiced for u in rows]),
        pause=np.array([s == PAUSE for s in symbols]),
        utterance=np.repeat(np.arange(len(rows)), lengths),
        group=np.repeat([e.group for e in entries], lengths),
        speaker=np.repeat([e.speaker for e in entries], lengths),
        style=np.repeat([e.style for e in entries], lengths),
        phone_class=np.array([phone_class(s) for s in symbols]),
        log_f0_std=np.repeat([stats.log_f0_std[u.speaker] for u in rows], lengths),
        frame_seconds=store.audio.frame_seconds,
    )
