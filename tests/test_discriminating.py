"""Which metrics are said to discriminate."""

import pytest

from tts_gen.evaluation import rows
from tts_gen.evaluation.discriminating import discriminating
from tts_gen.evaluation.headline import FOOTNOTE, MARK, headline, judged


def row(family, value, low, high, metric="js", feature="log_f0"):
    identity = {"task": "prosody", "family": family, "split": "test"}
    return rows.make_row(identity, feature, metric, value, low, high, n=10)


def verdict(*of, metric="js"):
    return discriminating([row(*r, metric=metric) for r in of])["log_f0", metric]


FLOOR = ("floor", 0.02, 0.01, 0.03)


def test_every_control_must_lie_beyond_the_floor():
    good, bad = ("control:shuffled", 0.05, 0.04, 0.06), ("control:l2+noise", 0.04, 0.029, 0.05)
    assert verdict(FLOOR, good) == (True, "floor", ())
    assert verdict(FLOOR, good, bad) == (False, "floor", ("control:l2+noise",))
    perfect = ("control:shuffled", 0.0, 0.0, 0.001)
    assert verdict(FLOOR, perfect).discriminates is False, "below the floor is no worse than the floor"


def test_a_ratio_may_lie_on_either_side():
    floor = ("floor", 1.0, 0.9, 1.1)
    sides = [("control:a", 0.8, 0.7, 0.89), ("control:b", 1.2, 1.11, 1.3)]
    assert verdict(floor, *sides, metric="std_ratio").discriminates
    assert verdict(floor, *sides, ("control:c", 0.85, 0.8, 0.91), metric="std_ratio").reached_by == ("control:c",)


def test_scores_are_judged_against_the_best_family():
    families = [("flow", 0.6, 0.5, 0.7), ("l2", 0.8, 0.7, 0.9)]
    assert verdict(*families, ("control:a", 0.9, 0.71, 1.0), metric="energy_score") == (True, "flow", ())
    assert verdict(*families, ("control:a", 0.6, 0.5, 0.7), metric="best_of_k").discriminates is False


@pytest.mark.parametrize(
    "of",
    [
        [FLOOR],
        [("control:a", 1, 0.9, 1.1)],
        [FLOOR, ("control:a", 1, None, None)],
        [FLOOR, ("control:a", None, None, None)],
    ],
)
def test_nothing_is_said_without_controls_reference_or_intervals(of):
    assert verdict(*of).discriminates is None


@pytest.mark.parametrize("low, discriminates", [(0.1, True), (0.85, False), (0.97, False)])
def test_of_coverage_more_is_better(low, discriminates):
    of = verdict(("floor", 0.9, 0.86, 0.95), ("control:a", low + 0.01, low, low + 0.02), metric="coverage")
    assert of.discriminates is discriminates


def test_headings_are_marked():
    found = [row(*FLOOR), row("flow", 0.03, 0.02, 0.04), row("control:shuffled", 0.03, 0.02, 0.04)]
    found += [row(*FLOOR, metric="js_half"), row("control:shuffled", 0.09, 0.08, 0.1, metric="js_half")]
    _, header, _ = headline(found, "prosody")[0]
    assert header == ["", "τ", "JS" + MARK, "JS halves"] and MARK.strip() in FOOTNOTE
    (_, header, cells) = judged(found, "prosody")[0]
    assert header[2:5] == ["Flow", "Control: oracle shuffled", "Floor: oracle halves"]
    assert [line[:3] + line[5:] for line in cells] == [
        ["log_f0", "js", "0.030\n0.020–0.040", "Floor: oracle halves", "shuffled"],
        ["log_f0", "js_half", "–", "Floor: oracle halves", "none"],
    ]
    assert cells[1][3] == "0.090\n0.080–0.100"
