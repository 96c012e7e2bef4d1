"""One question, one command: `eval.py STUDY RUN... --out DIR`. A study is a file here with
`study(c, options) -> Study`, and an entry in STUDIES."""

import argparse
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

from tts_gen import command


def _names(text: str) -> tuple[str, ...]:
    return tuple(part for part in text.split(",") if part)


def _counts(text: str) -> tuple[int, ...]:
    return tuple(sorted({command.count(part) for part in text.split(",")}))


class Question(NamedTuple):
    asks: str
    options: dict[str, dict[str, Any]]
    """argument -> settings of argparse, beside those that all studies have"""
    elsewhere: bool = False
    """--features names another corpus than the runs'"""


TEMPERATURE = {
    "type": command.not_negative, "default": 1.0, "help": "at which generative families are sampled",
}  # fmt: skip

STUDIES = {
    "temperature": Question("which temperature is best, by what, and what it costs to choose another", {}),
    "steps": Question(
        "how many solver steps are enough",
        {
            "--temperature": TEMPERATURE,
            "--solvers": {"type": _names, "default": (), "help": "comma list; every deterministic one by default"},
            "--grid": {"type": _counts, "default": (2, 4, 8, 16, 32), "help": "numbers of steps, comma list"},
        },
    ),
    "likelihood": Question("who gives held-out data the most probability, in bits per dimension, all families", {}),
    "cost": Question(
        "parameters, operations, network evaluations, compile time, real-time factor, memory, training speed",
        {
            "--temperature": TEMPERATURE,
            "--batches": {"type": _counts, "default": (1, 16), "help": "utterances sampled at once, comma list"},
            "--repeats": {"type": command.count, "default": 5, "help": "timings, of which the median counts"},
        },
    ),
    "conditioning": Question(
        "mels from the recordings' prosody against mels from generated prosody, every pair of runs",
        {"--temperature": TEMPERATURE},
    ),
    "styles": Question(
        "which family serves which style, by label, or by type of utterance where there are none",
        {"--temperature": TEMPERATURE},
    ),
    "scaling": Question(
        "what more data and longer training bring, at equal steps and at equal seconds",
        {"--temperature": TEMPERATURE},
    ),
    "transfer": Question(
        "what runs keep on a corpus that they were not trained on, --features",
        {
            "--temperature": TEMPERATURE,
            "--speaker": {"default": "unknown", "help": "one of the runs', which they answer as there"},
            "--own": {"metavar": "DIR", "help": "the runs' own corpus, if it is not where the first was trained on it"},
        },
        elsewhere=True,
    ),
    "joint": Question("whether f0 and duration are worth modelling together", {"--temperature": TEMPERATURE}),
    "paper": Question("the paper's tables, and what of its claims is reproduced here", {}),
}
"""compare, the default, is not among them: it is `eval.py RUN...`"""


def load(name: str) -> Callable:
    """`study(c, options)` of a study's file."""
    return importlib.import_module(f"tts_gen.evaluation.studies.{name}").study


def add_options(name: str, parser: argparse.ArgumentParser) -> None:
    for flag, settings in STUDIES[name].options.items():
        parser.add_argument(flag, **settings)
