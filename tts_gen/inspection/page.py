"""The page of `tts-gen inspect`: one HTML file with plots and playable examples, and a summary for the terminal."""

import html
import logging
from collections import Counter
from pathlib import Path

import numpy as np
from rich.console import Console

from tts_gen import vocoders
from tts_gen.evaluation import plots
from tts_gen.evaluation.report import Section, write_report
from tts_gen.features.files import read_json_lines
from tts_gen.features.sound import Unusable, load
from tts_gen.features.store import FeatureStore
from tts_gen.inspection.measures import F0_EDGES, SEMITONES, Measures, measure
from tts_gen.inspection.suspects import LIMIT, Suspect, suspects, typical

LISTED, HEARD, TYPICAL, PRINTED = 200, 6, 3, 10
"""suspects in the table, of them with sound and mel; typical utterances with sound and mel; suspects on the terminal"""
SPEAKERS = 8
"""with a line of their own in the histogram of f0, those with most speech"""
RARE = 20
"""occurrences; a phoneme with fewer is hardly learnt, and often a misspelt one"""
BINS = 40

log = logging.getLogger(__name__)

_SUSPECTS = f"""
A figure stands more than {LIMIT:g} robust standard deviations from the median of its speaker (of all, where a speaker
has few utterances). That is a reason to listen, not a verdict: shouting is loud, and a list has pauses. What is wrong
is taken out of the manifest, and <code>tts-gen prepare</code> run again.
"""


def inspect(directory: str | Path, page: str | Path | None = None) -> Path:
    """Writes `page` (DIR/inspect.html where none is given) about the store in `directory`, prints its summary.

    Raises UserError when `directory` is not a finished store.
    """
    store, console = FeatureStore(directory), Console()
    found = measure(store, console)
    ranked = suspects(store, found)
    title, lead = f"Corpus {store.root.resolve().name}", _lead(store, ranked)
    sections = [
        _overview(store),
        _speakers(store, found),
        Section("Distributions", images=[("Each on its own scale", plots.distributions(_panels(store, found)))]),
        _phonemes(store, found),
        _suspects(store, ranked),
        _typical(store, found),
    ]
    page = Path(page or store.root / "inspect.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    write_report(page, title, f"<p>{html.escape(lead)}</p>", None, sections)
    console.print(lead, highlight=False, soft_wrap=True)
    for s in ranked[:PRINTED]:
        console.print(f"  {store.index[s.position].id}: {s.reason}", highlight=False, markup=False, soft_wrap=True)
    return page


def _minutes(store: FeatureStore, n_frames: int) -> float:
    return n_frames * store.audio.frame_seconds / 60


def _lead(store: FeatureStore, ranked: list[Suspect]) -> str:
    hours = sum(minutes for _, _, minutes in _totals(store, "split")) / 60
    inventory = store.inventory
    return (
        f"{len(store.index)} utterances, {hours:.2f} h, speakers named: {len(inventory.speakers) - 1}, styles: "
        f"{len(inventory.styles) - 1}, phonemes: {len(inventory.phonemes)}; suspicious utterances: {len(ranked)}"
    )


def _totals(store: FeatureStore, kind: str) -> list[tuple[str, int, float]]:
    """(value, utterances, minutes) for the values of a field of Entry, the most first."""
    counts, frames = Counter(), Counter()
    for entry in store.index:
        counts[getattr(entry, kind)] += 1
        frames[getattr(entry, kind)] += entry.n_frames
    return [(name, counts[name], _minutes(store, n)) for name, n in frames.most_common()]


def _overview(store: FeatureStore) -> Section:
    """Splits, styles, and what prepare left out."""
    tables = []
    for title, kind in (("Splits", "split"), ("Styles", "style")):
        rows = [[name, str(n), f"{minutes:.1f}"] for name, n, minutes in _totals(store, kind)]
        tables.append((title, [kind, "utterances", "minutes"], rows))
    path = store.root / "drops.jsonl"
    reasons = Counter(drop["reason"] for drop in read_json_lines(path)) if path.is_file() else Counter()
    if reasons:
        rows = [[reason, str(n)] for reason, n in reasons.most_common()]
        tables.append(("Left out by prepare (drops.jsonl)", ["reason", "utterances"], rows))
    return Section("What is there", tables=tables)


def _speakers(store: FeatureStore, found: Measures) -> Section:
    rows = []
    for name, n, minutes in _totals(store, "speaker"):
        i = store.inventory.speaker_id(name)
        f0, spread = np.exp(store.stats.log_f0_mean[i]), store.stats.log_f0_std[i] * SEMITONES
        rows.append([name, str(n), f"{minutes:.1f}", f"{f0:.0f}", f"{spread:.1f}", str(found.f0[i].sum())])
    header = ["speaker", "utterances", "minutes", "mean f0, Hz", "spread, semitones", "voiced phonemes"]
    return Section("Speakers", tables=[("", header, rows)], collapsed=len(rows) > 2 * SPEAKERS)


def _panels(store: FeatureStore, found: Measures) -> dict:
    """What `plots.distributions` draws."""
    milliseconds = 1000 * store.audio.frame_seconds
    frames = np.arange(found.durations.shape[1] + 1) - 0.5
    phones, pauses = found.durations[1:].sum(axis=0), found.durations[0]
    shown = slice(1, np.searchsorted(np.cumsum(phones), 0.995 * phones.sum()) + 2)
    edges = frames[shown.start : shown.stop + 1] * milliseconds
    spoken = np.argsort(-found.f0.sum(axis=1), kind="stable")[:SPEAKERS]
    f0 = {store.inventory.speakers[i]: (F0_EDGES, found.f0[i]) for i in spoken if found.f0[i].any()}
    seconds = np.array([entry.n_frames for entry in store.index]) * store.audio.frame_seconds
    panels = {
        "utterances, seconds": {"all": _histogram(seconds)},
        "durations, ms": {"phonemes": (edges, phones[shown]), "pauses": (edges, pauses[shown])},
        "f0 of phonemes, Hz": f0,
    }
    units = {
        "seconds_per_phone": "mean length of phones, s",
        "score": "acoustic score of alignments",
        "level": "level, dB",
    }
    known = {name: found.figures[name] for name in units if name in found.figures}
    return panels | {units[name]: {"all": _histogram(values[np.isfinite(values)])} for name, values in known.items()}


def _histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts, edges = np.histogram(values, BINS, np.percentile(values, (0.5, 99.5)) if len(values) else None)
    return edges, counts


def _phonemes(store: FeatureStore, found: Measures) -> Section:
    counts = found.durations.sum(axis=1)
    rows = []
    for i in np.argsort(-counts, kind="stable"):
        middle = np.searchsorted(np.cumsum(found.durations[i]), counts[i] / 2) * store.audio.frame_seconds * 1000
        share = f"{found.voiced[i] / max(counts[i], 1):.2f}"
        note = "rare" if counts[i] < RARE else ""
        rows.append([store.inventory.phonemes[i], str(counts[i]), f"{middle:.0f}", share, note])
    header = ["phoneme", "times", "median, ms", "share voiced", ""]
    rare = [row[0] for row in rows if row[-1]]
    text = f"Fewer than {RARE} times: {html.escape(', '.join(rare))}." if rare else ""
    return Section("Phonemes", text, tables=[("", header, rows)], collapsed=True)


def _suspects(store: FeatureStore, ranked: list[Suspect]) -> Section:
    rows = []
    for s in ranked[:LISTED]:
        entry = store.index[s.position]
        rows.append([entry.id, f"{_minutes(store, entry.n_frames) * 60:.1f}", entry.speaker, s.reason, entry.text[:80]])
    header = ["utterance", "seconds", "speaker", "why", "text"]
    title = f"The worst {LISTED} of {len(ranked)}" if len(ranked) > LISTED else ""
    readable = [s for s in ranked if np.isfinite(s.weight)][:HEARD]
    captions = {s.position: s.reason for s in readable}
    images, audio = _examples(store, captions)
    return Section("Suspicious utterances", _SUSPECTS, images, [(title, header, rows)] if rows else [], audio)


def _typical(store: FeatureStore, found: Measures) -> Section:
    images, audio = _examples(store, dict.fromkeys(typical(found, TYPICAL), ""))
    return Section("Typical utterances", "Near the median in every figure.", images=images, audio=audio)


def _examples(store: FeatureStore, captions: dict[int, str]) -> tuple[list, list]:
    """Mels and sounds of utterances, by position in the index."""
    images, audio = [], []
    for position, why in captions.items():
        entry, (features,) = store.index[position], store.read([position])
        caption = f"{entry.id}: {why or entry.text}"
        images.append((caption, plots.mels({entry.text: features.mel}, store.audio.frame_seconds)))
        try:
            recording = load(Path(entry.audio))
            audio.append((caption, "recording", (recording.wave, recording.rate)))
        except Unusable as error:
            log.warning("%s: %s (%s); Griffin-Lim speaks its mel instead", entry.audio, error.reason, error.detail)
            wave = vocoders.load("griffin_lim", store.audio)(features.mel)
            audio.append((caption, "its mel, by Griffin-Lim", (wave, store.audio.sample_rate)))
    return images, audio
