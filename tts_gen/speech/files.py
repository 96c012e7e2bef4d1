"""What is written of a sentence: its wav, and on request its prosody, phone times, mel, a picture."""

import logging
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

from tts_gen import vocoders
from tts_gen.align import Segment, textgrid
from tts_gen.speech import prosody_file
from tts_gen.speech.sources import Source
from tts_gen.synthesis import Spoken
from tts_gen.vocoders import Vocoder

log = logging.getLogger(__name__)

WIDEST = 200.0
"""inches of a picture: matplotlib draws no wider ones"""


def write(
    spoken: Spoken, wav: Path, prosody: Path | None, also: Sequence[str], source: Source, vocoder: Vocoder
) -> None:
    """The wav last: where it stands all else does."""
    wav.parent.mkdir(parents=True, exist_ok=True)
    if prosody:
        if (seconds := len(spoken.mel) * source.audio.frame_seconds) > prosody_file.LONGEST:
            log.warning("%s holds %.0f s, and --from-prosody takes %g s at most: divide it at pauses", prosody, seconds,
                        prosody_file.LONGEST)  # fmt: skip
        prosody_file.write(prosody, spoken.features, source.inventory, source.audio)
    for kind in also:
        ending, function = KINDS[kind]
        function(wav.with_suffix(ending), spoken, source)
    vocoders.write_wav(wav, vocoder(spoken.mel), source.audio.sample_rate)


def stream(waves: Iterable[np.ndarray], sample_rate: int, to: BinaryIO) -> None:
    """A 16-bit WAV file of the waves one after the other, each as soon as it is there. Its header does not know how
    long it becomes: that is written as the most there can be, as other programs do that write to a pipe."""
    form = struct.pack("<HHIIHH", 1, 1, sample_rate, 2 * sample_rate, 2, 16)
    to.write(b"RIFF\xff\xff\xff\xffWAVEfmt " + struct.pack("<I", len(form)) + form + b"data\xff\xff\xff\xff")
    for wave in waves:
        to.write(np.round(np.clip(wave, -1, 1) * 32767).astype("<i2").tobytes())
        to.flush()


def _textgrid(path: Path, spoken: Spoken, source: Source) -> None:
    u = spoken.features
    phonemes = source.inventory.decode(u.phoneme, u.stress, u.edge, u.punctuation)
    ends = (np.cumsum(u.duration) * source.audio.frame_seconds).tolist()
    textgrid.write(path, [Segment(p, a, b) for p, a, b in zip(phonemes, [0.0, *ends[:-1]], ends, strict=True)])


def _mel(path: Path, spoken: Spoken, source: Source) -> None:
    np.save(path, spoken.mel)


def _picture(path: Path, spoken: Spoken, source: Source) -> None:
    """The mel, each phoneme's f0 over it, and its name below."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    u, seconds = spoken.features, source.audio.frame_seconds
    ends = np.cumsum(u.duration) * seconds
    starts = ends - u.duration * seconds
    figure, axis = plt.subplots(figsize=(min(max(6.0, 4 * ends[-1]), WIDEST), 4), layout="constrained")
    axis.imshow(spoken.mel.T, origin="lower", aspect="auto", cmap="magma", extent=(0, ends[-1], 0, spoken.mel.shape[1]))
    axis.set(ylabel="mel bin")
    axis.set_xticks((starts + ends) / 2, [source.inventory.phonemes[p] for p in u.phoneme], fontsize=7)
    pitch = axis.twinx()
    f0 = np.where(u.voiced, np.exp(u.log_f0), np.nan)
    pitch.hlines(f0, starts, ends, color="#56B4E9", linewidth=2.5)
    pitch.set(ylabel="f0, Hz")
    figure.savefig(path, dpi=120)
    plt.close(figure)


KINDS = {"textgrid": (".TextGrid", _textgrid), "mel": (".npy", _mel), "picture": (".png", _picture)}
"""ending of the file beside the wav, and what writes it"""
