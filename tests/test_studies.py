"""Every study on small runs: what it leaves in OUT, and what must hold of its figures."""

import functools
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from models import small_config, small_decoder, write_untrained

from tts_gen import command, doors, speed
from tts_gen.evaluation.prosody import Prosody
from tts_gen.evaluation.studies import STUDIES, outputs, paper, scaling, steps, styles
from tts_gen.runs import load

OPTIONS = {
    "steps": ["--grid", "2,4", "--solvers", "euler,dpm++2m"],
    "cost": ["--batches", "1,2", "--repeats", "2"],
}
TOLD = {
    "temperature": r"prosody_flow: [\d.]+ by distribution, [\d.]+ by accuracy \(chosen on val\)",
    "steps": "prosody_diffusion, dpm\\+\\+2m: from \\d network evaluations on",
    "likelihood": "prosody: (flow|l2|diffusion) gives the held-out data the most probability",
    "cost": "prosody, 2 at once: prosody_\\w+ is the fastest",
    "conditioning": "acoustic_l1: JS of mels 0.\\d+ from the recordings' prosody",
    "scaling": "l2: from 12 to 42 utterances, JS of log_f0 goes from",
    "joint": "prosody_flow: -?0.\\d+ bits of mutual information between log-f0 and duration",
    "paper": "claims not testable here",
}
"""what the answer of each study says"""
OF = {"cost": slice(3), "temperature": slice(1, None, 3)}
"""of the runs, where a few show what all would"""


@pytest.fixture(scope="module")
def runs(store, tmp_path_factory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    of = {
        "prosody_l2": ("prosody", "regression", {}),
        "prosody_flow": ("prosody", "flow", {}),
        "prosody_diffusion": ("prosody", "diffusion", {"solver_steps": 4}),
        "acoustic_l1": ("acoustic", "regression", {"loss": "l1"}),
        "acoustic_flow": ("acoustic", "flow", {}),
    }
    for name, (task, family, changes) in of.items():
        config = replace(small_config(task, family, store.root), decoder=small_decoder(family, **changes))
        write_untrained(config, store, folder / name)
    few = replace(config := small_config("prosody", "regression", store.root), data=replace(config.data, utterances=12))
    write_untrained(few, store, folder / "prosody_few")
    for i, name in enumerate((*of, "prosody_few")):
        lines = [{"step": s, "loss": 2 / s, "step_seconds": 0.1 * (i + 1)} | ({"val_loss": 1 / s} if s % 5 == 0 else {})
                 for s in range(1, 11)]  # fmt: skip
        (folder / name / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return [str(folder / name) for name in of]


@pytest.mark.parametrize("study", [name for name in STUDIES if name not in ("styles", "transfer")])
def test_a_study_leaves_rows_tables_and_a_report(study, runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(speed, "measured_peak", functools.partial(speed.measured_peak, size=256))
    common = ["--out", str(tmp_path), "--temperatures", "0,1", "--samples", "2"]
    asked = runs[OF.get(study, slice(None))]
    more = [runs[0].replace("_l2", "_few")] if study == "scaling" else []
    assert doors.evaluate([study, *asked, *more, *common, *OPTIONS.get(study, [])]) == command.DONE
    said = capsys.readouterr().out
    assert re.search(TOLD[study], said), said
    rows = json.loads((tmp_path / "summary.json").read_text())
    assert rows and all(row["value"] is not None or row["why"] for row in rows)
    page = (tmp_path / "report.html").read_text()
    assert "http://" not in page and "https://" not in page and page.count("<table") >= 3
    assert "| --- |" in (tmp_path / "tables.md").read_text()
    assert (tmp_path / "tables.tex").read_text().count("\\toprule") >= 1
    assert list((tmp_path / "tensorboard").iterdir())
    check = globals().get(f"of_{study}")
    if check:
        check(rows)


def of_steps(rows):
    found = {(r["solver"], r["steps"]) for r in rows}
    assert found == {(s, n) for s in ("euler", "dpm++2m") for n in (2, 4)}
    assert {r["family"] for r in rows} == {"diffusion"}


def of_likelihood(rows):
    assert [r["family"] for r in rows] == ["l2", "flow", "diffusion", "l1", "flow"]
    assert all(np.isfinite(r["value"]) for r in rows)


def of_cost(rows):
    at = {(r["run"].split("/")[-1], r["scope"], r["metric"]): r["value"] for r in rows}
    assert at["prosody_diffusion", "batch:1", "network_evaluations"] == 4
    assert at["prosody_flow", "batch:1", "network_evaluations"] == 1
    # The network of diffusion is evaluated four times; padding does not change with the batch.
    assert 1.5 < at["prosody_diffusion", "batch:1", "gflop"] / at["prosody_l2", "batch:1", "gflop"]
    assert all(r["value"] > 0 for r in rows if r["metric"] == "real_time_factor")


@pytest.mark.parametrize("study", ["likelihood", "paper"])
def test_seeds_of_a_family_have_their_mean_beside_them(study, store, runs, tmp_path):
    again = load(runs[1]).config
    write_untrained(replace(again, train=replace(again.train, seed=1)), store, tmp_path / "prosody_flow_1")
    common = ["--out", str(tmp_path / "out"), "--temperatures", "1", "--samples", "2"]
    assert doors.evaluate([study, *runs[:2], str(tmp_path / "prosody_flow_1"), *common]) == command.DONE
    rows = json.loads((tmp_path / "out" / "summary.json").read_text())
    of = [r for r in rows if (r["family"], r["metric"], r["scope"]) == ("flow", "bits_per_dim", "overall")]
    single, (mean,) = [r["value"] for r in of if r["run"]], [r for r in of if not r["run"]]
    assert mean["run_count"] == len(single) == 2 and mean["value"] == pytest.approx(np.mean(single))
    if study == "paper":
        of = [r for r in rows if (r["family"], r["feature"], r["metric"], r["scope"], r["split"])
              == ("flow", "duration", "std_ratio", "overall", "test")]  # fmt: skip
        (mean,) = [r for r in of if not r["run"]]
        text = (tmp_path / "out" / "tables.md").read_text()
        assert re.search(rf"\| Flow \| 1 \| [^|]*\| [^|]*\| {mean['value']:.2f} ", text), text
    else:
        assert "Means over seeds" in (tmp_path / "out" / "report.html").read_text()


def test_a_learning_curve_is_read_at_equal_steps_and_seconds(runs):
    curve = scaling.curve(load(runs[1]))
    np.testing.assert_allclose(curve.seconds, [1.0, 2.0])
    assert list(curve.steps) == [5, 10] and curve.best(curve.steps, 7) == 0.2
    assert curve.best(curve.seconds, 2.0) == 0.1 and curve.best(curve.seconds, 0.5) is None


def of_conditioning(rows):
    scopes = {r["scope"] for r in rows}
    assert scopes == {f"prosody:{s}" for s in ("recordings", "prosody_l2", "prosody_flow", "prosody_diffusion")}


@pytest.mark.parametrize("arguments, message", [
    (["steps", 0], "no run among these has a solver"),
    (["conditioning", 0], "at least one prosody run and one acoustic run"),
    (["temperature", 0], "no run among these draws samples"),
    (["styles", 0], "all test utterances are of one style or type, 'statement'"),
    (["styles", 3], "needs prosody runs"),
    (["joint", 0], "give prosody runs of a generative family"),
    (["steps", 2, "--solvers", "euler,heum"], "--solvers: no heum; there are euler, midpoint, heun"),
    (["cost", 0, "--batches", "99"], "--batches 99: split test has 9 utterances"),
])  # fmt: skip
def test_what_a_study_needs_is_said(arguments, message, runs, tmp_path, capsys):
    study, i, *more = arguments
    assert doors.evaluate([study, runs[i], "--out", str(tmp_path), *more]) == command.FAILED
    assert message in capsys.readouterr().err


def test_types_of_utterance():
    texts = {"Is it?": "question", 'He said "no!"': "exclamation", "One, two, three.": "list", "One, two.": "statement"}
    assert {text: styles.kind(text) for text in texts} == texts


def planted(n: int, rising: np.ndarray, seed: int) -> Prosody:
    """Utterances of ten phonemes; "up" rises at its end."""
    rng, style = np.random.default_rng(seed), np.where(rising, "up", "down")
    log_f0 = rng.normal(0, 0.3, (n, 10)) + np.outer(np.where(rising, 1, -1), np.arange(10) > 8)
    of = {"utterance": np.arange(n), "group": np.arange(n), "style": style}
    of = {name: np.repeat(x, 10) for name, x in of.items()}
    flat = np.ones(10 * n, bool)
    return Prosody(log_f0=log_f0.ravel(), duration=rng.integers(3, 9, 10 * n), voiced=flat, pause=~flat,
                   speaker=np.full(10 * n, "a"), phone_class=np.full(10 * n, "vowel"), log_f0_std=np.full(10 * n, 0.2),
                   frame_seconds=0.0116, **of)  # fmt: skip


def test_a_planted_style_is_heard_in_what_has_it_alone():
    rising = np.arange(80) % 2 == 0
    heard, known = styles._classifier(planted(80, rising, 0))
    assert list(known) == ["down", "up"]
    other = planted(80, rising, 1)
    assert heard(other, 0).value > 0.95
    mean = replace(other, log_f0=np.zeros_like(other.log_f0))
    assert heard(mean, 0).value == 0.5
    mixed = replace(other, log_f0=np.stack([other.log_f0, np.zeros_like(other.log_f0)]),
                    duration=np.stack([other.duration] * 2))  # fmt: skip
    assert 0.7 < heard(mixed, 0).value < 0.8
    noise = np.random.default_rng(2).normal(0, 0.8, (2, len(other.log_f0)))
    faint = heard(replace(mixed, log_f0=other.log_f0 + noise), 0)
    assert 0.6 < faint.low < faint.value < faint.high < 1 and faint.high - faint.low < 0.2


def test_too_few_of_a_style_are_not_learnt_from():
    heard, known = styles._classifier(planted(30, np.arange(30) < 3, 0))
    assert list(known) == ["down"] and heard(planted(30, np.arange(30) < 15, 1), 0) == (None,)


def test_a_style_that_is_not_among_the_samples_does_not_count():
    heard, _ = styles._classifier(planted(80, np.arange(80) % 2 == 0, 0))
    assert heard(planted(40, np.arange(40) >= 0, 1), 0).value > 0.9


@pytest.mark.parametrize("values, enough", [
    ([0.5, 0.9, 0.8, 0.5], 16), ([0.9, 0.5, 0.5, 0.5], 4), ([0.5, 0.5, None, 0.5], 16), ([0.5] * 4, 2),
])  # fmt: skip
def test_enough_steps_are_enough_from_there_on(values, enough, runs):
    line = [{"nfe": 2 ** (i + 1), "JS": {"value": v, "low": 0.45, "high": 0.55}} for i, v in enumerate(values)]
    assert f"from {enough} network evaluations on" in steps._enough(load(runs[2]), "euler", line, {"JS": ()})


def test_intervals_that_overlap_decide_no_claim():
    row = lambda low, high: {"value": (low + high) / 2, "low": low, "high": high}  # noqa: E731
    at = paper.At({("flow", "mel", "js"): row(0.1, 0.3), ("l1", "mel", "js"): row(0.2, 0.4),
                   ("diffusion", "mel", "js"): row(0.5, 0.6)})  # fmt: skip
    verdict = lambda *args: paper._claim("", [paper._compared(at, *args)]).verdict  # noqa: E731
    assert verdict("flow", "l1", "mel", "js", False) == paper.UNDECIDED
    assert verdict("flow", "diffusion", "mel", "js", False) == paper.REPRODUCED
    assert verdict("flow", "diffusion", "mel", "js", True) == paper.NOT
    assert verdict("flow", "gone", "mel", "js", True) == paper.UNTESTABLE


def test_latex_escapes():
    made = outputs.latex("50 % of a_b", ["τ", "x & y"], [["1", "0.5\n0.4–0.6"]])
    assert r"50 \% of a\_b" in made and r"$\tau$ & x \& y \\" in made and r"0.5 {\scriptsize (0.4--0.6)}" in made
