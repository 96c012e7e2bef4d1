"""The built-in aligner and the pooled f0 against speech whose phone times and f0 are known: espeak-ng's.

    python scripts/align_truth.py [--count 480] [--f0 pyin]

- Alignment: sentences of the espeak corpus (eight voices; pace, pitch and range vary), from their text alone. A
  boundary is compared with the one at the same place of the same word, never with the nearest. Phones are compared in
  words that both, espeak (IPA) and the aligner (ARPAbet), say with the same classes of phones in the same order.
- f0, monotone: espeak-ng without pitch range speaks at (p - 9) 2^((s - 50) / 50) + 0.4746 (q - p) Hz, where `pitch p q`
  stands in the voice's file and s is the setting (voices.c and wavegen.c of espeak-ng 1.52; its table of powers is
  rounded to within 0.8 %, 14 cents).
- f0, moving: the same sentences synthesised anew by WORLD with a melody, 3.5 semitones up and down in 0.9 s.

Pooled over the true times; a phoneme's error is |1200 log2 (found / asked)| cents. A few minutes.
"""

import argparse
import contextlib
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyworld
import soundfile
import soxr

from tts_gen.align import Aligner, AlignmentError, Segment
from tts_gen.config import Audio
from tts_gen.corpora import espeak, read_manifest
from tts_gen.corpora.sentences import sentences
from tts_gen.features import durations, pitch, pooling
from tts_gen.text import FIRST, PAUSE, parse, phone_class, words

VOICES = ("en-us+m1", "en-us+f2", "en-us+m3", "en-us+f4")
SETTINGS = (30, 50, 70)
VOICELESS = tuple("ptkfθsʃh")
AUDIO = Audio()
PERIOD = 5.0  # ms, of WORLD's frames


def segments(phonemes: Sequence[str], seconds: Sequence[float]) -> list[Segment]:
    ends = np.cumsum(seconds).tolist()
    return [Segment(p, start, end) for p, start, end in zip(parse(phonemes), [0.0, *ends[:-1]], ends, strict=True)]


def by_word(spoken: Sequence[Segment]) -> list[list[Segment]]:
    found: list[list[Segment]] = []
    for s in spoken:
        if s.phoneme.edge & FIRST:
            found.append([])
        if s.phoneme.symbol != PAUSE:
            found[-1].append(s)
    return found


def classes(word: Sequence[Segment]) -> list[str]:
    return [phone_class(s.phoneme.symbol) for s in word]


def alignment(count: int, seed: int) -> Iterator[tuple[str, str, np.ndarray]]:
    """(what, accent, errors in ms) of every sentence that can be compared; errors are [1, found - true]."""
    aligner = Aligner()
    with tempfile.TemporaryDirectory() as directory:
        with contextlib.redirect_stdout(sys.stderr):
            manifest = espeak.build(Path(directory), count=count, seed=seed)
        for u in read_manifest(manifest)[0]:
            accent = "American" if u.speaker.startswith("en-us") else "British"
            wave, rate = soundfile.read(u.audio, dtype="float32")
            try:
                found = by_word(aligner.align(wave, rate, words(u.text)))
            except AlignmentError as error:
                yield f"failed: {error}", accent, np.zeros(1)
                continue
            true = by_word(segments(u.phonemes, u.durations))
            if len(found) != len(true):
                yield "sentence not compared: espeak joins or splits words", accent, np.zeros(1)
                continue
            for a, b in zip(found, true, strict=True):
                yield "word start", accent, np.array([a[0].start - b[0].start])
                yield "word end", accent, np.array([a[-1].end - b[-1].end])
                if classes(a) == classes(b):
                    yield "phone start", accent, np.array([x.start - y.start for x, y in zip(a, b, strict=True)])
                else:
                    yield "word not compared by phones: other classes", accent, np.zeros(1)


def asked_f0(voice: str, setting: int) -> float:
    """Hz."""
    import espeakng_loader

    text = (Path(espeakng_loader.get_data_path()) / "voices" / "!v" / voice.split("+")[1]).read_text()
    low, high = map(int, re.search(r"^pitch\s+(\d+)\s+(\d+)", text, re.MULTILINE).groups())
    return (low - 9) * 2 ** ((setting - 50) / 50) + 18 * 108 / 4096 * (high - low)


def pooled(wave: np.ndarray, spoken: Sequence[Segment], method: pitch.Method) -> tuple[np.ndarray, np.ndarray]:
    """log f0 [N] of wave[n] at AUDIO's rate, and the durations [N] it was pooled over."""
    contour = pitch.f0(wave, AUDIO, method)
    duration = durations.fit(spoken, len(contour), AUDIO)
    return pooling.pool_log_f0(contour, duration, np.array([s.phoneme.symbol == PAUSE for s in spoken])), duration


def melody(wave: np.ndarray, rate: int) -> tuple[np.ndarray, np.ndarray]:
    """The wave [n] with a melody, and log f0 asked for at the centres of AUDIO's frames [T], nan where unvoiced."""
    wave = np.ascontiguousarray(wave, np.float64)
    contour, times = pyworld.dio(wave, rate, frame_period=PERIOD)
    asked = np.where(
        contour > 0, np.median(contour[contour > 0]) * 2 ** (3.5 / 12 * np.sin(2 * np.pi * times / 0.9)), 0
    )
    envelope, noise = pyworld.cheaptrick(wave, contour, times, rate), pyworld.d4c(wave, contour, times, rate)
    sung = pyworld.synthesize(asked, envelope, noise, rate, PERIOD)[: len(wave)]
    centres = (np.arange(len(sung) // AUDIO.hop) + 0.5) * AUDIO.frame_seconds
    frame = np.minimum(np.rint(centres / PERIOD * 1000).astype(int), len(asked) - 1)
    return sung, np.where(asked[frame] > 0, np.log(np.maximum(asked[frame], 1.0)), np.nan)


def f0(count: int, seed: int, method: pitch.Method) -> Iterator[tuple[str, np.ndarray]]:
    """(what, values): errors in cents, and shares of phonemes whose voicing is as it should be."""
    for i, (text, _) in enumerate(sentences(count, seed)):
        voice, setting = VOICES[i % len(VOICES)], SETTINGS[i % len(SETTINGS)]
        wave, rate, phonemes, seconds = espeak.synthesize(text, voice, 160, setting, 0)
        spoken = segments(phonemes, seconds)
        wave = soxr.resample(wave, rate, AUDIO.sample_rate).astype(np.float32)
        found, _ = pooled(wave, spoken, method)
        yield "monotone, cents", cents(found, np.log(asked_f0(voice, setting)))
        voiced = ~np.isnan(found)
        kinds = np.array([phone_class(s.phoneme.symbol) for s in spoken])
        yield "vowels found voiced", voiced[kinds == "vowel"]
        yield "voiceless obstruents found unvoiced", ~voiced[[s.phoneme.symbol.startswith(VOICELESS) for s in spoken]]
        sung, asked = melody(wave, AUDIO.sample_rate)
        found, duration = pooled(sung, spoken, method)
        starts = np.cumsum(duration) - duration
        number = np.add.reduceat(~np.isnan(asked), starts)
        total = np.add.reduceat(np.nan_to_num(asked), starts)
        yield "moving, cents", cents(found, np.where(number > 0, total / np.maximum(number, 1), np.nan))


def cents(found: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Errors of voiced phonemes whose f0 is known."""
    error = 1200 / np.log(2) * abs(found - asked)
    return error[~np.isnan(error)]


def _header(*names: str) -> None:
    print(f"| {' | '.join(names)} |\n|{' --- |' * len(names)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=480, help="sentences to align; an eighth of them for f0")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--f0", choices=get_args(pitch.Method), default="dio")
    options = parser.parse_args()

    _header("boundary", "accent", "n", "median ms", "95th percentile ms", "mean (bias) ms")
    collected: dict[tuple[str, str], list[np.ndarray]] = {}
    for what, accent, errors in alignment(options.count, options.seed):
        collected.setdefault((what, accent), []).append(1000 * errors)
    for (what, accent), parts in sorted(collected.items()):
        errors = np.concatenate(parts)
        figures = [f"{x:.1f}" for x in (np.median(abs(errors)), np.percentile(abs(errors), 95), errors.mean())]
        shown = figures if what.endswith(("start", "end")) else ["", "", ""]
        print(f"| {what} | {accent} | {len(errors)} | {' | '.join(shown)} |")

    print()
    _header("pooled f0", "n", "median", "95th percentile", "mean")
    values: dict[str, list[np.ndarray]] = {}
    for what, value in f0(options.count // 8, options.seed, options.f0):
        values.setdefault(what, []).append(value)
    for what, parts in values.items():
        value = np.concatenate(parts)
        shown = [f"{np.median(value):.1f}", f"{np.percentile(value, 95):.1f}"] if "cents" in what else ["", ""]
        print(f"| {what} | {len(value)} | {' | '.join(shown)} | {value.mean():.3g} |")


if __name__ == "__main__":
    main()
