"""A small corpus of synthetic speech with exact times, and what tests do with it."""

from pathlib import Path

from tts_gen.corpora import Utterance, espeak, read_manifest, write_manifest
from tts_gen.features.prepare import prepare
from tts_gen.features.store import FeatureStore


def make_corpus(folder: Path) -> list[Utterance]:
    return read_manifest(espeak.build(folder, count=12))[0]


def run(directory: Path, utterances: list[Utterance], **settings):
    """Report and store of a manifest of `utterances`, in this process."""
    write_manifest(directory / "manifest.jsonl", utterances)
    report = prepare(directory / "manifest.jsonl", directory / "features", workers=1, **settings)
    return report, FeatureStore(directory / "features")


def contents(store: FeatureStore) -> dict:
    features = store.read(range(len(store.index)))
    arrays = [(f.mel.tobytes(), f.log_f0.tobytes(), f.duration.tobytes()) for f in features]
    return dict(zip((e.id for e in store.index), arrays, strict=True))


def files(directory: Path) -> dict:
    return {path.relative_to(directory): path.read_bytes() for path in directory.rglob("*") if path.is_file()}
