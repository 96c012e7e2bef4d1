"""Mels of an acoustic run for the recordings of a corpus, from their own prosody: what the vocoder will be given."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tts_gen import parallel
from tts_gen.config import UserError
from tts_gen.evaluation.comparison import open_comparison
from tts_gen.evaluation.generate import make_samples, mel_samples, settings_of
from tts_gen.evaluation.split import Split
from tts_gen.features.store import FeatureStore

log = logging.getLogger(__name__)


class GeneratedMels:
    """Made once, in `out`/mels, by all processes together. Raises UserError for a run that is no acoustic one, or does
    not fit the store."""

    FOLDER = "mels"

    def __init__(self, store: FeatureStore, out: Path, run: str, temperature: float, seed: int):
        self.folder, self.seed = out / self.FOLDER, seed
        self.comparison = open_comparison([Path(run)], out, (temperature,), 1, "val", seed, features=store.home)
        (self.run,) = self.comparison.runs
        if self.run.config.task != "acoustic":
            raise UserError(f"--mels {run} is a {self.run.config.task} run; give an acoustic one")
        (self.temperature,) = self.comparison.grid(self.run)
        self.identity = f"{settings_of(self.run, 1, seed)} temperature {self.temperature}"

    def of(self, name: str, process: int = 0, processes: int = 1) -> Sequence[np.ndarray]:
        """Of each utterance of a split [T, M]."""
        split, folder = Split.read(self.comparison.store, name), self.folder / name
        log.info("mels of %s, by %s", name, self.run.path)
        make_samples(self.run, split, self.temperature, 1, self.seed, folder, process, processes)
        parallel.agree("")  # all parts are there
        return mel_samples(self.run, split, self.temperature, self.seed, folder)
