"""Folders of wav files -> a listening test: DIR/page to hand out, DIR/key.json to keep."""

import hashlib
import json
import logging
import shutil
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from tts_gen.config import UserError
from tts_gen.evaluation.listening import stimuli, webmushra
from tts_gen.evaluation.listening.design import KINDS, MAX_SIGNALS, TRAINING_TRIALS, Trial, make_trials
from tts_gen.evaluation.listening.page import write_page
from tts_gen.features.files import read_json, write_json
from tts_gen.features.loudness import gain
from tts_gen.vocoders import write_wav

log = logging.getLogger(__name__)

UTTERANCES = 10
"""of a test, unless said otherwise"""
MAX_SECONDS = 12.0
"""of a stimulus; longer ones are against BS.1534-3, 5.3"""


def make(
    systems: dict[str, Path], out: Path, kind: str = "mushra", reference: str | None = None,
    utterances: int | None = None, seed: int = 0, question: str | None = None,
) -> dict:  # fmt: skip
    """Writes a test of `systems`, name -> folder of wav files of equal names, into `out` and returns its key.

    out/page/index.html and out/page/wavs hold no system's name; out/key.json says which stimulus is which;
    out/webmushra is the same test for webMUSHRA. All are a function of the waves, the options and the seed. `reference`
    is one of the systems; MUSHRA needs it. `utterances` are drawn from the names that all systems have, and one more
    for training where there is one. Raises UserError.
    """
    systems = {name: Path(folder) for name, folder in systems.items()}
    _check(systems, kind, reference)
    chosen, training = _choose(systems, utterances, seed)
    rate = _rate(systems[reference or next(iter(systems))] / chosen[0])
    cutoffs = stimuli.anchors(rate) if kind == "mushra" else {}
    read = partial(_signals, systems=systems, reference=reference, cutoffs=cutoffs, rate=rate)
    digest, lengths = hashlib.sha256(), {}

    def waves():
        for utterance in dict.fromkeys([*chosen, training]):
            for name, wave in read(utterance).items():
                digest.update(f"{utterance}\n{name}\n".encode() + wave.tobytes())
                lengths[utterance] = len(wave)
                yield f"{name}, {utterance}", wave

    target, own = stimuli.common_loudness(waves(), rate)
    too_long = [u for u in chosen if lengths[u] > MAX_SECONDS * rate]
    if too_long:
        log.warning("%d utterances are longer than the %.0f s of BS.1534-3: %s", len(too_long), MAX_SECONDS, too_long)
    names, rng = [*systems, *cutoffs], np.random.default_rng(seed)
    trials = make_trials(kind, chosen, names, reference, rng)
    trials = [trials[i] for i in rng.permutation(len(trials))]
    practice = make_trials(kind, [training], names, reference, rng)[:TRAINING_TRIALS]
    key = {
        "kind": kind, "question": question or KINDS[kind], "seed": seed, "rate": rate, "loudness": round(target, 2),
        "reference": reference, "systems": list(systems), "anchors": cutoffs,
        "trials": [asdict(t) for t in trials], "training": [asdict(t) for t in practice],
    }  # fmt: skip
    digest.update(json.dumps(key).encode())
    key = {"test": "t" + digest.hexdigest()[:12]} | key
    _clear(out, key)
    for utterance in dict.fromkeys([*chosen, training]):
        of_utterance = [t for t in [*trials, *practice] if t.utterance == utterance]
        matched = {name: wave * gain(own[f"{name}, {utterance}"], target) for name, wave in read(utterance).items()}
        _write(out / "page" / "wavs", of_utterance, matched, reference, rate)
    write_page(out / "page", key, trials, practice, rng)
    webmushra.export(out / "webmushra", out / "page" / "wavs", key, strict=not too_long)
    write_json(out / "key.json", key)
    return key


def _check(systems: dict[str, Path], kind: str, reference: str | None) -> None:
    if kind not in KINDS:
        raise UserError(f"kind is {kind!r}; give {', '.join(KINDS)}")
    if reserved := systems.keys() & stimuli.ANCHORS.keys():
        raise UserError(f"a system may not be called {', '.join(reserved)}: that is the anchor's name")
    if kind == "mushra" and reference is None:
        raise UserError(f"a MUSHRA test needs --reference NAME, one of {', '.join(systems)}")
    if reference is not None and reference not in systems:
        raise UserError(f"--reference {reference}: no such system; there are {', '.join(systems)}")
    if len(systems) < 2 - (kind == "mos"):
        raise UserError(f"{len(systems)} systems are too few to compare; give at least 2")
    if kind == "mushra" and len(systems) + len(stimuli.ANCHORS) > MAX_SIGNALS:
        raise UserError(
            f"{len(systems)} systems and {len(stimuli.ANCHORS)} anchors on one page are more than the {MAX_SIGNALS} "
            "signals that BS.1534-3 allows; leave some out, or make several tests with the same reference"
        )
    for name, folder in systems.items():
        if not folder.is_dir():
            raise UserError(f"system {name}: {folder} is no folder; give NAME=FOLDER of wav files")


def _choose(systems: dict[str, Path], count: int | None, seed: int) -> tuple[list[str], str]:
    """File names of the test's utterances and of the training's, which is none of them if there are enough."""
    files = {name: {p.name for p in folder.glob("*.wav")} for name, folder in systems.items()}
    common = set.intersection(*files.values())
    if not common:
        counts = ", ".join(f"{name} {len(found)}" for name, found in files.items())
        raise UserError(f"no wav file name is in all folders (wav files: {counts}); name equal utterances equally")
    for name, found in files.items():
        if lost := set.union(*files.values()) - found:
            log.warning("system %s lacks %d of the utterances, left out: %s", name, len(lost), ", ".join(sorted(lost)))
    if count is not None and count > len(common):
        raise UserError(f"--utterances {count}: only {len(common)} are in all folders")
    drawn = np.random.default_rng(seed).permutation(sorted(common)).tolist()
    count = count or min(UTTERANCES, max(1, len(drawn) - 1))
    if count == len(drawn):
        log.warning("all %d utterances are in the test, so training uses one of them: %s", count, drawn[0])
    return sorted(drawn[:count]), drawn[count % len(drawn)]


def _rate(path: Path) -> int:
    import soundfile

    try:
        return soundfile.info(path).samplerate
    except soundfile.SoundFileError as error:
        raise UserError(f"{path}: {error}; replace it") from error


def _signals(utterance: str, systems: dict[str, Path], reference: str | None, cutoffs: dict, rate: int) -> dict:
    """Signal's name -> wave [n], of one utterance, all of one length, anchors included."""
    waves = {name: stimuli.read_wave(folder / utterance, rate) for name, folder in systems.items()}
    if empty := [name for name, wave in waves.items() if not len(wave)]:
        raise UserError(f"{systems[empty[0]] / utterance}: holds no samples; replace it")
    waves = stimuli.equal_lengths(waves)
    return waves | {name: stimuli.low_pass(waves[reference], rate, cutoff) for name, cutoff in cutoffs.items()}


def _clear(out: Path, key: dict) -> None:
    """Removes an older test; results of another test are not orphaned."""
    found = list((out / "results").glob("*.json"))
    old = out / "key.json"
    if found and not (old.is_file() and read_json(old).get("test") == key["test"]):
        raise UserError(f"{out}: its {len(found)} results of another test would lose their key; use another --out")
    old.unlink(missing_ok=True)
    for part in ("page", "webmushra"):
        shutil.rmtree(out / part, ignore_errors=True)
    (out / "page" / "wavs").mkdir(parents=True)


def _write(folder: Path, trials: list[Trial], waves: dict[str, np.ndarray], reference: str | None, rate: int) -> None:
    for trial in trials:
        named = trial.stimuli | ({trial.reference: reference} if trial.reference else {})
        for stimulus in sorted(named):
            write_wav(folder / f"{stimulus}.wav", waves[named[stimulus]], rate)
