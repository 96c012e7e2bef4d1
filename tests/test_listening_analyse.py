"""The analysis of listening tests: against scipy, closed forms, planted truths; and what it does with bad files."""

import json
import os
from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from tts_gen.cli import main
from tts_gen.config import UserError
from tts_gen.evaluation.listening.analyse import analyse, text
from tts_gen.evaluation.listening.results import MAX_BYTES
from tts_gen.evaluation.listening.statistics import preference_rows, screen
from tts_gen.evaluation.significance import holm

TRUTH = {"natural": 97, "flow": 72, "diffusion": 64, "regression": 41, "low anchor": 12, "mid anchor": 50}
SYSTEMS = ["natural", "flow", "diffusion", "regression"]
UTTERANCES = 8


def key_of(kind: str) -> dict:
    signals = list(TRUTH) if kind == "mushra" else SYSTEMS
    chosen = {"mushra": [signals], "ab": list(combinations(SYSTEMS, 2)), "mos": [[s] for s in SYSTEMS]}[kind]
    trials = [(u, c) for u in range(UTTERANCES) for c in chosen]
    return {
        "test": "t000000000000", "kind": kind, "systems": SYSTEMS, "reference": "natural",
        "anchors": {"low anchor": 3500, "mid anchor": 7000} if kind == "mushra" else {},
        "trials": [{"id": f"t{i}", "utterance": f"u{u}.wav", "stimuli": {f"s{i}-{s.replace(' ', '')}": s for s in c}}
                   for i, (u, c) in enumerate(trials)],
    }  # fmt: skip


def rate(key: dict, rng: np.random.Generator, listener: str, truth: dict = TRUTH, trials: int | None = None) -> dict:
    """A listener's result: the truth with noise of 4; MOS on 1..5; AB the better or, when close, neither."""
    rows = []
    for trial in key["trials"][:trials]:
        drawn = {s: truth[system] + 4 * rng.standard_normal() for s, system in trial["stimuli"].items()}
        if key["kind"] == "mushra":
            ratings = {s: int(np.clip(round(x), 0, 100)) for s, x in drawn.items()}
        elif key["kind"] == "mos":
            ratings = {s: int(np.clip(round(1 + x / 25), 1, 5)) for s, x in drawn.items()}
        else:
            (a, x), (b, y) = drawn.items()
            won = 0.5 if abs(x - y) < 3 else float(x > y)
            ratings = {a: won, b: 1 - won}
        rows.append({"trial": trial["id"], "ratings": ratings, "seconds": 9.5})
    return {"test": key["test"], "listener": listener, "session": f"{rng.integers(2**62):016x}", "trials": rows,
            "started": "2025-01-01T10:00:00Z", "finished": "2025-01-01T10:30:00Z"}  # fmt: skip


def written(folder, key: dict, results: list[dict]):
    (folder / "results").mkdir(parents=True)
    (folder / "key.json").write_text(json.dumps(key))
    for i, result in enumerate(results):
        (folder / "results" / f"{i}.json").write_text(json.dumps(result))
    return folder


def test_mushra_recovers_the_planted_order_with_scipys_statistics(tmp_path):
    key, rng = key_of("mushra"), np.random.default_rng(0)
    results = [rate(key, rng, f"p{i}") for i in range(6)]
    found = analyse(written(tmp_path, key, results))
    assert [r["system"] for r in sorted(found["means"], key=lambda r: -r["mean"])] == sorted(TRUTH, key=TRUTH.get)[::-1]
    system = {s: name for t in key["trials"] for s, name in t["stimuli"].items()}
    by = {name: np.array([[x for t in r["trials"] for s, x in t["ratings"].items() if system[s] == name]
                          for r in results]) for name in TRUTH}  # fmt: skip
    for row in found["means"]:
        means = by[row["system"]].mean(axis=1)
        low, high = stats.t.interval(0.95, 5, means.mean(), stats.sem(means))
        assert [row["mean"], row["low"], row["high"]] == pytest.approx([means.mean(), low, high])
        assert row["listeners"] == 6 and abs(row["mean"] - TRUTH[row["system"]]) < 2
    assert len(found["tests"]) == 2 * 6  # anchors are not tested
    for row in found["tests"]:
        flat = {"ratings": lambda x: x.ravel(), "listeners": lambda x: x.mean(axis=1)}[row["unit"]]
        a, b = flat(by[row["a"]]), flat(by[row["b"]])
        assert row["n"] == len(a) == {"ratings": 48, "listeners": 6}[row["unit"]]
        assert [row["wilcoxon"], row["wilcoxon_p"]] == pytest.approx(list(stats.wilcoxon(a, b)))
        assert [row["t"], row["t_p"]] == pytest.approx(list(stats.ttest_rel(a, b)))
        assert row["difference"] == pytest.approx((a - b).mean())
        if row["unit"] == "ratings":
            assert row["wilcoxon_p_holm"] < 0.001 and row["t_p_holm"] < 0.001 and row["difference"] > 0
    assert json.loads((tmp_path / "analysis.json").read_text()) == found
    assert (tmp_path / "analysis.md").read_text() == text(found)
    assert (tmp_path / "analysis.png").read_bytes().startswith(b"\x89PNG") and found["problems"] == []


def test_post_screening_drops_the_careless_and_no_other(tmp_path):
    key, rng = key_of("mushra"), np.random.default_rng(1)
    results = [rate(key, rng, f"p{i}") for i in range(5)]
    results.append(rate(key, rng, "careless", dict.fromkeys(TRUTH, 60)))
    results.append(rate(key, rng, "deaf", TRUTH | {"mid anchor": 99, "natural": 99}))
    found = analyse(written(tmp_path, key, results))
    assert found["excluded"] == {
        "careless": "hidden reference below 90 in 8 of 8 items", "deaf": "mid anchor above 90 in 8 of 8 items"
    }  # fmt: skip
    assert {row["listeners"] for row in found["means"]} == {5}
    printed = text(found)
    assert "5 of 7 listeners" in printed and "Excluded: careless, hidden reference below 90 in 8 of 8" in printed


def test_screening_rules_at_their_edges():
    hidden = np.full((4, 20), 95.0)
    hidden[0, :3] = 89  # 15 %, not more
    hidden[1, :4] = 89
    hidden[2, :4] = 90  # not below
    hidden[3, 3:] = np.nan
    hidden[3, 0] = 50  # one of three
    why = screen(hidden, None)
    assert [bool(w) for w in why] == [False, True, False, True] and "4 of 20" in why[1] and "1 of 3" in why[3]
    fine, mid = np.full((8, 20), 95.0), np.full((8, 20), 50.0)
    mid[0, :4] = 91
    assert [bool(w) for w in screen(fine, mid)] == [True] + 7 * [False]
    mid[:3, :4] = 91  # 37 % of the listeners: the anchor hardly degraded these items
    assert screen(fine, mid) == 8 * [None]
    mid[2, :4] = 90  # 25 %, not more
    assert [bool(w) for w in screen(fine, mid)] == [True, True] + 6 * [False]


def test_mos_and_ab_recover_the_order(tmp_path):
    rng = np.random.default_rng(2)
    key = key_of("mos")
    found = analyse(written(tmp_path / "mos", key, [rate(key, rng, f"p{i}") for i in range(5)]))
    assert [r["system"] for r in sorted(found["means"], key=lambda r: -r["mean"])] == SYSTEMS
    assert all(1 <= r["low"] <= r["mean"] <= r["high"] <= 5.2 for r in found["means"]) and found["excluded"] == {}
    key = key_of("ab")
    results = [rate(key, rng, f"p{i}") for i in range(5)]
    found = analyse(written(tmp_path / "ab", key, results))
    rows = {(r["a"], r["b"]): r for r in found["tests"] if r["unit"] == "ratings"}
    assert list(rows) == list(combinations(SYSTEMS, 2))
    for row in rows.values():
        assert row["prefer_a"] + row["no_preference"] + row["prefer_b"] == 5 * UTTERANCES and row["share"] > 0.5
    close = rows["flow", "diffusion"]
    assert close["no_preference"] > 0 and close["prefer_b"] > 0
    test = stats.binomtest(close["prefer_a"], close["prefer_a"] + close["prefer_b"])
    assert close["p"] == pytest.approx(test.pvalue)
    assert [close["low"], close["high"]] == pytest.approx(list(test.proportion_ci(method="wilson")))
    assert rows["natural", "regression"]["p_holm"] < 1e-6
    assert "no preference" in text(found)


def test_sign_test_of_listeners_counts_each_once():
    answers = np.array([[1, 1, 0], [0.5, 0.5, 0.5], [0, np.nan, np.nan], [1, 0, np.nan], [np.nan] * 3])
    ratings, listeners = preference_rows({("a", "b"): answers})
    assert [ratings[k] for k in ("prefer_a", "no_preference", "prefer_b")] == [3, 3, 3]
    assert [listeners[k] for k in ("prefer_a", "no_preference", "prefer_b")] == [1, 2, 1]
    (row, _) = preference_rows({("a", "b"): np.full((2, 2), 0.5)})
    assert row["p"] is None and row["p_holm"] is None and row["why"] == "nobody had a preference"


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1] and holm([]) == []


def test_hostile_rows_and_files_are_counted_and_named(tmp_path):
    key, rng = key_of("mushra"), np.random.default_rng(3)
    good, bad = rate(key, rng, "p1"), rate(key, rng, "p2")
    first = next(iter(bad["trials"][0]["ratings"]))
    bad["trials"][0]["ratings"][first] = 1e9
    bad["trials"][1] = {"trial": "<script>alert(1)</script>", "ratings": {}, "seconds": 0}
    bad["trials"][2] = None
    folder = written(tmp_path, key, [good, bad, rate(key, rng, "../../x"), rate(key, rng, "p3", trials=2)])
    results = folder / "results"
    (results / os.fsdecode(b"junk\xff.json")).write_bytes(b"\xff\x00")  # neither name nor content is text
    (results / "nan.json").write_text(json.dumps(good).replace("9.5", "NaN"))
    (results / "other.json").write_text(json.dumps(good | {"test": "t1"}))
    (results / "huge.json").write_bytes(b" " * (MAX_BYTES + 1))
    (results / "folder.json").mkdir()
    (results / ".half.json.1.tmp").write_text("{")
    found = analyse(folder, [results, tmp_path / "gone.json"])
    assert found["files"] == 3 and found["listeners"] == ["p1", "p2", "p3"]
    assert found["incomplete"] == {"p2": 3, "p3": UTTERANCES - 2} and len(found["problems"]) == 3 + 1 + 4 + 1 + 1
    for said in ("1000000000.0", "no trial '<script>", "exactly the fields", "'../../x'", "not JSON", "NaN",
                 "of test 't1'", "larger than", "folder.json: no such file", "gone.json: no such file"):  # fmt: skip
        assert [p for p in found["problems"] if said in p], said
    assert "10 files or rows left out" in text(found) and "Trials lacking, by listener: p2 3, p3 6." in text(found)
    with pytest.raises(UserError, match="no usable ratings.*gone.json: no such file"):
        analyse(folder, [tmp_path / "gone.json"])


def test_the_last_session_of_a_listener_counts(tmp_path):
    key, rng = key_of("mushra"), np.random.default_rng(4)
    first, again = rate(key, rng, "p1"), rate(key, rng, "p1", TRUTH | {"flow": 30}, trials=3)
    found = analyse(written(tmp_path, key, [again | {"finished": "2025-01-02T09:00:00+02:00"}, first, first]))
    assert found["superseded"] == 3 + UTTERANCES and found["listeners"] == ["p1"]
    flow = next(r for r in found["means"] if r["system"] == "flow")
    assert flow["mean"] == pytest.approx((3 * 30 + 5 * 72) / 8, abs=5) and flow["low"] is None
    assert flow["why"] == "one listener gives no interval"


def test_nobody_left_and_no_differences_are_said_not_nan(tmp_path):
    key, rng = key_of("mushra"), np.random.default_rng(5)
    found = analyse(written(tmp_path / "a", key, [rate(key, rng, "p1", dict.fromkeys(TRUTH, 20))]))
    assert {r["why"] for r in found["means"]} == {"no listener is left"}
    assert {r["why"] for r in found["tests"]} == {"0 pairs are too few to test"}
    key = key_of("mos")
    results = [rate(key, rng, f"p{i}", dict.fromkeys(TRUTH, 50)) for i in range(2)]
    for result in results:
        for row in result["trials"]:
            row["ratings"] = dict.fromkeys(row["ratings"], 3)
    found = analyse(written(tmp_path / "b", key, results))
    assert {r["why"] for r in found["tests"]} == {"all differences are equal"}


def test_from_the_shell(tmp_path, capsys, monkeypatch):
    key, rng = key_of("mushra"), np.random.default_rng(6)
    written(tmp_path, key, [rate(key, rng, f"p{i}") for i in range(3)])
    monkeypatch.setattr("sys.argv", ["tts-gen", "listen", "analyse", str(tmp_path), "--out", str(tmp_path / "new")])
    assert main() == 0 and capsys.readouterr().out == (tmp_path / "new" / "analysis.md").read_text()
    monkeypatch.setattr("sys.argv", ["tts-gen", "listen", "analyse", str(tmp_path / "new")])
    assert main() == 1 and "listen make" in capsys.readouterr().err
