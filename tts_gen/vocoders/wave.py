"""Waves to files."""

import logging
import os
from pathlib import Path

import numpy as np

from tts_gen.config import UserError

log = logging.getLogger(__name__)


def write_wav(path: str | Path, wave: np.ndarray, sample_rate: int) -> None:
    """Writes wave[n] in -1..1 as a 16-bit mono WAV file; the file is whole or not there. Missing folders are made.

    A wave with a peak above 1 is scaled down to 1, and a warning says so. Raises ValueError for non-finite samples,
    UserError for a path that is there and is no file (a device), and where nothing can be written.
    """
    import soundfile

    path, wave = Path(path), np.asarray(wave, np.float32)
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is there and is not a file; name one to be written")
    if not np.isfinite(wave).all():
        bad = np.count_nonzero(~np.isfinite(wave))
        raise ValueError(f"{path}: {bad} of the wave's {wave.size} samples are not finite; nothing is written")
    peak = float(np.max(np.abs(wave), initial=0.0))
    if peak > 1.0:
        log.warning("%s: peak %.2f is above full scale; the whole wave is scaled by %.3f", path, peak, 1 / peak)
        wave = wave / peak
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        soundfile.write(partial, np.round(wave * 32767).astype(np.int16), sample_rate, subtype="PCM_16", format="WAV")
        os.replace(partial, path)
    except soundfile.LibsndfileError as error:
        raise UserError(f"{path} cannot be written: {error.error_string}") from error
    finally:
        partial.unlink(missing_ok=True)
