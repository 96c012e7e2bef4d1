"""The report: one HTML file that holds its pictures and audio and needs no network."""

import base64
import html
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import numpy as np

HOW_TO_READ = """
<strong>How to read it.</strong> L1 and L2 regression predict a mean, so theory has them under-dispersed: std ratio
below 1, histogram too narrow, flat speech. The other families draw samples, whose spread and histogram (std ratio, JS
divergence) should come near the oracle's at temperatures near 1. But these two do not see order: the control <em>L2 +
noise</em>, the L2 prediction with independent noise of the residual's size, looks good on both and is no model of
speech; <em>L2 + AR noise</em> has the residual's autocorrelation too, and <em>other utterance</em> a real melody, of
another text. A family that has learnt more beats the controls on differences between neighbours (std and JS of Δ), on
the energy score (of an utterance as a whole) and best of K, and where a classifier is to tell it from the recordings
(two-sample: its accuracy, 0.5 is by chance), or on bits per dimension. A heading marked ¹ does not discriminate on this
corpus: some control's interval reaches the floor's or, where there is no floor, the best family's. JS divergence of few
values is biased
upwards: compare <em>JS halves</em>, half of the generated against the other half of the oracle, with the floor, half of
the oracle against its other half. A star marks a family that differs significantly from the best of its column (paired
tests, Holm-Bonferroni, 5 %). Small print: 95 % studentised bootstrap intervals over groups of utterances (floor and JS
halves: the range of single random halves).
"""
HOW_TO_READ_MELS = """
Std ratio is taken in every mel bin; Δ time and Δ frequency are the std ratios of differences from frame to frame and
from bin to bin: below 1 is smear, far above 1 grain; <em>modulation</em> is the distance of the modulation spectra (how
quickly each bin moves) in dB, MCD the mel-cepstral distortion in dB. The controls are made of the regression's
predictions and of the recordings; a heading marked ¹ does not tell some of them from the floor. After few training
steps, as in the demo, diffusion mels are grainy: the last, low-noise part of denoising is learnt last.
"""


@dataclass
class Section:
    title: str
    text: str = ""
    """HTML; escape what is not yours with html.escape"""
    images: list[tuple[str, bytes]] = field(default_factory=list)
    """(caption, PNG)"""
    tables: list[tuple[str, Sequence[str], Sequence[Sequence[str]]]] = field(default_factory=list)
    """(caption, header, rows of cells); a cell's second line is shown small"""
    audio: list[tuple[str, str, str | Path | tuple[np.ndarray, int]]] = field(default_factory=list)
    """(utterance, system, file or (wave [n] in -1..1, Hz)): a row of players for each utterance"""
    collapsed: bool = False
    """shown folded up: long tables"""

    @property
    def players(self) -> dict[str, list[tuple[str, str | Path | tuple[np.ndarray, int]]]]:
        """Utterance -> (system, sound) of each."""
        return {of: [(system, x) for u, system, x in self.audio if u == of] for of, *_ in self.audio}


def write_report(path: str | Path, title: str, lead: str, banner: str | None, sections: Sequence[Section]) -> None:
    """Writes the page, atomically. lead: HTML below the title; banner: a warning that must not be overlooked, plain
    text."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tts_gen.evaluation", ""), autoescape=True, trim_blocks=True
    )
    environment.globals.update(image=_image, sound=_sound, size=_size)
    page = environment.get_template("report.html.j2").render(title=title, lead=lead, banner=banner, sections=sections)
    partial = Path(f"{path}.partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)


def commands(lines: Sequence[str]) -> str:
    """The commands that made the report, as HTML for a section's text."""
    return f"<pre>{html.escape(chr(10).join(lines))}</pre>"


def _image(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _size(png: bytes) -> tuple[int, int]:
    """Width and height from the PNG header, so that the page does not jump while it loads."""
    return int.from_bytes(png[16:20]), int.from_bytes(png[20:24])


def _sound(audio: str | Path | tuple[np.ndarray, int]) -> str:
    """FLAC: half of wav, plays in all current browsers, and adds no artefact of its own to what is compared."""
    import soundfile

    wave, rate = soundfile.read(audio, dtype="float32") if isinstance(audio, str | Path) else audio
    flac = io.BytesIO()
    soundfile.write(flac, np.clip(wave, -1, 1), rate, format="FLAC", subtype="PCM_16")
    return "data:audio/flac;base64," + base64.b64encode(flac.getvalue()).decode()
