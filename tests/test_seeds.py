"""Figures of several trainings of one family."""

import numpy as np
import pytest

from tts_gen.evaluation.headline import headline
from tts_gen.evaluation.rows import make_row
from tts_gen.evaluation.seeds import pooled


def row(run, value, half=0.1, family="flow", metric="std_ratio", **changes):
    identity = {"task": "prosody", "family": family, "temperature": 1.0, "run": run, "split": "test", "seed": 0}
    return make_row(identity | changes, "log_f0", metric, value, value - half, value + half, n=9)


def test_the_interval_covers_what_seeds_and_utterances_change():
    """2,000 times three seeds (standard deviation 0.1 of each) on one set of utterances (0.05): 95 % hold the truth."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(2000):
        values = 1.0 + 0.05 * rng.standard_normal() + 0.1 * rng.standard_normal(3)
        (found,) = pooled([row(f"r{i}", v, 1.96 * 0.05) for i, v in enumerate(values)], {})
        held += found["low"] <= 1.0 <= found["high"]
    assert 0.93 < held / 2000 < 0.985


def test_what_is_pooled():
    rows = [row("a", 0.9), row("b", 1.1), row("b", 9.0, temperature=0.5), row("c", 2.0, family="l2"),
            row("a", 0.9, family="control:l2+noise"), row(None, 1.0, family="floor")]  # fmt: skip
    (found,) = pooled(rows, {"a": 1.0, "b": 1.0})
    assert (found["value"], found["run"], found["seed"], found["run_count"]) == (pytest.approx(1.0), None, None, 2)
    assert found["temperature"] == 1.0 and found["low"] < 0.9 < 1.1 < found["high"]
    (mixed,) = pooled(rows, {"a": 1.0, "b": 0.5})
    assert mixed["value"] == pytest.approx(4.95) and mixed["temperature"] is None


def test_runs_of_other_settings_are_no_seeds_of_one_another():
    rows = [row("a", 0.9), row("b", 1.1), row("c", 5.0)]
    (found,) = pooled(rows, {}, {"a": "dropout 0.1", "b": "dropout 0.1", "c": "dropout 0.5"})
    assert found["value"] == pytest.approx(1.0) and found["run_count"] == 2


def test_means_of_two_settings_stand_apart():
    rows = [row(f"runs/{name}", x) for name, x in {"d": 9.0, "c": 7.0, "b": 1.2, "a": 0.8}.items()]
    means = pooled(rows, {}, {f"runs/{name}": name in "ab" for name in "abcd"})
    assert sorted((m["runs"], m["value"]) for m in means) == [("mean of a, b", 1.0), ("mean of c, d", 8.0)]
    ((_, header, lines),) = headline(rows + means, "prosody")[:1]
    shown = {line[0]: line[header.index("std ratio")].split("\n")[0] for line in lines}
    assert shown["Flow (mean of a, b)"].startswith("1") and shown["Flow (mean of c, d)"].startswith("8"), shown
    assert shown["Flow (a)"].startswith("0.8") and len(shown) == 6


def test_equal_seeds_leave_the_interval_of_one():
    (found,) = pooled([row("a", 1.0), row("b", 1.0)], {})
    assert (found["low"], found["high"]) == (pytest.approx(0.9), pytest.approx(1.1))


def test_what_is_never_negative_stays_so():
    (found,) = pooled([row("a", 0.01, 0.01, metric="js"), row("b", 0.2, 0.01, metric="js")], {})
    assert found["low"] == 0.0


def test_a_figure_that_one_run_lacks_is_null():
    (found,) = pooled([row("a", 1.0), row("b", 1.0) | {"value": None, "low": None, "high": None}], {})
    assert found["value"] is None and found["why"] == "only 1 of 2 runs have it"
