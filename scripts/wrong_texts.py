"""How well the checks of alignments tell a wrong transcript: recordings with their own text, and with another's.

    python scripts/wrong_texts.py MANIFEST [--count 180]

The other text is that of all the corpus's which is nearest in length. Scores are compared with those of the own texts,
as in a corpus where few are wrong. A minute or two.
"""

import argparse
import random
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

from tts_gen.align.quality import deviations, quality
from tts_gen.corpora import Utterance, read_manifest
from tts_gen.features.segments import align
from tts_gen.features.sound import Unusable, load


def check(utterance: Utterance, text: str) -> tuple[str, float | None]:
    """Why the alignment with `text` is dropped ("" when it is not), and its score where there is one."""
    try:
        figures = quality(align(replace(utterance, text=text), load(utterance.audio)))
    except Unusable as error:
        return error.reason, error.figures.get("score")
    return "", figures["score"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("manifest", type=Path)
    parser.add_argument("--count", type=int, default=180)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    utterances, _ = read_manifest(options.manifest)
    drawn = random.Random(options.seed).sample(utterances, min(options.count, len(utterances)))
    found: dict[str, dict[str, tuple[str, float | None]]] = defaultdict(dict)
    for u in drawn:
        others = (v.text for v in utterances if v.text != u.text)
        found["own"][u.id] = check(u, u.text)
        found["another's"][u.id] = check(u, min(others, key=lambda text: abs(len(text) - len(u.text))))
    speakers = {u.id: u.speaker for u in drawn}
    own = {name: score for name, (_, score) in found["own"].items() if score is not None}
    limits = (-2.0, -3.0, -4.0, -5.0)
    print(f"| text | n | beyond the limits | {' | '.join(f'deviation below {x:g}' for x in limits)} | both, -4 |")
    print("|" + " --- |" * (len(limits) + 4))
    for kind, outcomes in found.items():
        scores = {name: score for name, (_, score) in outcomes.items() if score is not None}
        far = {name: deviations(own | {name: score}, speakers)[name] for name, score in scores.items()}
        n = len(outcomes)
        shares = [sum(value < limit for value in far.values()) / n for limit in limits]
        beyond = sum(bool(reason) for reason, _ in outcomes.values()) / n
        both = sum(bool(reason) or far.get(name, 0.0) < -4 for name, (reason, _) in outcomes.items()) / n
        print(f"| {kind} | {n} | {' | '.join(f'{100 * x:.1f} %' for x in (beyond, *shares, both))} |")


if __name__ == "__main__":
    main()
