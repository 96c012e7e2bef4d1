"""Perceptual proxies of systems' waves: DistillMOS, DNSMOS, word error rate and speaker similarity, with intervals.

All systems are scored on the same utterances: one whose wave is broken in any system is left out of all, and named.
What a model said of a wave is kept by the wave's content, so that an interrupted evaluation goes on and another
system costs only its own waves.
"""

import hashlib
import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from tts_gen.config import UserError
from tts_gen.corpora import read_manifest
from tts_gen.evaluation import bootstrap, metrics, rows
from tts_gen.evaluation.proxies import PROXIES, RATE, Measurement, Missing, Model
from tts_gen.features.files import write_text
from tts_gen.progress import progress
from tts_gen.text.normalise import normalise

log = logging.getLogger(__name__)

FEATURE = "wave"
"""of the rows"""

Waves = Mapping[str, tuple[np.ndarray, int]]
"""Utterance id -> wave[n], samples a second. Reading one may raise ValueError: it is then a broken one."""


class WavFolder(Waves):
    """The audio files `*.wav` of a folder by their names, read when asked for; several channels are averaged."""

    def __init__(self, path: Path):
        """Raises UserError for a folder without wav files."""
        self._files = {file.stem: file for file in sorted(path.glob("*.wav"))}
        if not self._files:
            raise UserError(f"{path}: no such folder" if not path.is_dir() else f"{path}: holds no .wav file")

    def __getitem__(self, name: str) -> tuple[np.ndarray, int]:
        import soundfile

        try:
            wave, rate = soundfile.read(self._files[name], dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, OSError) as error:
            raise ValueError(f"cannot be read ({error})") from error
        return wave.mean(axis=1), rate

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def resampled(wave: np.ndarray, rate: int) -> np.ndarray:
    """wave[n] at `rate` -> float32 at RATE, clipped to -1..1; the level stays as it is.

    Raises ValueError for a wave that is not one: no vector, empty, not finite."""
    import soxr

    wave = np.asarray(wave, np.float32)
    if wave.ndim != 1 or not wave.size:
        raise ValueError(f"shape {wave.shape}, expected [n] with n >= 1")
    if bad := np.count_nonzero(~np.isfinite(wave)):
        raise ValueError(f"{bad} of {wave.size} samples are not finite")
    wave = np.clip(soxr.resample(wave, rate, RATE), -1, 1)
    if not wave.size:
        raise ValueError(f"too short: less than a sample at {RATE} Hz")
    return wave


class Ledger:
    """Measurements by proxy, versions and content of the wave; in memory, and as lines of JSON in a file."""

    def __init__(self, path: Path | None = None):
        """Lines that are not whole (the last one of a killed evaluation) are dropped."""
        self._path = path
        self._known: dict[str, Measurement] = {}
        self._models: dict[str, Model] = {}
        self.missing: dict[str, str] = {}
        """proxy -> why it cannot be had"""
        self.seconds: dict[str, tuple[float, float]] = {}
        """proxy -> seconds of audio that it heard here, and seconds that it took"""
        if path and path.is_file():
            text = path.read_text(encoding="utf-8", errors="replace")
            self._known = dict(filter(None, map(_entry, text.splitlines())))
            if not text.endswith("\n"):
                write_text(path, "".join(_line(*entry) for entry in self._known.items()))

    def measure(self, name: str, wave: np.ndarray) -> Measurement | None:
        """wave[n] at RATE; None where the proxy is missing."""
        if name in self.missing:
            return None
        try:
            key = f"{name} ({PROXIES[name].version()}) {hashlib.sha256(wave.tobytes()).hexdigest()}"
            if key not in self._known:
                if name not in self._models:
                    self._models[name] = PROXIES[name].load()
                self._keep(key, self._timed(name, wave))
        except Missing as error:
            self.missing[name] = str(error)
            return None
        return self._known[key]

    def _timed(self, name: str, wave: np.ndarray) -> Measurement:
        start = time.monotonic()
        value = self._models[name](wave)
        heard, took = self.seconds.get(name, (0.0, 0.0))
        self.seconds[name] = heard + len(wave) / RATE, took + time.monotonic() - start
        return value

    def _keep(self, key: str, value: Measurement) -> None:
        self._known[key] = value
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(_line(key, value))


def _line(key: str, value: Measurement) -> str:
    return json.dumps([key, value]) + "\n"


def _entry(line: str) -> tuple[str, Measurement] | None:
    try:
        key, value = json.loads(line)
    except (ValueError, TypeError):
        return None
    return (key, value) if isinstance(key, str) else None


def score(
    waves: Mapping[str, Waves], texts: Mapping[str, str], reference: str, groups: Mapping[str, str] | None = None,
    ledger: Ledger | None = None, identities: Mapping[str, dict] | None = None, n_boot: int = bootstrap.DRAWS,
    seed: int = 0,
) -> list[dict]:  # fmt: skip
    """Rows of feature "wave" for every system and proxy: the mean over utterances, of `wer` errors / words over the
    corpus, each with a 95 % interval by the bootstrap over groups; n counts the utterances.

    waves: by system. texts: what each utterance says; those without words do not count in `wer`. reference: the system
    whose waves speaker similarity compares with, utterance by utterance. groups: utterance id -> what it is resampled
    with, itself by default. identities: what the rows of a system carry, {"family": system} by default.
    A proxy that is not installed has null rows that say how to install it. Utterances that a system lacks, or whose
    wave is broken in one, are left out for all; a warning names them. Raises UserError when `reference` is no system,
    or no utterance is left."""
    if reference not in waves:
        raise UserError(f"reference {reference!r} is none of the systems: {', '.join(waves)}")
    ledger = ledger or Ledger()
    kept, terms = _measure(waves, texts, reference, ledger)
    for name, (heard, took) in ledger.seconds.items():
        log.info("%s: %.0f s of audio in %.1f s, real-time factor %.3f", name, heard, took, took / heard)
    labels, group = np.unique([(groups or {}).get(utterance, utterance) for utterance in kept], return_inverse=True)
    weights = bootstrap.draws(len(labels), n_boot, seed)
    found = []
    for (system, name), pairs in terms.items():
        identity = (identities or {}).get(system, {"family": system})
        n = np.count_nonzero(pairs[:, 1])
        if n:
            sums = bootstrap.group_sums(pairs, group, len(labels))
            of = lambda s: metrics.ratio(s[:, 0], s[:, 1])  # noqa: E731
            estimate = bootstrap.interval(of, [sums], weights, nonnegative=name == "wer")
            found.append(rows.make_row(identity, FEATURE, name, *estimate, n=n))
        else:
            why = ledger.missing.get(name, "none of the utterances has a text with English words")
            found.append(rows.make_row(identity, FEATURE, name, None, why=why))
    return found


def _measure(
    waves: Mapping[str, Waves], texts: Mapping[str, str], reference: str, ledger: Ledger
) -> tuple[list[str], dict[tuple[str, str], np.ndarray]]:
    """The utterances kept, and by (system, proxy) what each adds to numerator and denominator, [n, 2]."""
    ids, kept, broken = _common(waves), [], []
    terms: dict[tuple[str, str], list] = {(system, name): [] for system in waves for name in PROXIES}
    with progress("proxies", len(ids), "utterances", Console(stderr=True)) as advance:
        for utterance in ids:
            heard = {}
            for system in waves:
                try:
                    heard[system] = resampled(*waves[system][utterance])
                except ValueError as error:
                    broken.append(f"{system}/{utterance}: {error}")
            if len(heard) == len(waves):
                kept.append(utterance)
                for name in PROXIES:
                    said = {system: ledger.measure(name, wave) for system, wave in heard.items()}
                    for system in waves:
                        pair = _terms(name, said[system], said[reference], texts.get(utterance, ""))
                        terms[system, name].append(pair)
            advance(1)
    if broken:
        log.warning("%d broken waves; their utterances are left out for all systems:\n%s", len(broken),
                    "\n".join(broken))  # fmt: skip
    if not kept:
        raise UserError(f"no utterance of {len(ids)} is left; the first broken wave is {broken[0]}")
    return kept, {key: np.array(pairs) for key, pairs in terms.items()}


def _common(waves: Mapping[str, Waves]) -> list[str]:
    ids = sorted(set.intersection(*(set(w) for w in waves.values())))
    if others := sorted(set().union(*waves.values()) - set(ids)):
        log.warning("%d utterances are not there in every system and left out: %s", len(others), ", ".join(others))
    if not ids:
        raise UserError(f"the systems {', '.join(waves)} have no utterance in common; their wavs need equal names")
    return ids


def _terms(name: str, value: Measurement | None, reference: Measurement | None, text: str) -> tuple[float, float]:
    """Numerator and denominator that one utterance adds to a proxy's figure."""
    if value is None:
        return 0.0, 0.0
    if name == "wer":
        spoken = words(text)
        return float(word_errors(spoken, words(value))) if spoken else 0.0, float(len(spoken))
    return float(np.dot(value, reference)) if name == "speaker_similarity" else value, 1.0


def words(text: str) -> list[str]:
    """Spoken words of English text: digits, case and punctuation do not count. Characters with no English name say
    nothing."""
    try:
        found = normalise(text)
    except UserError:
        found = normalise(re.sub(r"[^ -~]", " ", text))
    return [word.rstrip(".") for word, _ in found]


def word_errors(reference: Sequence[str], hypothesis: Sequence[str]) -> int:
    """Levenshtein distance: the fewest substitutions, deletions and insertions that make one of the other."""
    errors = list(range(len(hypothesis) + 1))
    for i, word in enumerate(reference, 1):
        diagonal, errors[0] = errors[0], i
        for j, other in enumerate(hypothesis, 1):
            diagonal, errors[j] = errors[j], min(diagonal + (word != other), errors[j] + 1, errors[j - 1] + 1)
    return errors[-1]


def read_texts(path: Path) -> tuple[dict[str, str], dict[str, str]]:
    """Texts and groups by utterance id: of a manifest (.jsonl), or of lines `id|text` as LJSpeech has them (of
    several fields the last counts). Raises UserError for a file that is neither."""
    if path.suffix == ".jsonl":
        utterances, _ = read_manifest(path)
        return {u.id: u.text for u in utterances}, {u.id: u.group for u in utterances}
    try:
        lines = [line.strip().split("|") for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    if wrong := next((line[0] for line in lines if len(line) < 2), None):
        raise UserError(f"{path}: {wrong!r} is no line `id|text`; give those, or a manifest.jsonl")
    return {line[0]: line[-1] for line in lines}, {}


def table(found: Sequence[dict], reference: str) -> str:
    """Markdown: a line for each system, the reference first; below it, what is missing."""
    families = sorted(dict.fromkeys(row["family"] for row in found), key=lambda family: family != reference)
    by = {(row["family"], row["metric"]): row for row in found}

    def cell(row: dict) -> str:
        if row["value"] is None:
            return "missing" if row["why"].startswith("missing") else "–"
        interval = "" if row["low"] is None else f"\n{row['low']:.3f}–{row['high']:.3f}"
        return f"{row['value']:.3f}{interval}"

    lines = [
        [f"{family}, the reference" if family == reference else family, *(cell(by[family, name]) for name in PROXIES)]
        for family in families
    ]
    notes = dict.fromkeys(f"{row['metric']}: {row['why']}" for row in found if row["value"] is None)
    return rows.markdown(["", *PROXIES], lines) + "".join(f"{note}\n" for note in notes)
