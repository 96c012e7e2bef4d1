"""Samples of held-out utterances while a model trains: figures of their spread, pictures, sound.

Always of the same few utterances and with the same noise, so that the figures of two steps differ by what was learnt in
between. So small a pool moves the JS divergence up (metrics.js): its course tells, its level is for eval.py to find.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tts_gen import vocoders
from tts_gen.batches import acoustic_batch, prosody_batch, readable, whole
from tts_gen.config import Config, UserError
from tts_gen.evaluation import plots
from tts_gen.evaluation.generate import in_frames, oracle_prosody
from tts_gen.evaluation.mel import mel_rows
from tts_gen.evaluation.prosody import prosody_rows
from tts_gen.evaluation.split import Split
from tts_gen.features.embeddings import open_store
from tts_gen.features.store import FeatureStore
from tts_gen.runs import Run

log = logging.getLogger(__name__)

UTTERANCES = 8
SHORTER = 0.8
"""share of the split, by length, that they are taken from: the longest would set what all are padded to"""
SHOWN = 3
"""of them, the longest, as pictures"""
HIGHEST = 1000.0
"""Hz; a sample is drawn no higher, where it would flatten the recording's curve"""
CLIP_SECONDS = 4.0
FIGURES = [(feature, metric) for feature in ("log_f0", "duration", "energy", "mel") for metric in ("std_ratio", "js")]


class Monitor:
    """`inspect(task, variables, step, writer) -> figures` of fit.train.

    The features of `config` are opened at the first call: in the one process that looks at samples, where any does.
    The first call compiles one program, which all later ones use, on the process's first device.
    """

    def __init__(self, config: Config):
        self.config = config
        self.run: Run | None = None  # its parameters are those of each call

    def __call__(self, task: Any, variables: dict, step: int, writer: Any) -> dict[str, float]:
        """`sample_std_ratio_log_f0` and others like it, of temperature 1, each finite or left out; pictures, and of
        mels sound, go to the writer. Raises UserError when the split val is empty or cannot be read."""
        if self.config.task == "contour":  # eval.py joint looks at its samples
            return {}
        if self.run is None:
            self._prepare(task, writer.run)
        prosody = self.config.task == "prosody"
        try:
            y = np.asarray(self.run.sample(variables, self.batch, jax.random.key(self.config.train.seed), 1.0))
        except jax.errors.JaxRuntimeError as error:  # no memory beside the training's, which goes on all the same
            log.warning("step %d: no samples (%s)", step, str(error).partition("\n")[0])
            return {}
        lengths = [len(u.phoneme if prosody else u.mel) for u in self.split.utterances]
        samples = [row[:length] for row, length in zip(y, lengths, strict=True)]
        rows = self._prosody(samples, step, writer) if prosody else self._mels(samples, step, writer)
        values = {(r["feature"], r["metric"]): r["value"] for r in rows if r["scope"] == "overall"}
        return {f"sample_{m}_{f}": values[f, m] for f, m in FIGURES if values.get((f, m)) is not None}

    def _prepare(self, task: Any, path: Path) -> None:
        self.store = store = open_store(self.config.data)
        self.split = split = _chosen(store, self.config.task)
        stats, utterances = store.stats, list(split.utterances)
        phonemes = _padded([len(u.phoneme) for u in utterances])
        if self.config.task == "prosody":
            batch = prosody_batch(utterances, stats, phonemes)
        else:
            frames = _padded([len(u.mel) for u in utterances])
            batch = acoustic_batch([whole(u, stats) for u in utterances], stats, phonemes, frames)
        self.batch = jax.device_put(batch, jax.local_devices()[0])
        self.shown = range(len(utterances))[-SHOWN:]
        self.run = Run(path, self.config, store.audio, store.inventory, stats, task, variables={}, step=0)

    def _prosody(self, samples: Sequence[np.ndarray], step: int, writer: Any) -> list[dict]:
        """Of normalised log-f0, log-duration and maybe energy [N, C]."""
        store, stats = self.store, self.store.stats
        oracle = oracle_prosody(self.split, store)
        for i in self.shown:
            u = self.split.utterances[i]
            sample = stats.denormalise_log_f0(samples[i][:, 0], np.asarray(u.speaker))
            curves = {self.run.label: np.exp(np.minimum(sample, np.log(HIGHEST)))}
            picture = plots.f0_curves(np.exp(u.log_f0), curves, u.duration * store.audio.frame_seconds)
            writer.image(step, f"f0/{self._id(i)}", picture)
        generated = in_frames(self.run, oracle, np.concatenate(samples))
        return prosody_rows(generated, oracle, {}, n_boot=1)

    def _mels(self, samples: Sequence[np.ndarray], step: int, writer: Any) -> list[dict]:
        """Of normalised log-mels [T, M]."""
        audio = self.store.audio
        generated = [self.store.stats.denormalise_mel(s) for s in samples]
        oracle = list(self.split.mels)
        for i in self.shown:
            panels = {"Recording": oracle[i], self.run.label: generated[i]}
            writer.image(step, f"mel/{self._id(i)}", plots.mels(panels, audio.frame_seconds))
        heard = self.shown[-1]
        vocoder, frames = vocoders.load("griffin_lim", audio), int(CLIP_SECONDS / audio.frame_seconds)
        for name, mels in (("sample", generated), ("recording", oracle)):
            if np.isfinite(mels[heard]).all():
                wave = vocoder(mels[heard][:frames])
                writer.audio(step, f"griffin_lim_{name}/{self._id(heard)}", wave, audio.sample_rate)
        groups = [self.store.index[p].group for p in self.split.positions]
        return mel_rows(generated, oracle, groups, {}, n_boot=1)

    def _id(self, i: int) -> str:
        return self.store.index[self.split.positions[i]].id


def _chosen(store: FeatureStore, task: str) -> Split:
    """Utterances of the split val from short to long; those that cannot be read are left out."""
    positions = store.split("val")
    entries = [store.index[p] for p in positions]
    order = np.argsort([e.n_phonemes if task == "prosody" else e.n_frames for e in entries], kind="stable")
    order = order[: max(UTTERANCES, round(SHORTER * len(order)))]
    spread = np.unique(np.linspace(0, len(order) - 1, UTTERANCES).astype(int))
    found = [position for position in positions[order[spread]] if readable(store, position) is not None]
    if not found:
        raise UserError(f"{store.root}: none of the val utterances to sample can be read; see above")
    return Split("val", store, np.array(found))


def _padded(lengths: Sequence[int]) -> int:
    """The longest, as a multiple of the 4 positions that a task's lengths are padded to (tasks.Task.multiple)."""
    return -(-max(lengths) // 4) * 4
