"""`make demo`: the whole path in one command. Each stage is a command of this project, printed, in a process of its
own;
a stage that is done leaves a stamp, so a demo that was interrupted goes on where it stopped."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

from tts_gen.config import Stopped, UserError

PROSODY = ("prosody_l2", "prosody_flow", "prosody_diffusion")
ACOUSTIC = ("acoustic_l1", "acoustic_flow", "acoustic_diffusion")
PAIRS = tuple(zip(("regression", "flow", "diffusion"), PROSODY, ACOUSTIC, strict=True))
SENTENCES = (
    "Thank you for calling. All of our agents are busy right now, but your call is important to us.",
    "Are you sure that you want to delete this message?",
    "The meeting starts at nine thirty tomorrow morning, in conference room five.",
)
FALLBACK = (
    "The real recordings could not be had (see above), so this demo ran on synthetic speech from espeak-ng: it shows "
    "that the software works, and says nothing of how well the families model people."
)
STOPPED = 75
"""exit code of a command that was stopped by a signal after saving"""
SECONDS = {"corpus": 15, "features": 60, "prosody": 60, "acoustic": 150, "evaluation": 200, "speech": 30, "report": 40}
"""about what a stage takes on two cores; only for the time left that is shown"""


def demo(out: Path, corpus: str) -> None:
    """Runs what is missing of the demo into `out`. Raises UserError when a stage fails."""
    if not Path("train.py").is_file():
        raise UserError("train.py is not here: run the demo in the project's folder, `make demo`")
    python = sys.executable
    tts_gen = [python, "-m", "tts_gen.cli"]
    stages = Stages(out)
    corpus = _get_corpus(stages, tts_gen, out, corpus)
    data, features = out / "data" / corpus, out / "features" / corpus
    stages.run("features", SECONDS["features"], [*tts_gen, "prepare", data / "manifest.jsonl", features])
    for name in (*PROSODY, *ACOUSTIC):
        command = [python, "train.py", f"configs/{name}.py", "--workdir", out / name, "--data.features", features]
        stages.run(f"train {name}", SECONDS[name.split("_")[0]], command)
    evaluation = [python, "eval.py", *(out / name for name in (*PROSODY, *ACOUSTIC)), "--out", out]
    evaluation += ["--mel-temperatures", "0.333,0.667,1.0"]
    stages.run("evaluate", SECONDS["evaluation"], evaluation)
    chosen = json.loads((out / "chosen.json").read_text())
    speakers = json.loads((features / "inventory.json").read_text())["speakers"][1:]
    speaker = ["--speaker", speakers[0]] if len(speakers) > 1 else []
    lines = out / "sentences.txt"
    lines.write_text("\n".join(SENTENCES) + "\n")
    for family, prosody, acoustic in PAIRS:
        command = [*tts_gen, "synthesize", "--file", lines, "--prosody", out / prosody, "--acoustic", out / acoustic]
        command += ["--prosody-temperature", str(chosen.get(prosody, 0.0))]
        command += [
            "--acoustic-temperature",
            str(chosen.get(acoustic, 0.0)),
            "--out",
            out / "speech" / family,
            *speaker,
        ]
        stages.run(f"speak {family}", SECONDS["speech"], command)
    report = [*evaluation, "--vocoder", "auto", "--speech", out / "speech"]
    report += ["--banner", FALLBACK] if corpus == "espeak" else []
    stages.run("report", SECONDS["report"], report, stamp=False)
    print(f"audio   {out / 'speech'}\ndone in {stages.clock()}, open {out / 'report.html'} in a browser")


def _get_corpus(stages: "Stages", tts_gen: list, out: Path, corpus: str) -> str:
    """Name of the corpus there is: the one asked for, or espeak's synthetic speech where it cannot be had."""
    get = lambda name: stages.run(  # noqa: E731
        f"corpus {name}", SECONDS["corpus"], [*tts_gen, "corpus", name, out / "data" / name]
    )
    try:
        get(corpus)
    except UserError as error:
        if corpus == "espeak":
            raise
        print(f"warning: {error}\n{FALLBACK}\nThe next `make demo` tries {corpus} again.", file=sys.stderr)
        corpus = "espeak"
        get(corpus)
    return corpus


class Stages:
    """The demo's commands, in order, with their stamps."""

    def __init__(self, out: Path):
        self.stamps = out / "stages"
        self.stamps.mkdir(parents=True, exist_ok=True)
        self.start = time.monotonic()
        s = SECONDS
        self.left = s["corpus"] + s["features"] + 3 * (s["prosody"] + s["acoustic"] + s["speech"])
        self.left += s["evaluation"] + s["report"]

    def clock(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self.start), 60)
        return f"{minutes}:{seconds:02d}"

    def run(self, name: str, seconds: int, command: list, stamp: bool = True) -> None:
        """Runs a command unless this very command is done. Raises UserError when it fails, Stopped when it was stopped
        after saving."""
        command = [str(part) for part in command]
        shown = shlex.join(["python" if part == sys.executable else part for part in command])
        path = self.stamps / name.replace(" ", "_")
        if path.exists() and path.read_text().splitlines()[-1:] == [shown]:
            print(f"[{self.clock()}] {name}: done before", flush=True)
        else:
            left = f"{self.left // 60 + 1} min left in all"
            print(f"\n[{self.clock()}] {name}: about {seconds} s, {left}\n$ {shown}", flush=True)
            began = time.monotonic()
            code = _call(command)
            if code == STOPPED:
                raise Stopped("stopped; `make demo` goes on from here")
            if code:
                raise UserError(f"stage {name!r} ended with code {code} (message above); `make demo` goes on from here")
            if stamp:
                path.write_text(f"{time.monotonic() - began:.1f} s\n{shown}\n")
        self.left = max(self.left - seconds, 0)


def _call(command: list[str]) -> int:
    """Exit code of a command, which is left the time to save when this process is asked to end."""
    with subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"}) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:  # the terminal sends it to the command too
                    continue
        finally:
            signal.signal(signal.SIGTERM, before)
