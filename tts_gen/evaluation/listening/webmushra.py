"""The same test for webMUSHRA (https://github.com/audiolabs/webMUSHRA): a configuration and its wav files.

Fields as doc/experimenter.md of webMUSHRA 1.4.3 has them. webMUSHRA adds the hidden reference to a MUSHRA page itself,
so ours is left out; it has no preference page (its paired comparison asks which sample is the reference), so an AB test
is not exported. Copy the folder's content into webMUSHRA's root and open ?config=TEST.yaml.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)

SCALE = {5: "Excellent", 4: "Good", 3: "Fair", 2: "Poor", 1: "Bad"}


def export(folder: Path, wavs: Path, key: dict, strict: bool) -> None:
    """Writes folder/configs/TEST.yaml and folder/configs/resources/TEST/*.wav.

    Conditions keep their opaque ids, which key.json explains. strict: webMUSHRA checks number and length of stimuli.
    """
    if key["kind"] == "ab":
        log.info("no webMUSHRA configuration: webMUSHRA has no preference test")
        return
    audio = Path("configs/resources") / key["test"]
    (folder / audio).mkdir(parents=True)

    def place(stimulus: str) -> str:
        shutil.copyfile(wavs / f"{stimulus}.wav", folder / audio / f"{stimulus}.wav")
        return (audio / f"{stimulus}.wav").as_posix()

    def mushra(trial: dict, name: str) -> dict:
        hidden = [s for s, system in trial["stimuli"].items() if system != key["reference"]]
        return {
            "type": "mushra", "id": trial["id"], "name": name, "content": key["question"], "showWaveform": False,
            "enableLooping": True, "strict": strict, "reference": place(trial["reference"]), "createAnchor35": False,
            "createAnchor70": False, "randomize": True, "showConditionNames": False,
            "stimuli": {s: place(s) for s in hidden},
        }  # fmt: skip

    def opinion(trials: list[dict], name: str) -> dict:
        return {
            "type": "likert_single_stimulus", "id": name.lower(), "name": name, "content": key["question"],
            "mustRate": True, "mustPlayback": "ended", "stimuli": {s: place(s) for t in trials for s in t["stimuli"]},
            "response": [{"value": value, "label": label} for value, label in SCALE.items()],
        }  # fmt: skip

    if key["kind"] == "mushra":
        pages = [mushra(t, "Training") for t in key["training"]]
        pages.append(["random", *(mushra(t, "Rating") for t in key["trials"])])
    else:
        pages = [opinion(key["training"], "Training"), opinion(key["trials"], "Rating")]
    config = {
        "testname": "Listening test", "testId": key["test"], "bufferSize": 2048, "stopOnErrors": True,
        "showButtonPreviousPage": False, "remoteService": "service/write.php",
        "pages": [
            {"type": "generic", "id": "start", "name": "Listening test", "content": key["question"]}, *pages,
            {"type": "finish", "name": "Thank you", "content": "Please send your ratings.", "showResults": False,
             "writeResults": True},
        ],
    }  # fmt: skip
    (folder / "configs" / f"{key['test']}.yaml").write_text("\n".join(_yaml(config)) + "\n", encoding="utf-8")


def _yaml(value: dict | list, indent: str = "") -> Iterator[str]:
    """Lines of YAML, every level on lines of its own: webMUSHRA's parser does not know the compact `- - random` that
    PyYAML writes."""
    for name, inner in value.items() if isinstance(value, dict) else ((None, item) for item in value):
        head = indent + ("-" if name is None else f"{name}:")
        if isinstance(inner, dict | list):
            yield head
            yield from _yaml(inner, indent + "  ")
        else:
            yield f"{head} {json.dumps(inner)}"
