"""What a run keeps on a corpus that it was not trained on: figures there, and in its own corpus beside them.

Phonemes are matched by name; utterances with a phoneme that the runs do not know are left out. The speakers there are
strangers: the runs answer as the speaker asked for, and f0 is compared in units of each speaker's own spread, so that
another voice is no error. A difference holds both that speaker and the corpus: the line between says what the speaker
alone changes. Best of K, energy score, L1 and MCD also grow with how varied the other corpus is; ratios, JS and the
two-sample test are free of that.
"""

import argparse
import math
import zlib
from dataclasses import dataclass, replace

import numpy as np

from tts_gen.config import UserError
from tts_gen.evaluation.compare import generated_mels, generated_prosody, groups_of
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.generate import oracle_prosody
from tts_gen.evaluation.headline import figure
from tts_gen.evaluation.joint_prosody import two_sample_row
from tts_gen.evaluation.mel import mel_rows
from tts_gen.evaluation.prosody import prosody_rows
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.rows import GUIDANCE, IDENTITY, make_row
from tts_gen.evaluation.split import Lazy, Split
from tts_gen.evaluation.studies.outputs import Study
from tts_gen.features.store import Features, FeatureStore
from tts_gen.runs import Run

COLUMNS = {
    "prosody": {"log-f0 std ratio": ("log_f0", "std_ratio"), "JS": ("log_f0", "js"),
                "energy score": ("log_f0", "energy_score"), "duration std ratio": ("duration", "std_ratio"),
                "JS of duration": ("duration", "js"), "energy score of duration": ("duration", "energy_score"),
                "two-sample": ("log_f0+duration", "two_sample_accuracy")},
    "acoustic": {"std ratio": ("mel", "std_ratio"), "Δ time": ("mel", "d_time_std_ratio"),
                 "Δ frequency": ("mel", "d_frequency_std_ratio"), "JS": ("mel", "js"), "L1": ("mel", "mel_l1"),
                 "MCD": ("mel", "mcd")},
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Heard(Split):
    """A split of any corpus as a run takes it: phonemes by its ids, log-f0 in its units, all of one speaker of its
    own."""

    run: Run
    speaker: str

    @property
    def content(self) -> int:
        return zlib.crc32(f"{super().content} as {self.speaker}".encode())

    def read_by(self, run: Run) -> "Heard":
        return self

    @property
    def utterances(self) -> Lazy:
        ids = {symbol: i for i, symbol in enumerate(self.run.inventory.phonemes)}
        id_of = np.array([ids.get(symbol, -1) for symbol in self.store.inventory.phonemes], np.int16)
        speaker, vectors = self.run.inventory.speaker_id(self.speaker), self.run.speaker_embeddings
        vector = None if vectors is None else vectors[speaker]
        given = super().utterances

        def heard(i: int) -> Features:
            u = given[i]
            normal = self.store.stats.normalise_log_f0(u.log_f0, np.asarray(u.speaker))
            log_f0 = self.run.stats.denormalise_log_f0(normal, np.asarray(speaker)).astype(np.float32)
            energy = None
            if self.run.config.energy:
                normal = self.store.stats.normalise_energy(u.energy)
                energy = self.run.stats.denormalise_energy(normal).astype(np.float32)
            return replace(
                u, phoneme=id_of[u.phoneme], log_f0=log_f0, energy=energy, speaker=speaker, style=0,
                speaker_embedding=vector,
            )  # fmt: skip

        return Lazy(len(given), heard)


def study(c: Comparison, options: argparse.Namespace) -> Study:
    """Raises UserError without --features, for joint runs, another mel definition, a speaker that the runs do not have,
    and where no utterance is left."""
    runs = [run for run in c.runs if isinstance(run, Run)]
    if not options.features:
        raise UserError("transfer needs the features of another corpus: --features DIR")
    if not runs:
        raise UserError("give prosody or acoustic runs: joint runs have no corpus of their own here")
    runs[0].inventory.speaker_id(options.speaker)
    there = replace(c, out=c.out / "elsewhere", store=FeatureStore(options.features))
    home, abroad = c.store.root, there.store.root
    if home.name == abroad.name and home != abroad:
        raise UserError(f"{home} and {abroad} have one name, by which rows and tables tell corpora apart; rename one")
    if there.store.stats.energy_mean is None and any(run.config.energy for run in runs):
        raise UserError(f"{there.store.root}: has no statistics of energy, which some of the runs have; give the same "
                        "tts-gen prepare command again, which adds them")  # fmt: skip
    there.store.audio.check_equal(runs[0].audio, str(there.store.root), str(runs[0].path))
    split, told = known_part(Split.read(there.store, c.split), runs[0])
    own = Split.read(c.store, c.split)
    if options.speaker not in (e.speaker for e in Split.read(c.store, "train").entries):
        told.append(f"No training utterance is of the speaker {options.speaker}: what the runs do for it was not "
                    f"learnt. --speaker may be one of {', '.join(runs[0].inventory.speakers)}.")  # fmt: skip
    home, abroad = home.name, abroad.name
    found, tables, answer = [], [], told
    for task, columns in COLUMNS.items():
        cells = []
        for run in c.of_task(task):
            heard = lambda of, run=run: Heard(of.name, of.store, of.positions, run, options.speaker)  # noqa: E731
            at_home = _rows(c, run, own, own, options.temperature)
            asked = _rows(replace(c, out=c.out / "asked"), run, own, heard(own), options.temperature)
            elsewhere = _rows(there, run, split, heard(split), options.temperature)
            gap = {key: _difference(elsewhere[key], at_home[key], home) for key in columns.values()}
            found += [*at_home.values(), *(r | {"scope": f"as:{options.speaker}"} for r in asked.values())]
            found += [*elsewhere.values(), *gap.values()]
            lines = {f"own: {home}": at_home, f"own, as {options.speaker}": asked, f"other: {abroad}": elsewhere}
            for name, of in lines.items():
                cells.append([run.path.name, name, *(figure(of[key]) for key in columns.values())])
            cells.append([run.path.name, "other - own", *(_signed(gap[key]) for key in columns.values())])
            answer += _sentence(run, list(gap.values()), abroad)
        if cells:
            tables.append((task.capitalize(), ["run", "corpus", *columns], cells))
    text = " ".join(__doc__.split("\n\n")[1].split())
    return Study(f"From {home} to {abroad}", answer, found, [Section("Abroad and at home", text, tables=tables)])


def known_part(split: Split, run: Run) -> tuple[Split, list[str]]:
    """The utterances whose phonemes the run all knows, and a sentence on those that are left out. Raises UserError
    where none is left."""
    symbols = split.store.inventory.phonemes
    strange = np.array([symbol not in run.inventory.phonemes for symbol in symbols])
    counts, kept, n = np.zeros(len(symbols), int), [], 0
    for i, u in enumerate(split.utterances):
        counts += np.bincount(u.phoneme, minlength=len(symbols))
        n += len(u.phoneme)
        if not strange[u.phoneme].any():
            kept.append(i)
    named = ", ".join(f"{symbols[i]} ({counts[i]})" for i in np.flatnonzero(strange & (counts > 0)))
    if not kept:
        raise UserError(
            f"{split.store.root}: every {split.name} utterance has a phoneme that {run.path} does not know: {named}"
        )
    if not named:
        return split, [f"All phonemes of the {len(kept)} {split.name} utterances are known."]
    left_out = len(split.positions) - len(kept)
    sentence = (
        f"Phonemes that the runs do not know: {named}, {counts[strange].sum()} of {n}; {left_out} of "
        f"{len(split.positions)} utterances have one and are left out."
    )
    return split.only(kept), [sentence]


def _rows(c: Comparison, run: Run, split: Split, heard: Split, temperature: float) -> dict[tuple[str, str], dict]:
    """Overall rows by feature and metric of samples for `heard`, against the recordings of `split`."""
    tau = temperature if run.config.decoder.generative else None
    identity = c.identity(run, run.config.task, split.name, tau, c.count(run, tau))
    if run.config.task == "prosody":
        oracle = oracle_prosody(split, c.store)
        generated = generated_prosody(c, run, heard, oracle, tau)
        rows = prosody_rows(generated, oracle, identity, seed=c.seed)
        rows.append(two_sample_row(generated, oracle, identity, seed=c.seed))
    else:
        rows = mel_rows(generated_mels(c, run, heard, tau), split.mels, groups_of(c, split), identity, seed=c.seed)
    return {(r["feature"], r["metric"]): r for r in rows if r["scope"] == "overall"}


def difference(a: dict, b: dict) -> dict[str, float | None]:
    """value, low and high of a - b, of independent figures that have these; the interval is what theirs imply (MOVER:
    Zou and Donner, Statistics in Medicine 27, 2008). None where one of them lacks a value or an interval."""
    if any(row[name] is None for row in (a, b) for name in ("value", "low", "high")):
        return {"value": None}
    value = a["value"] - b["value"]
    below = math.hypot(a["value"] - a["low"], b["high"] - b["value"])
    above = math.hypot(a["high"] - a["value"], b["value"] - b["low"])
    return {"value": value, "low": value - below, "high": value + above}


def _difference(there: dict, own: dict, corpus: str) -> dict:
    """A row, its scope "minus:CORPUS"."""
    identity = {name: there[name] for name in (*IDENTITY, GUIDANCE) if name in there}
    why = "one of the two has no value, or no interval"
    return make_row(identity, there["feature"], there["metric"], **difference(there, own), n=there["n"],
                    scope=f"minus:{corpus}", why=why)  # fmt: skip


def _signed(row: dict) -> str:
    return figure(row) if row["value"] is None or row["value"] < 0 else f"+{figure(row)}"


def _sentence(run: Run, gap: list[dict], corpus: str) -> list[str]:
    sure = [r for r in gap if r["value"] is not None and not r["low"] <= 0 <= r["high"]]
    changed = ", ".join(f"{r['metric']} of {r['feature']} by {r['value']:+.3f}" for r in sure)
    if not sure:
        return [f"{run.path.name} on {corpus}: no figure changes by more than chance."]
    return [f"{run.path.name} on {corpus}: by more than chance changes {changed}."]
