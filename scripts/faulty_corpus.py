"""What `tts-gen prepare` does with everything that can be wrong with a corpus.

    python scripts/faulty_corpus.py data/asterisk/manifest.jsonl runs/faulty [--good 60]

Makes a corpus of one utterance for each fault (scripts/faults.py), mixed with good ones of the manifest; prepares it,
and the good ones alone. Prints prepare's table and one of fault and outcome. Exits 1 unless every outcome is the
expected one, the good utterances' features, statistics and inventory are bit for bit those without the faulty ones, a
second run has nothing to do, and nothing was written outside the stores. Half a minute on 2 cores.
"""

import argparse
import contextlib
import io
import json
from pathlib import Path

import numpy as np
import soundfile
from faults import FAULTS, KEPT, STRANGE, Base, line
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tts_gen.align import Aligner
from tts_gen.corpora import Utterance, read_manifest, write_manifest
from tts_gen.features.prepare import prepare
from tts_gen.features.sound import MAX_SECONDS
from tts_gen.features.store import FeatureStore
from tts_gen.features.work import printable
from tts_gen.text import words

MIN_WORDS = 4
"""of a good utterance: single words are often dropped for good reasons"""


def base_of(utterance: Utterance, folder: Path) -> Base:
    wave, rate = soundfile.read(utterance.audio, dtype="float32")
    return Base(folder, utterance, wave, rate, tuple(Aligner().align(wave, rate, words(utterance.text))))


def write_mixed(folder: Path, good: list[Utterance], base: Base) -> Path:
    """A manifest with a faulty utterance after each good one (and the rest at the end); returns its path.

    What is right but unusual goes into the test split, so that the statistics must not change.
    """
    write_manifest(folder / "good.jsonl", good)
    lines = [text.encode() for text in (folder / "good.jsonl").read_text(encoding="utf-8").splitlines()]
    for i, (name, (outcome, make)) in enumerate(FAULTS.items()):
        made = make(base)
        if isinstance(made, dict):
            made = line(base, {"id": fault_id(name), "split": "test" if outcome == KEPT else "train"} | made)
        lines.insert(2 * i + 1, made)
    path = folder / "mixed.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def fault_id(name: str) -> str:
    return "fault-" + "".join(c if c.isalnum() else "-" for c in name)


def outcome(written: bytes, number: int, drops: dict[str, dict], kept: set[str]) -> tuple[str, str]:
    """Reason (or KEPT) and detail for a line of the manifest."""
    try:
        name = json.loads(written.decode("utf-8-sig")).get("id")
    except (ValueError, AttributeError, RecursionError):
        name = None
    drop = drops.get(name) or drops.get(f"line {number}")
    return (drop["reason"], drop["detail"]) if drop else (KEPT, "") if name in kept else ("lost without a word", "")


def contents(store: FeatureStore, ids: set[str]) -> dict[str, list[bytes]]:
    """id -> every array's bytes, phonemes by name."""
    found = {}
    for position, entry in enumerate(store.index):
        if entry.id in ids:
            (features,) = store.read([position])
            values = vars(features) | {"phoneme": np.array([store.inventory.phonemes[i] for i in features.phoneme])}
            found[entry.id] = [np.asarray(v).tobytes() for v in values.values()]
    return found


def files(folder: Path, stores: list[Path]) -> dict[Path, int]:
    """Every file in `folder`, but for the stores' own, with the time of its last change."""
    paths = [p for p in folder.rglob("*") if p.is_file() and not any(p.is_relative_to(s) for s in stores)]
    return {p: p.stat().st_mtime_ns for p in paths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("manifest", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--good", type=int, default=60)
    options = parser.parse_args()
    out = options.out.absolute()
    folder = out / "corpus"  # "../../outside" of a store would still be in `out`
    (folder / "faults").mkdir(parents=True)
    spoken = [u for u in read_manifest(options.manifest)[0] if len(u.text.split()) >= MIN_WORDS]
    sentences = [u for u in spoken if soundfile.info(u.audio).duration < MAX_SECONDS]
    good = sentences[:: len(sentences) // options.good][: options.good]
    mixed = write_mixed(folder, good, base_of(good[0], folder / "faults"))
    written = mixed.read_bytes().splitlines()
    alone, together = folder / "features_good", folder / "features_mixed"
    before = files(out, [alone, together])
    checks = {"all good ones are kept": prepare(folder / "good.jsonl", alone).kept == len(good)}
    prepare(mixed, together)
    with contextlib.redirect_stdout(io.StringIO()):
        checks["a second run has nothing to do"] = prepare(mixed, together).processed == 0

    drops = {row["id"]: row for row in map(json.loads, (together / "drops.jsonl").read_text("utf-8").splitlines())}
    reference, store = FeatureStore(alone), FeatureStore(together)
    kept = {entry.id for entry in store.index}
    table = Table("fault", "outcome", "detail")
    for i, (name, (expected, _)) in enumerate(FAULTS.items()):
        number = 2 * i + 2 if i < len(good) else len(good) + i + 1
        found, detail = outcome(written[number - 1], number, drops, kept)
        right = expected in (found, found.split(":")[0])
        table.add_row(name, Text(found if right else f"{found}; expected: {expected}"), Text(printable(detail)[:120]))
        checks["every outcome is the expected one"] = checks.get("every outcome is the expected one", True) and right
    Console().print(table)
    ids = {u.id for u in good}
    checks["their features are bit for bit the same"] = contents(store, ids) == contents(reference, ids)
    checks["so are the statistics"] = (alone / "stats.json").read_bytes() == (together / "stats.json").read_bytes()
    own, all_of_them = (dict(zip(s.inventory.phonemes, s.inventory.voiced, strict=True)) for s in (reference, store))
    checks[f"so is the inventory, but for {STRANGE}"] = own | {STRANGE: False} == all_of_them
    listed = (together / "alignment.csv").read_text("utf-8")
    checks[f"{STRANGE} is listed in alignment.csv"] = f"not in the training split: {STRANGE}" in listed
    checks["nothing is written outside"] = files(out, [alone, together]) == before
    print(f"{len(FAULTS)} faults among {len(good)} good utterances")
    for name, good_so in checks.items():
        print(f"{'yes' if good_so else 'NO '} {name}")
    raise SystemExit(0 if all(checks.values()) else 1)


if __name__ == "__main__":
    main()
