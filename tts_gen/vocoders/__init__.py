"""Vocoders: log-mel to wave."""

import logging
from pathlib import Path
from typing import Protocol

import numpy as np

from tts_gen.config import Audio, UserError
from tts_gen.vocoders.wave import write_wav

__all__ = ["NAMES", "Vocoder", "load", "write_wav"]

NAMES = ("auto", "hifigan", "griffin_lim")

log = logging.getLogger(__name__)


class Vocoder(Protocol):
    name: str

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        """mel[T, M], natural logarithm, as Audio defines it -> wave[T * hop], float32 in -1..1."""


def load(name: str = "auto", audio: Audio | None = None) -> Vocoder:
    """The vocoder for mels of definition `audio` (None: those it reads): "hifigan", "griffin_lim", "auto", or a
    checkpoint file of HiFi-GAN (of `tts-gen vocoder train` too) or Vocos.

    "auto" is HiFi-GAN, or Griffin-Lim, with a warning that says why, where HiFi-GAN cannot be had.
    Raises UserError for an unknown name, absent or unfit weights, and mels of another definition than the weights read.
    """
    if name == "griffin_lim":
        from tts_gen.vocoders.griffin_lim import GriffinLim

        return GriffinLim(audio or Audio())

    from tts_gen.vocoders import hifigan, vocos

    if name == "hifigan":
        return hifigan.load(None, audio)
    if name == "auto":
        try:
            return hifigan.load(None, audio)
        except UserError as error:
            log.warning("vocoder: Griffin-Lim, which sounds clearly worse than HiFi-GAN: %s", error)
            return load("griffin_lim", audio)
    if not Path(name).is_file():
        raise UserError(f"vocoder {name!r}: neither a checkpoint file nor one of {', '.join(NAMES)}")
    state = None if name.endswith(hifigan.SAVED) else vocos.state_of(Path(name))
    return hifigan.load(name, audio) if state is None else vocos.load(Path(name), state, audio)
