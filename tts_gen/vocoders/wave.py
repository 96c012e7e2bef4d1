"""Waves to files."""

import logging
import os
from pathlib import Path

import numpy as np

log = logging.getLogger(__name__)


def write_wav(path: str | Path, wave: np.ndarray, sample_rate: int) -> None:
    """Writes wave[n] in -1..1 as a 16-bit mono WAV file; the file is whole or not there. Missing folders are made.

    A wave with a peak above 1 is scaled down to 1, and a warning says so. Raises ValueError for non-finite samples.
    """
    import soundfile

    path, wave = Path(path), np.asarray(wave, np.float32)
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
    finally:
        partial.unlink(missing_ok=True)
