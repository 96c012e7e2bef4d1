"""The page that listeners see: one HTML file; no system's name, no network."""

import base64
import io
import json
import logging
from pathlib import Path

import jinja2
import numpy as np

from tts_gen.evaluation.listening.design import RANGE, Trial, positions, trial_order
from tts_gen.features.files import write_text

log = logging.getLogger(__name__)

EMBED = 32e6
"""bytes of FLAC that the page holds at most; beyond, it loads wavs/*.wav and must come from a web server"""
HEARD = 1.0
"""seconds of a MUSHRA stimulus that must have been heard before going on; AB and MOS: the whole of it"""


def write_page(folder: Path, key: dict, trials: list[Trial], training: list[Trial], rng: np.random.Generator) -> None:
    """Writes folder/index.html for the wav files in folder/wavs."""
    mushra = key["kind"] == "mushra"
    low, high = RANGE[key["kind"]]
    audio = embedded(folder / "wavs")
    data = {
        "test": key["test"], "kind": key["kind"], "low": low, "high": high, "heard": HEARD if mushra else None,
        "loop": mushra, "rate": key["rate"], "order": trial_order(len(trials), rng),
        "trials": _shown(trials, key), "training": _shown(training, key), "audio": audio,
    }  # fmt: skip
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("tts_gen.evaluation.listening", ""), autoescape=True, trim_blocks=True
    )
    # Within a script element only `<` could end or begin anything.
    text = json.dumps(data, allow_nan=False).replace("<", "\\u003c")
    page = environment.get_template("listen.html.j2").render(key=key, data=text, minutes=_minutes(trials, folder))
    write_text(folder / "index.html", page)


def _shown(trials: list[Trial], key: dict) -> list[dict]:
    names = [*key["systems"], *key["anchors"]]
    return [
        {"id": t.id, "reference": t.reference, "stimuli": list(t.stimuli), "orders": positions(t, i, names)}
        for i, t in enumerate(trials)
    ]


def embedded(wavs: Path) -> dict[str, str] | None:
    """Stimulus -> FLAC in base64: lossless, half of wav, decoded by all current browsers. None when above EMBED."""
    import soundfile

    flacs, size = {}, 0
    for path in sorted(wavs.glob("*.wav")):
        samples, rate = soundfile.read(path, dtype="int16")
        flac = io.BytesIO()
        soundfile.write(flac, samples, rate, format="FLAC", subtype="PCM_16")
        size += len(flac.getvalue())
        if size > EMBED:
            log.warning("audio above %.0f MB stays beside the page: it needs `tts-gen listen serve`", EMBED / 1e6)
            return None
        flacs[path.stem] = base64.b64encode(flac.getvalue()).decode()
    return flacs


def _minutes(trials: list[Trial], folder: Path) -> int:
    """About how long a listener takes: every stimulus twice and ten seconds a trial."""
    import soundfile

    seconds = sum(2 * soundfile.info(folder / "wavs" / f"{s}.wav").duration for t in trials for s in t.stimuli)
    return max(1, round((seconds + 10 * len(trials)) / 60))
