"""The gap between training and use: mels from the recordings' prosody against mels from generated prosody, for every
pair of a prosody run and an acoustic run.

Generated prosody has durations of its own, so frames do not stand for the recording's: what is compared is spread,
smoothness and distribution. Everywhere, also with the recordings' prosody, a phoneme is voiced as its phone mostly is,
as in synthesis: what differs within a row of the table is the prosody alone.
"""

import argparse
import logging
from dataclasses import replace

import jax
import numpy as np

from tts_gen.config import UserError
from tts_gen.evaluation import plots
from tts_gen.evaluation.compare import groups_of
from tts_gen.evaluation.comparison import Comparison
from tts_gen.evaluation.generate import identity_of
from tts_gen.evaluation.headline import figure
from tts_gen.evaluation.mel import mel_rows
from tts_gen.evaluation.report import Section
from tts_gen.evaluation.split import Split
from tts_gen.evaluation.stored import cached
from tts_gen.evaluation.studies.outputs import Study
from tts_gen.features.store import Features
from tts_gen.runs import Run
from tts_gen.synthesis import add_prosody, check_runs, mels_of

log = logging.getLogger(__name__)
COLUMNS = {"std ratio": "std_ratio", "Δ time": "d_time_std_ratio", "Δ frequency": "d_frequency_std_ratio", "JS": "js"}


def study(c: Comparison, options: argparse.Namespace) -> Study:
    """Raises UserError without at least one run of each task."""
    prosody, acoustic = c.of_task("prosody"), c.of_task("acoustic")
    if not prosody or not acoustic:
        raise UserError("give at least one prosody run and one acoustic run of the same corpus")
    for pair in ((p, a) for p in prosody for a in acoustic):
        check_runs(dict(zip(("prosody", "acoustic"), pair, strict=True)))
    split = Split.read(c.store, c.split)
    groups, found, at = groups_of(c, split), [], {}
    for run in acoustic:
        tau = options.temperature if run.config.decoder.generative else None
        for source in (None, *prosody):
            mels = _mels(c, source, run, split, options.temperature)
            name = source.path.name if source else "recordings"
            identity = c.identity(run, "acoustic", c.split, tau, 1)
            rows = mel_rows(mels, split.mels, groups, identity, seed=c.seed, aligned=False)
            at[run.path.name, name] = {r["metric"]: r for r in rows}
            found += [r | {"scope": f"prosody:{name}"} for r in rows if r["metric"] != "mel_l1"]
            log.info("%s from the prosody of %s", run.path.name, name)
    sources = ["recordings", *(p.path.name for p in prosody)]
    tables = [
        (run.path.name, ["prosody of", *COLUMNS],
         [[source, *(figure(at[run.path.name, source][m]) for m in COLUMNS.values())] for source in sources])
        for run in acoustic
    ]  # fmt: skip
    bars = [r for r in found if r["metric"] == "js"]
    image = plots.bars(bars, "JS of mels", lambda r: f"{r['family']} from {r['scope'].removeprefix('prosody:')}")
    sections = [Section("Every pair", __doc__.split("\n\n")[1], images=[("", image)], tables=tables)]
    return Study("From recorded to generated prosody", _answer(at, acoustic, prosody), found, sections)


def _mels(c: Comparison, source: Run | None, run: Run, split: Split, temperature: float) -> list[np.ndarray]:
    """Log-mels [T, M] of the split's texts."""
    prosody_key, acoustic_key = jax.random.split(jax.random.key(c.seed))

    def voiced(reader: Run) -> list[Features]:
        texts = split.read_by(reader).utterances
        return [replace(u, voiced=run.inventory.phone_voiced(u.phoneme)) for u in texts]

    def generate():
        spoken = voiced(run)
        if source is not None:
            intoned = add_prosody(voiced(source), source, prosody_key, temperature)
            spoken = [replace(u, speaker_embedding=own.speaker_embedding)
                      for u, own in zip(intoned, spoken, strict=True)]  # fmt: skip
        mels = mels_of(spoken, run, acoustic_key, temperature)
        return {"mel": np.concatenate(mels), "frames": np.array([len(mel) for mel in mels])}

    identities = [identity_of(r, split, 1, c.seed) for r in (source, run) if r]
    name = f"{source.path.name if source else 'recordings'}_{run.path.name}_{split.name}_tau{temperature:g}.npz"
    arrays = cached(c.out / "samples" / name, " ".join(identities), generate)
    return np.split(arrays["mel"], np.cumsum(arrays["frames"])[:-1])


def _answer(at: dict, acoustic: list[Run], prosody: list[Run]) -> list[str]:
    sentences = []
    for run in acoustic:
        js = {name: of["js"]["value"] for (acoustic_run, name), of in at.items() if acoustic_run == run.path.name}
        if broken := [name for name, value in js.items() if value is None]:
            sentences.append(f"{run.path.name}: mels from the prosody of {', '.join(broken)} are not finite.")
            continue
        gaps = {p.path.name: js[p.path.name] - js["recordings"] for p in prosody}
        least = min(gaps, key=lambda name: abs(gaps[name]))
        sentences.append(
            f"{run.path.name}: JS of mels {js['recordings']:.3f} from the recordings' prosody; generated prosody "
            f"changes it by {', '.join(f'{gap:+.3f} ({name})' for name, gap in gaps.items())}; least with {least}."
        )
    return sentences
