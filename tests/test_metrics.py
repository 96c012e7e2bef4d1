"""Every metric against an independent reference: scipy, a closed form, or brute force; and the rows made of them."""

import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import jensenshannon

from tts_gen.config import UserError
from tts_gen.evaluation import bootstrap, controls, mel, metrics, rows
from tts_gen.evaluation.headline import choose_temperatures, headline
from tts_gen.evaluation.pool import Pool
from tts_gen.evaluation.prosody import FEATURES, Prosody, floor_rows, prosody_rows

IDENTITY = {"task": "prosody", "family": "flow", "temperature": 1.0, "split": "test", "run": "a", "samples": 8}


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def world(rng, utterances=80, length=14) -> tuple[Prosody, np.ndarray, np.ndarray]:
    """An oracle whose log-f0 and log-duration are a known mean plus smooth noise that the mean does not tell; the noise
    is common to neighbours, as intonation is. Returns oracle, conditional mean [n, 2], and the noise [n, 2]."""
    n = utterances * length
    mean = rng.standard_normal((n, 2)) * [0.5, 0.6]
    noise = (
        np.repeat(rng.standard_normal((utterances, 2)), length, axis=0) * [0.8, 0.5] + rng.standard_normal((n, 2)) * 0.2
    )
    y = mean + noise
    pause = np.arange(n) % length == 0
    voiced = (rng.random(n) < 0.7) & ~pause
    utterance = np.arange(n) // length
    oracle = Prosody(
        log_f0=np.where(voiced, y[:, 0], np.nan),
        duration=to_frames(y[:, 1]),
        voiced=voiced,
        pause=pause,
        utterance=utterance,
        group=utterance // 2,
        speaker=np.where(utterance % 2, "ann", "bob"),
        phone_class=np.where(pause, "pause", np.where(voiced, "vowel", "stop")),
        log_f0_std=np.full(n, 0.2),
        frame_seconds=256 / 22050,
    )
    return oracle, mean, noise


def to_frames(y):
    return np.maximum(np.rint(np.exp(2 + 0.5 * y)), 1)


def pick(found, feature, metric, scope="overall"):
    (row,) = [r for r in found if (r["feature"], r["metric"], r["scope"]) == (feature, metric, scope)]
    return row


# The formulas


def test_js_is_scipys_distance_squared(rng):
    x, y = rng.standard_normal(2000), rng.standard_normal(2000) * 1.3 + 0.2
    edges = metrics.edges_for("log_f0", y)
    clipped = np.clip(edges, -1e9, 1e9)
    expected = jensenshannon(np.histogram(x, clipped)[0], np.histogram(y, clipped)[0], base=2) ** 2
    assert metrics.js(x, y, edges) == pytest.approx(expected, rel=1e-12)
    assert metrics.js(x, x, edges) == 0


def test_js_of_distributions_without_overlap_is_one_bit():
    edges = np.array([-np.inf, 0, 1, 2, np.inf])
    assert metrics.js(np.full(100, 5.0), np.linspace(0, 1.9, 100), edges) == pytest.approx(1)


def test_stated_small_sample_bias_of_js(rng):
    y = rng.random((60, 1000))  # uniform: all 50 inner bins alike
    edges = metrics.edges_for("log_f0", y)
    measured = np.mean([metrics.js(a, b, edges) for a, b in zip(y[::2], y[1::2])])
    assert measured == pytest.approx(49 * (2 / 1000) / (8 * np.log(2)), rel=0.08)


def test_edges():
    frames = np.repeat(np.arange(1, 21), 100)
    assert metrics.edges_for("duration", frames)[1:-1] == pytest.approx(np.arange(0.5, 21))
    assert metrics.edges_for("log_f0", np.arange(1001.0))[[1, -2]] == pytest.approx([1, 999])
    assert len(metrics.edges_for("log_f0", np.ones(9))) == metrics.BINS + 3, "a constant oracle still has bins"


def test_gaussian_closed_forms(rng):
    oracle, noise = rng.standard_normal(200_000), rng.standard_normal((2, 200_000))
    generated = 0.5 * oracle + 0.5 * noise
    assert metrics.std(generated) == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert metrics.std_ratio(generated, oracle) == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert metrics.rmse(generated, oracle) == pytest.approx(np.sqrt(0.5), rel=0.01)
    assert metrics.mae(generated, oracle) == pytest.approx(np.sqrt(0.5) * np.sqrt(2 / np.pi), rel=0.01)
    assert metrics.correlation(generated, oracle) == pytest.approx(np.sqrt(0.5), rel=0.01)


def test_fair_crps_of_a_gaussian(rng):
    y = np.linspace(-2, 2, 9)
    closed = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    assert metrics.crps_terms(rng.standard_normal((40_000, 9)), y) == pytest.approx(closed, abs=0.012)
    few = [metrics.crps(rng.standard_normal((3, 9)), y) for _ in range(4000)]
    assert np.mean(few) == pytest.approx(closed.mean(), abs=0.012), "no bias at K = 3"


def test_crps_by_brute_force_and_of_a_point(rng):
    x, y = rng.standard_normal((5, 30)), rng.standard_normal(30)
    gaps = np.abs(x[:, None] - x[None]).sum(axis=(0, 1)) / (5 * 4)
    assert metrics.crps_terms(x, y) == pytest.approx(np.abs(x - y).mean(axis=0) - gaps / 2)
    assert metrics.crps(x[0], y) == pytest.approx(metrics.mae(x[0], y))


def test_best_of_k_by_brute_force(rng):
    x, y, utterance = rng.standard_normal((8, 50)), rng.standard_normal(50), np.sort(rng.integers(0, 7, 50))
    best = [
        min(np.sqrt(np.mean((s[utterance == u] - y[utterance == u]) ** 2)) for s in x) for u in np.unique(utterance)
    ]
    assert metrics.best_of_k(x, y, utterance) == pytest.approx(np.mean(best))


def test_diversity(rng):
    assert metrics.diversity(rng.standard_normal((400, 500)) * 0.7) == pytest.approx(0.7, rel=0.01)
    assert metrics.diversity(rng.standard_normal(5)) == 0
    assert math.isnan(metrics.diversity(rng.standard_normal((1, 5))))


def test_differences_stay_within_utterances_and_skip_what_is_not_valid():
    x = np.array([[1.0, 2, 9, 4, 10, 20], [0, 1, 9, 5, 0, -1]])
    valid = np.array([True, True, False, True, True, True])
    found = metrics.differences(x, np.array([0, 0, 0, 0, 1, 1]), valid)
    assert found.tolist() == [[1, 2, 10], [1, 4, -1]]


def test_empty_pool_is_refused():
    for call in (metrics.rmse, metrics.std_ratio, metrics.wasserstein):
        with pytest.raises(ValueError, match="n >= 1"):
            call(np.zeros((8, 0)), np.zeros(0))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(-5, 5), st.floats(0.1, 4))
def test_shift_scale_and_order(seed, shift, scale):
    rng = np.random.default_rng(seed)
    x, y, utterance = rng.standard_normal((4, 40)), rng.standard_normal(40), np.arange(40) // 8
    moved, order = (x * scale + shift, y * scale + shift), rng.permutation(40)
    for metric in (metrics.rmse, metrics.mae, metrics.crps, metrics.wasserstein):
        assert metric(*moved) == pytest.approx(metric(x, y) * scale)
        assert metric(x[:, order], y[order]) == pytest.approx(metric(x, y))
    assert metrics.std_ratio(*moved) == pytest.approx(metrics.std_ratio(x, y))
    assert metrics.correlation(*moved) == pytest.approx(metrics.correlation(x, y))
    assert metrics.best_of_k(x[::-1], y, utterance) == pytest.approx(metrics.best_of_k(x, y, utterance))
    assert metrics.best_of_k(x, y, utterance) <= metrics.best_of_k(x[:1], y, utterance)


# Intervals


def test_estimates_equal_the_definitions(rng):
    x, y, utterance = rng.standard_normal((8, 300)), rng.standard_normal(300), np.arange(300) // 10
    pool = Pool("log_f0", x, y, utterance, utterance // 3)
    expected = {
        name: getattr(metrics, name)(x, y)
        for name in ("std_ratio", "wasserstein", "rmse", "mae", "correlation", "crps")
    }
    expected |= {
        "std": metrics.std(x),
        "diversity": metrics.diversity(x),
        "best_of_k": metrics.best_of_k(x, y, utterance),
    }
    expected["js"] = metrics.js(x, y, metrics.edges_for("log_f0", y))
    for name, value in expected.items():
        found = getattr(pool, name)()
        assert found.value == pytest.approx(value, rel=1e-9), name
        assert found.low < found.value < found.high, name


def test_draws_equal_recomputation_on_resampled_groups(rng):
    x, y, group = rng.standard_normal((3, 60)), rng.standard_normal(60), np.arange(60) // 10
    pool = Pool("log_f0", x, y, np.arange(60), group, n_boot=30)
    values = []
    for w in pool.weights:
        at = np.concatenate([np.flatnonzero(group == g) for g in range(6) for _ in range(int(w[g]))])
        values.append(metrics.std_ratio(x[:, at], y[at]))
    assert (pool.std_ratio().low, pool.std_ratio().high) == pytest.approx(bootstrap.spread(np.array(values)))


def test_interval_of_a_mean_covers_the_truth():
    """Group means vary, so positions are not independent: an interval over positions would cover far less."""
    covered = 0
    for trial in range(300):
        rng = np.random.default_rng(trial)
        group = np.arange(400) // 10
        error = np.repeat(rng.standard_normal(40), 10) + 0.3 * rng.standard_normal(400)
        pool = Pool("log_f0", 10 + error, np.zeros(400), np.arange(400), group, n_boot=300, seed=trial)
        found = pool.mae()
        covered += found.low <= 10 <= found.high
    assert 0.89 <= covered / 300 <= 0.98


def test_js_interval_is_not_moved_by_its_own_bias(rng):
    x, y = rng.standard_normal((1, 600)), rng.standard_normal(600)
    found = Pool("log_f0", x, y, np.arange(600), np.arange(600)).js()
    assert 0 <= found.low < found.value < found.high


def test_halves_of_equal_distributions_match_the_floor(rng):
    x, y = rng.standard_normal((8, 2000)), rng.standard_normal(2000)
    pool = Pool("log_f0", x, y, np.arange(2000), np.arange(2000) // 10)
    assert pool.js_half().value == pytest.approx(pool.floor("js").value, rel=0.15)
    assert pool.js().value < 0.7 * pool.js_half().value, "half the data, twice the bias"


# Rows


def test_rows_of_the_oracle_itself_are_perfect(rng):
    oracle, *_ = world(rng)
    found = prosody_rows(oracle, oracle, IDENTITY)
    for feature in FEATURES:
        assert pick(found, feature, "std_ratio")["value"] == pytest.approx(1)
        for metric in ("js", "rmse", "best_of_k", "crps", "wasserstein", "diversity"):
            assert pick(found, feature, metric)["value"] == pytest.approx(0, abs=1e-9)
    scopes = [r["scope"] for r in found]
    assert scopes == sorted(scopes, key=lambda s: s != "overall"), "overall first"
    assert {"speaker:ann", "speaker:bob", "class:stop", "class:vowel"} <= set(scopes)
    assert list(found[0])[: len(rows.FIELDS)] == list(rows.FIELDS)


def test_pool_excludes_pauses_and_unvoiced(rng):
    oracle, *_ = world(rng)
    wild = dataclasses.replace(
        oracle,
        log_f0=np.where(oracle.voiced, oracle.log_f0, 1e6),
        duration=np.where(oracle.pause, 1e6, oracle.duration),
    )
    found = prosody_rows(wild, oracle, IDENTITY)
    assert pick(found, "log_f0", "rmse")["value"] == pick(found, "duration", "rmse")["value"] == 0
    assert pick(found, "log_f0", "rmse")["n"] == oracle.voiced.sum()
    assert pick(found, "duration", "rmse")["n"] == (~oracle.pause).sum()


def test_readable_units(rng):
    oracle, *_ = world(rng)
    octave = np.log(2) / 0.2  # in standard deviations of the speaker
    moved = dataclasses.replace(oracle, log_f0=oracle.log_f0 + octave, duration=oracle.duration + 10)
    found = prosody_rows(moved, oracle, IDENTITY)
    assert pick(found, "log_f0", "rmse_cents")["value"] == pytest.approx(1200)
    assert pick(found, "log_f0", "mae_cents")["value"] == pytest.approx(1200)
    assert pick(found, "duration", "rmse_ms")["value"] == pytest.approx(10 * 256 / 22.05)


def test_no_voiced_phonemes_and_broken_samples_are_null_with_a_reason(rng, tmp_path):
    oracle, *_ = world(rng)
    mute = dataclasses.replace(oracle, voiced=np.zeros_like(oracle.voiced))
    found = prosody_rows(mute, mute, IDENTITY)
    assert pick(found, "log_f0", "js")["value"] is None and "no voiced" in pick(found, "log_f0", "js")["why"]
    assert pick(found, "duration", "js")["value"] == 0

    broken = dataclasses.replace(oracle, duration=np.where(np.arange(len(oracle.voiced)) == 5, np.nan, oracle.duration))
    found = prosody_rows(broken, oracle, IDENTITY) + floor_rows(mute, {"task": "prosody"})
    assert "1 of" in pick([r for r in found if r["family"] == "flow"], "duration", "std")["why"]
    rows.write(found, tmp_path / "summary.json")
    assert "NaN" not in (tmp_path / "summary.json").read_text()


def test_one_group_has_values_but_no_interval(rng):
    oracle, *_ = world(rng, utterances=1, length=30)
    generated = dataclasses.replace(oracle, log_f0=rng.standard_normal((1, 30)))
    found = prosody_rows(generated, oracle, IDENTITY)
    row = pick(found, "log_f0", "rmse")
    assert row["value"] > 0 and row["low"] is None and row["high"] is None
    assert "halves" in pick(found, "log_f0", "js_half")["why"]
    assert "one random sample" in pick(found, "log_f0", "crps")["why"]


def test_flat_prediction(rng):
    oracle, *_ = world(rng)
    flat = dataclasses.replace(oracle, log_f0=np.full(len(oracle.voiced), 0.3))
    found = prosody_rows(flat, oracle, IDENTITY)
    assert pick(found, "log_f0", "std_ratio")["value"] == 0
    assert pick(found, "log_f0", "correlation")["value"] is None
    assert "generated values are constant" in pick(found, "log_f0", "correlation")["why"]


def test_controls_look_good_on_marginals_and_lose_where_it_counts(rng):
    """The truth here is known: model samples share their noise within an utterance, as the oracle does."""
    oracle, mean, noise = world(rng, utterances=300)
    target = mean + noise
    calibration = controls.calibrate(mean, target, oracle.voiced, oracle.pause)
    assert calibration.residual_std == pytest.approx([np.hypot(0.8, 0.2), np.hypot(0.5, 0.2)], rel=0.08)
    smooth = np.repeat(rng.standard_normal((8, 300, 2)), 14, axis=1) * [0.8, 0.5]
    y = mean + smooth + rng.standard_normal((8, *mean.shape)) * 0.2
    model = dataclasses.replace(oracle, log_f0=y[..., 0], duration=to_frames(y[..., 1]))
    sets = controls.controls(oracle, mean, calibration, to_frames) | {"model": model}
    sets["l2"] = dataclasses.replace(oracle, log_f0=mean[:, 0], duration=to_frames(mean[:, 1]))
    found = {name: prosody_rows(s, oracle, IDENTITY, n_boot=20) for name, s in sets.items()}

    def value(name, metric, feature="log_f0"):
        return pick(found[name], feature, metric)["value"]

    theory = 0.5 / np.sqrt(0.5**2 + 0.8**2 + 0.2**2)
    assert value("l2", "std_ratio") == pytest.approx(theory, rel=0.08)
    for name in ("model", "control:l2+noise", "control:l2_rescaled"):
        assert value(name, "std_ratio") == pytest.approx(1, abs=0.08)
        assert value(name, "js") < value("l2", "js") / 2
    assert value("control:shuffled", "std_ratio") == pytest.approx(1)
    for feature in ("log_f0", "duration"):
        noisy = value("control:l2+noise", "best_of_k", feature)
        assert value("model", "best_of_k", feature) < 0.8 * noisy
        assert value("model", "js", f"d_{feature}") < value("control:l2+noise", "js", f"d_{feature}") / 2


def test_shuffling_keeps_each_class(rng):
    oracle, *_ = world(rng)
    found = controls.shuffled(oracle, samples=2)
    for value in np.unique(oracle.phone_class):
        at = oracle.phone_class == value
        assert np.array_equal(np.sort(found.duration[1, at]), np.sort(oracle.duration[at]))
    assert np.isfinite(found.log_f0[:, oracle.voiced]).all()
    assert not np.array_equal(found.duration[0], found.duration[1])


# Mels


def test_mel_metrics_against_direct_computation(rng):
    oracle = [rng.standard_normal((t, 5)) * [1, 2, 3, 4, 5] for t in (40, 60, 50)]
    generated = [o * 0.5 + rng.standard_normal(o.shape) for o in oracle]
    a, b = np.concatenate(generated), np.concatenate(oracle)
    assert mel.mel_l1(generated, oracle) == pytest.approx(np.abs(a - b).mean())
    assert mel.bin_std_ratio(generated, oracle) == pytest.approx(a.std(axis=0) / b.std(axis=0))
    d = [np.concatenate([np.diff(m, axis=0) for m in mels]).std(axis=0) for mels in (generated, oracle)]
    assert mel.bin_std_ratio(generated, oracle, axis=-2) == pytest.approx(d[0] / d[1])
    edges = mel.bin_edges(oracle)
    assert mel.bin_js(generated, oracle, edges)[3] == pytest.approx(metrics.js(a[:, 3], b[:, 3], edges[3]))
    found = {r["metric"]: r for r in mel.mel_rows(generated, oracle, ["a", "b", "c"], IDENTITY)}
    assert found["mel_l1"]["value"] == pytest.approx(np.abs(a - b).mean())
    assert found["js"]["value"] == pytest.approx(mel.bin_js(generated, oracle, edges).mean())
    assert found["std_ratio"]["low"] <= found["std_ratio"]["value"] <= found["std_ratio"]["high"]
    twice = {
        r["metric"]: r["value"] for r in mel.mel_rows([np.stack((g, g)) for g in generated], oracle, "abc", IDENTITY)
    }
    assert twice == pytest.approx({k: r["value"] for k, r in found.items()})


def test_mel_differences_tell_smear_and_grain(rng):
    oracle = [np.cumsum(rng.standard_normal((80, 8)), axis=0) * 0.3 for _ in range(6)]
    smear = [np.stack([np.convolve(m[:, i], np.ones(5) / 5, "same") for i in range(8)], axis=1) for m in oracle]
    grain = [m + rng.standard_normal(m.shape) * 0.6 for m in oracle]
    value = {}
    for name, mels in (("smear", smear), ("grain", grain)):
        value |= {(name, r["metric"]): r["value"] for r in mel.mel_rows(mels, oracle, range(6), IDENTITY)}
    assert value["grain", "d_time_std_ratio"] > 2 > 1.3 > value["grain", "std_ratio"]
    assert value["smear", "d_time_std_ratio"] < 0.8 < value["smear", "std_ratio"]


def test_mel_edge_cases(rng):
    oracle = [np.concatenate((rng.standard_normal((30, 3)), np.full((30, 1), np.log(1e-5))), axis=1) for _ in range(4)]
    found = {r["metric"]: r for r in mel.mel_rows(oracle, oracle, "abcd", IDENTITY)}
    assert found["std_ratio"]["value"] == pytest.approx(1), "a bin that is constant in the oracle is left out"
    with pytest.raises(UserError, match="utterance 1: generated mel"):
        mel.mel_rows([oracle[0], oracle[1][:-1], *oracle[2:]], oracle, "abcd", IDENTITY)
    broken = [oracle[0] * np.inf, *oracle[1:]]
    assert all(r["value"] is None and "not finite" in r["why"] for r in mel.mel_rows(broken, oracle, "abcd", IDENTITY))
    floor = {r["metric"]: r for r in mel.mel_floor_rows(oracle, "abcd", IDENTITY)}
    assert floor["js"]["family"] == "floor" and floor["js"]["temperature"] is None
    assert floor["std_ratio"]["value"] == pytest.approx(1, abs=0.2)


# summary.json and the headline


def test_rows_file_round_trip_and_failures(tmp_path):
    path = tmp_path / "summary.json"
    made = [
        rows.make_row(IDENTITY, "log_f0", "js", float("nan"), 0.1, 0.2, 5, scope="speaker:joe", why="constant"),
        rows.make_row(IDENTITY, "log_f0", "js", np.float32(0.5), math.nan, None, np.int64(5)),
    ]
    rows.write(made, path)
    assert rows.read(path) == made[::-1]
    assert json.loads(path.read_text())[1] | {"value": None, "low": None, "why": "constant"} == rows.read(path)[1]
    with pytest.raises(ValueError, match="no metric"):
        rows.make_row(IDENTITY, "log_f0", "jsd", 1.0)
    with pytest.raises(ValueError, match="identity has no speed"):
        rows.make_row({"speed": 1}, "log_f0", "js", 1.0)
    with pytest.raises(UserError, match="no such file"):
        rows.read(tmp_path / "none.json")
    for text, message in (("{", "not JSON"), ("{}", "expected a list"), ('[{"task": 1}]', "row 0 lacks family")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            rows.read(path)


def test_csv_and_markdown(tmp_path):
    made = [rows.make_row(IDENTITY | {"run": "a|b"}, "log_f0", "js", 1 / 3)]
    rows.write_csv(made, tmp_path / "t.csv")
    assert repr(1 / 3) in (tmp_path / "t.csv").read_text()
    assert "a\\|b" in rows.markdown(*rows.table(made))
    assert rows.markdown(["x"], [["1\n0–2"]]).splitlines()[-1] == "| 1 (0–2) |"


def test_temperature_is_chosen_on_validation_rows_only():
    def row(temperature, value, split="val", feature="log_f0"):
        return rows.make_row(IDENTITY | {"temperature": temperature, "split": split}, feature, "js", value)

    val = [row(0.5, 0.3), row(1.0, 0.02), row(1.2, None), row(1.0, 0.03, feature="d_log_f0")]
    assert choose_temperatures(val, "prosody") == {("flow", "a"): 1.0}
    with pytest.raises(ValueError, match="split 'val'"):
        choose_temperatures([*val, row(1.0, 0.1, split="test")], "prosody")


def test_headline_shows_the_chosen_temperature_with_controls_and_floor(rng):
    oracle, mean, noise = world(rng)
    flow = [prosody_rows(oracle, oracle, IDENTITY | {"temperature": t}) for t in (0.5, 1.0)]
    other = {"temperature": None, "run": None}
    control = prosody_rows(oracle, oracle, IDENTITY | other | {"family": "control:l2+noise"})
    bits = rows.make_row(IDENTITY | {"temperature": None}, "log_f0", "bits_per_dim", 1.5)
    found = [*flow[0], *flow[1], *control, *floor_rows(oracle, IDENTITY | other), bits]
    tables = headline(found, "prosody", {("flow", "a"): 1.0})
    caption, header, cells = tables[0]
    assert [c[:2] for c in cells] == [["Flow", "1"], ["Control: L2 + noise", ""], ["Floor: oracle halves", ""]]
    assert header[-1] == "bits/dim" and cells[0][-1] == "1.50" and cells[1][-1] == "–"
    assert cells[0][2].startswith("1.00\n1.00")
    assert len(tables) == 2 and all(len(c) == len(header) for c in cells)
