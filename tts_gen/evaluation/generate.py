"""Samples of a run over a split, on disk: what was interrupted goes on where it stopped.

What an utterance draws depends on the seed and its place in the split alone, so samples are the same on one device and
on many, in one process and in several that share the split's parts.
"""

import functools
import logging
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

from tts_gen import parallel
from tts_gen.batches import whole_batches
from tts_gen.config import UserError
from tts_gen.draws import Rows
from tts_gen.evaluation.prosody import Prosody
from tts_gen.evaluation.split import Lazy, Split
from tts_gen.evaluation.stored import PART, Arrays, cached, parts, read
from tts_gen.features.durations import whole_frames
from tts_gen.features.index import Entry
from tts_gen.features.pooling import DECIBEL
from tts_gen.features.stats import Stats
from tts_gen.features.store import Features, FeatureStore
from tts_gen.runs import AnyRun, JointRun, Run
from tts_gen.text import PAUSE
from tts_gen.text.classes import phone_class

log = logging.getLogger(__name__)


def samples_path(out: Path, run: AnyRun, split: str, temperature: float | None) -> Path:
    tau = "" if temperature is None else f"_tau{temperature:g}"
    return out / "samples" / f"{run.path.name}_{split}{tau}"


def make_samples(
    run: Run, split: Split, temperature: float | None, samples: int, seed: int, folder: Path, process: int = 0,
    processes: int = 1,
) -> list[Path]:  # fmt: skip
    """The files of all parts; of those that are missing this process makes its share, on all its devices.

    They hold `y` [K, n, C], normalised log-f0, log-duration and maybe energy over the part's phonemes, or log-f0 over
    its frames, or `mel` [n, M] float16 over its frames, one utterance after the other."""
    mesh = parallel.local_mesh()
    variables = jax.device_put(run.variables, parallel.replicated(mesh))
    longest = max(e.n_phonemes for e in split.entries)

    def draw(part: Split, first: int, k: int) -> list[np.ndarray]:
        """Normalised y [L, C] of each utterance."""
        result: list = [None] * len(part.positions)
        key, task = jax.random.fold_in(jax.random.key(seed), k), run.config.task
        for places, batch in whole_batches(part.read_by(run).utterances, run.stats, task, longest, mesh.size):
            lengths = batch["length"] if task == "prosody" else batch["frames"]
            rows = np.pad(first + places, (0, len(lengths) - len(places)))
            batch, rows = jax.device_put((batch, rows), parallel.over_rows(mesh))
            y = np.asarray(run.sample(variables, batch, Rows(key, rows, len(rows)), temperature or 0.0))
            for row, place in enumerate(places):
                result[place] = y[row, : lengths[row]]
        return result

    def make(part: Split, first: int) -> Arrays:
        drawn = [draw(part, first, k) for k in range(samples)]
        if run.config.task != "acoustic":
            return {"y": np.stack([np.concatenate(y) for y in drawn])}
        return {"mel": np.concatenate([run.stats.denormalise_mel(y) for y in drawn[0]]).astype(np.float16)}

    return parts(folder, split, settings_of(run, samples, seed), make, process, processes)


def prosody_samples(
    run: Run, split: Split, temperature: float | None, samples: int, seed: int, folder: Path
) -> np.ndarray:
    """[K, n, C] as `make_samples` says, over the split's phonemes, or of a contour run over its frames."""
    files = make_samples(run, split, temperature, samples, seed, folder)
    return np.concatenate([read(file)["y"] for file in files], axis=1)


def mel_samples(run: Run, split: Split, temperature: float | None, seed: int, folder: Path) -> Sequence[np.ndarray]:
    """One log-mel [T, M] for each utterance, from the oracle's prosody; read where it is asked for."""
    files = make_samples(run, split, temperature, 1, seed, folder)
    lengths = [e.n_frames for e in split.entries]
    part_of = functools.lru_cache(maxsize=1)(lambda i: read(files[i])["mel"])

    def mel(i: int) -> np.ndarray:
        first = i // PART * PART
        start = sum(lengths[first:i])
        return part_of(i // PART)[start : start + lengths[i]].astype(np.float32)

    return Lazy(len(lengths), mel)


def joint_samples(
    run: JointRun, entries: Sequence[Entry], temperature: float | None, seed: int, folder: Path
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

    def make() -> Arrays:
        mels = run.sample(sentences, speakers, jax.random.key(seed), temperature or 0.0)
        return {"mel": np.concatenate(mels), "frames": np.array([len(mel) for mel in mels])}

    texts = zlib.crc32(repr([(e.text, s) for e, s in zip(entries, speakers, strict=True)]).encode())
    identity = f"weights {_weights(run)} texts {texts} {run.config} {run.front_end} seed {seed}"
    arrays = cached(folder / "joint.npz", identity, make)
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
    return split.only(kept)


def _weights(run: AnyRun) -> int:
    leaves = jax.tree.leaves(run.variables)
    return functools.reduce(lambda crc, x: zlib.crc32(np.asarray(x).tobytes(), crc), leaves, 0)


def settings_of(run: Run, samples: int, seed: int) -> str:
    """All that samples depend on beside the utterances: weights and statistics of the run, solver, guidance, draws."""
    stats = zlib.crc32(repr(run.stats.to_dict()).encode())
    guidance = "" if run.guidance is None else f" guidance {run.guidance:g}"
    speakers = "" if run.embeddings is None else f" speakers {run.embeddings.fingerprint}"
    return f"weights {_weights(run)} stats {stats} {run.config.decoder}{guidance}{speakers} K {samples} seed {seed}"


def identity_of(run: Run, split: Split, samples: int, seed: int) -> str:
    """All that is made of a run and a whole split depends on."""
    return f"{settings_of(run, samples, seed)} utterances {split.content}"


def flat_frames(run: Run, log_duration: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Whole frames [n] of flat normalised log-durations [n], utterance by utterance (they end at `ends`), exactly as
    synthesis makes them; NaN where the model's value is not finite."""
    finite = np.isfinite(log_duration)
    values = run.stats.denormalise_log_duration(np.where(finite, log_duration, 0.0))
    frames = [whole_frames(utterance) for utterance in np.split(values, ends[:-1])]
    return np.where(finite, np.concatenate(frames), np.nan)


def ends_of(oracle: Prosody) -> np.ndarray:
    """Where each utterance ends in the flat arrays."""
    return np.cumsum(np.unique(oracle.utterance, return_counts=True)[1])


def in_frames(run: Run, oracle: Prosody, y: np.ndarray) -> Prosody:
    """What a run sampled, [K, n, C] or [n, C], over the flat phonemes of an oracle."""
    duration = np.stack([flat_frames(run, d, ends_of(oracle)) for d in np.atleast_2d(y[..., 1])])
    duration = duration.reshape(y.shape[:-1])
    energy = y[..., 2] if run.config.energy else None
    return replace(oracle, log_f0=y[..., 0], duration=duration, energy=energy)


def oracle_prosody(split: Split, store: FeatureStore, energy: bool = True) -> Prosody:
    """The recordings' prosody, flat; its energy where that is asked for and the store has statistics of it."""
    entries, stats = split.entries, store.stats
    columns = zip(*_prosody_of(split.utterances, stats), strict=True)
    phoneme, log_f0, duration, level, speaker = map(np.concatenate, columns)
    known = energy and stats.energy_mean is not None
    lengths = [e.n_phonemes for e in entries]
    groups = np.unique([e.group for e in entries], return_inverse=True)[1]
    return Prosody(
        log_f0=log_f0,
        duration=duration,
        voiced=~np.isnan(log_f0),
        pause=phoneme == store.inventory.phonemes.index(PAUSE),
        utterance=np.repeat(np.arange(len(entries)), lengths),
        group=np.repeat(groups, lengths),
        speaker=np.repeat([e.speaker for e in entries], lengths),
        corpus=np.repeat([store.mixture.name(p) for p in split.positions], lengths),
        style=np.repeat([e.style for e in entries], lengths),
        phone_class=np.array([phone_class(symbol) for symbol in store.inventory.phonemes])[phoneme],
        log_f0_std=stats.log_f0_std[speaker],
        frame_seconds=store.audio.frame_seconds,
        energy=stats.normalise_energy(level) if known else None,
        energy_db=float(stats.energy_std * DECIBEL) if known else np.nan,
    )


def _prosody_of(utterances: Iterable[Features], stats: Stats) -> Iterator[tuple[np.ndarray, ...]]:
    """Of each its phonemes, normalised log-f0, durations, energy in nats and, for each phoneme, its speaker, [N]."""
    for u in utterances:
        log_f0 = stats.normalise_log_f0(u.log_f0, np.asarray(u.speaker))
        yield u.phoneme, log_f0, u.duration, u.energy, np.full(len(u.phoneme), u.speaker)
