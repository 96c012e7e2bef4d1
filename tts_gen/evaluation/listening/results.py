"""Results as the page sends them: checked against the test's key, by the endpoint and again by the analysis."""

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import NoReturn

from tts_gen.config import UserError
from tts_gen.evaluation.listening.design import RANGE
from tts_gen.features.files import read_json

MAX_BYTES = 1_000_000
"""of one result; 1,000 MUSHRA pages of 12 signals have a third of it"""
LISTENER = re.compile(r"[A-Za-z0-9_-]{1,32}")
SESSION = re.compile(r"[0-9a-f]{16}")
FIELDS = {"test", "listener", "session", "started", "finished", "trials"}


class Malformed(Exception):
    """A result that cannot be used; the message says what is wrong with it."""


@dataclass(frozen=True)
class Result:
    """One session of one listener."""

    listener: str
    session: str
    finished: datetime
    ratings: dict[str, dict[str, float]]
    """trial -> {stimulus: rating}; only trials whose every rating is sound"""
    problems: list[str]
    """one for each row left out"""


def read_key(folder: Path) -> dict:
    """The key of the test in `folder`. Raises UserError."""
    path = folder / "key.json"
    if not path.is_file():
        raise UserError(f"{path}: no such file; `tts-gen listen make` writes it")
    key = read_json(path)
    if not isinstance(key, dict) or not {"test", "kind", "trials", "systems"} <= key.keys():
        raise UserError(f"{path}: is not the key of a listening test; make the test again")
    return key


def parse(body: bytes, key: dict) -> Result:
    """The sound part of a result. Raises Malformed where nothing can be used: no JSON, another test's, bad names."""
    if len(body) > MAX_BYTES:
        raise Malformed(f"larger than {MAX_BYTES} bytes")
    try:
        value = json.loads(body, parse_constant=_refuse, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise Malformed(f"not JSON: {str(error)[:200]}") from error
    if not isinstance(value, dict) or value.keys() != FIELDS:
        raise Malformed(f"must be an object with exactly the fields {', '.join(sorted(FIELDS))}")
    if value["test"] != key["test"]:
        raise Malformed(f"is of test {_brief(value['test'])}, this one is {key['test']}")
    for name, pattern in (("listener", LISTENER), ("session", SESSION)):
        if not isinstance(value[name], str) or not pattern.fullmatch(value[name]):
            raise Malformed(f"{name} is {_brief(value[name])}, must match {pattern.pattern}")
    started, finished = _time(value["started"], "started"), _time(value["finished"], "finished")
    if started > finished:
        raise Malformed("finished before it started")
    if not isinstance(value["trials"], list) or not value["trials"]:
        raise Malformed(f"trials is {_brief(value['trials'])}, must be a list of at least one")
    ratings, problems = {}, []
    known = {trial["id"]: trial for trial in key["trials"]}
    for number, row in enumerate(value["trials"]):
        problem = _problem(row, known, ratings, key["kind"])
        if problem:
            problems.append(f"trial {number}: {problem}")
        else:
            ratings[row["trial"]] = {stimulus: float(x) for stimulus, x in row["ratings"].items()}
    return Result(value["listener"], value["session"], finished, ratings, problems)


def _problem(row: object, known: dict[str, dict], seen: dict, kind: str) -> str | None:
    low, high = RANGE[kind]
    if not isinstance(row, dict) or row.keys() != {"trial", "ratings", "seconds"}:
        return "must be an object with exactly the fields trial, ratings, seconds"
    if not isinstance(row["trial"], str) or row["trial"] not in known:
        return f"no trial {_brief(row['trial'])} in this test"
    if row["trial"] in seen:
        return f"{row['trial']} is there twice"
    ratings, wanted = row["ratings"], known[row["trial"]]["stimuli"]
    if not isinstance(ratings, dict) or ratings.keys() != wanted.keys():
        return f"ratings of {row['trial']} must be of exactly the stimuli {', '.join(wanted)}"
    for stimulus, x in ratings.items():
        if not _number(x) or not low <= x <= high:
            return f"rating of {stimulus} is {_brief(x)}, must be a number from {low} to {high}"
    if kind == "ab" and sorted(ratings.values()) not in ([0, 1], [0.5, 0.5]):
        return f"preference of {row['trial']} must be 1 and 0, or 0.5 and 0.5"
    if not _number(row["seconds"]) or row["seconds"] < 0:
        return f"seconds is {_brief(row['seconds'])}, must be a number of at least 0"
    return None


def _number(x: object) -> bool:
    return isinstance(x, int | float) and not isinstance(x, bool) and abs(x) < 1e300  # NaN is not


def _time(value: object, name: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        time = None
    if time is None or time.tzinfo is None:
        raise Malformed(f"{name} is {_brief(value)}, must be a time such as 2025-01-31T12:00:00Z")
    return time


def _brief(value: object) -> str:
    return repr(value)[:60]


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _once(pairs: list[tuple[str, object]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name is there twice in one object")
    return found
