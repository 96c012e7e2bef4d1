"""Copy synthesis: the prosody of a recording, for a model's voice."""

from pathlib import Path

import numpy as np

from tts_gen.config import UserError
from tts_gen.corpora import Utterance
from tts_gen.features import sound
from tts_gen.features.extract import Settings, extract
from tts_gen.features.pooling import pool_energy
from tts_gen.features.store import Features
from tts_gen.runs import Run
from tts_gen.synthesis import Controls, labels


def imitate(recording: Path, text: str, run: Run, controls: Controls) -> Features:
    """Phonemes and prosody of an English `text` as it is spoken in `recording`. Raises UserError for what `prepare`
    would drop, and for phonemes and labels that the run does not know."""
    try:
        record = extract(Utterance("recording", recording, text), sound.load(recording), Settings(run.audio))
    except sound.Unusable as error:
        raise UserError(f"{recording}: {error.reason}: {error.detail}") from error
    encoded = run.inventory.encode(record.phonemes)
    speaker, style = labels(run, controls)
    energy = None
    if run.config.energy:  # a recording's level is its microphone's
        energy = pool_energy(record.mel, record.duration)
        energy += run.stats.energy_mean - energy.mean()
    return Features(
        **encoded, duration=record.duration, log_f0=record.log_f0, voiced=~np.isnan(record.log_f0), mel=record.mel,
        speaker=speaker, style=style, energy=energy,
    )  # fmt: skip
