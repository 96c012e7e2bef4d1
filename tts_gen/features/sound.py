"""Sound files: any format, rate and number of channels in, mono out; what cannot be used is told by what is wrong."""

import re
import stat
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

MIN_SECONDS, MAX_SECONDS = 0.5, 12.0
MIN_RATE = 8000
"""Hz, the telephone's; below it fricatives are lost, and the mels of other recordings have what these can never show"""
SILENCE = -60.0
"""dB: the noise of 16 bits is only 40 dB below; of 1,080 recordings (asterisk, queen) the quietest stands at -30"""
OVERLOAD = 2.0
"""largest sample of a file scaled otherwise than to -1..1; lossy codecs overshoot 1 a little"""
CLIPPED = 0.005
"""share of samples: normal recordings have none; half of those driven 3 dB (asterisk) or 6 dB (queen) over full scale
have more than this (scripts/levels.py)"""
LEVEL_FRAME, LEVEL_FRAMES = 0.02, 5
"""seconds, and how many: a tenth of a second of speech is enough, a click is not"""
STREAMED = 0x7FFFFF00
"""bytes: what programs that write to a pipe put where the length belongs is as much or more"""


class Unusable(Exception):
    """One utterance is left out. `reason`: short category that drops are counted by; `detail`: field, value, limit;
    `figures`: those of its alignment, where it got one (align.quality)."""

    def __init__(self, reason: str, detail: str = "", figures: dict[str, float] | None = None) -> None:
        super().__init__(reason, detail, figures)
        self.reason, self.detail, self.figures = reason, detail, figures or {}


def limit(reason: str, what: str, value: float, low: float = -np.inf, high: float = np.inf) -> None:
    """Raises Unusable when `value` lies outside."""
    if not low <= value <= high:
        bound = f"at least {low:g}" if value < low else f"at most {high:g}"
        raise Unusable(reason, f"{what} {value:.4g}, accepted is {bound}")


@dataclass(frozen=True, eq=False)
class Recording:
    """A sound file's contents."""

    wave: np.ndarray
    """[n] float32, finite, channels averaged"""
    rate: int
    """Hz"""
    seconds: float
    """of the file; the wave may be its beginning"""

    @cached_property
    def level(self) -> float:
        """dB of full scale: the mean power that LEVEL_FRAMES frames have at least."""
        step = round(LEVEL_FRAME * self.rate)
        frames = self.wave[: len(self.wave) // step * step].reshape(-1, step)
        power = np.sort(np.square(frames, dtype=np.float64).mean(axis=1))
        return float(10 * np.log10(power[-LEVEL_FRAMES:].min() + 1e-12))

    @cached_property
    def clipped(self) -> float:
        """Share of samples in flat tops: three or more in a row within 0.1 % of the largest."""
        magnitude = np.abs(self.wave)
        flat = np.diff((magnitude >= 0.999 * magnitude.max(initial=0.0)).astype(np.int8), prepend=0, append=0)
        lengths = np.flatnonzero(flat == -1) - np.flatnonzero(flat == 1)
        return float(lengths[lengths >= 3].sum() / len(self.wave))

    def check(self) -> None:
        """Raises Unusable when there is nothing to learn from it."""
        limit("sampling rate too low", "Hz", self.rate, low=MIN_RATE)
        limit("too short", "seconds", self.seconds, low=MIN_SECONDS)
        limit("too long", "seconds", self.seconds, high=MAX_SECONDS)
        limit("samples not in -1..1", "largest sample", float(np.abs(self.wave).max()), high=OVERLOAD)
        limit("silence", "dB of its loudest tenth of a second", self.level, low=SILENCE)
        limit("clipping", "share of samples in flat tops", self.clipped, high=CLIPPED)


def load(path: Path, most: float | None = None) -> Recording:
    """Any file that libsndfile reads (wav, FLAC, MP3, Ogg, ...), no more than `most` seconds of it. Raises Unusable."""
    import soundfile

    _check_file(path)
    try:
        with soundfile.SoundFile(path) as file:
            rate, notes, frames = file.samplerate, file.extra_info, file.frames
            enough = frames if most is None else round(most * rate)
            samples = file.read(enough, "float32", always_2d=True)
    except soundfile.LibsndfileError as error:
        raise Unusable("unreadable audio", error.error_string) from error
    except (soundfile.SoundFileError, OSError) as error:
        raise Unusable("unreadable audio", str(error)) from error
    if cut := _truncated(notes):
        raise Unusable("truncated audio", cut)
    if bad := int((~np.isfinite(samples)).sum()):
        raise Unusable("samples not finite", f"{bad} samples are NaN or infinite")
    # An MP3 file's number of frames may be a guess; what was read to the end is not.
    return Recording(samples.mean(axis=1), rate, (frames if len(samples) == enough else len(samples)) / rate)


def _check_file(path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise Unusable("missing audio", "does not exist") from error
    except OSError as error:  # permissions, a loop of links, a name too long
        raise Unusable("unreadable audio", error.strerror) from error
    except ValueError as error:  # a zero byte in the name
        raise Unusable("unreadable audio", str(error)) from error
    if not stat.S_ISREG(mode):
        raise Unusable("unreadable audio", "is a folder" if stat.S_ISDIR(mode) else "is not a file")


def _truncated(notes: str) -> str | None:
    """What libsndfile's notes on a file tell of an end too early; that of an MP3 file cannot be told."""
    if found := re.search(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)", notes, re.MULTILINE):
        promised, there = map(int, found.groups())
        if there < promised < STREAMED:
            return f"{there} of {promised} bytes of samples are there"
    return "its last page is missing" if re.search("Ogg *: Last page lacks an end-of-stream bit", notes) else None
