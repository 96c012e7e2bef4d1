"""Cepstral distance, warping, global variance, modulation spectrum; f0 errors."""

import librosa
import numpy as np
import pytest
from scipy import signal

from tts_gen.evaluation import mel_metrics, voicing


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_mcd_with_all_cepstra_is_the_rms_difference_in_db(rng):
    a, b = rng.standard_normal((2, 20, mel_metrics.CEPSTRA + 1))
    d = a - b - (a - b).mean(axis=1, keepdims=True)
    expected = 20 / np.log(10) * np.sqrt((d**2).mean(axis=1))
    assert mel_metrics.mcd_frames(a, b) == pytest.approx(expected)


def test_cepstra_rebuild_a_smooth_mel(rng):
    m, c = np.arange(80) + 0.5, rng.standard_normal(13)
    mel = 3 + sum(c[d - 1] * np.cos(np.pi * d * m / 80) for d in range(1, 14))
    assert mel_metrics.cepstra(mel[None])[0] == pytest.approx(c)


def test_loudness_is_no_distortion(rng):
    a = rng.standard_normal((2, 9, 80))
    assert mel_metrics.mcd_frames(a + 5, a[0])[0] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("lengths", [(30, 41), (25, 8), (1, 12), (12, 1), (1, 1)])
def test_warping_is_the_cheapest_path(rng, lengths):
    a, b = (np.cumsum(rng.standard_normal((t, 3)), axis=0) for t in lengths)
    left, right = mel_metrics.warping(a, b)
    cost = np.linalg.norm(a[left] - b[right], axis=1).sum()
    assert cost == pytest.approx(librosa.sequence.dtw(a.T, b.T, backtrack=False)[-1, -1])
    steps = np.diff(np.stack((left, right)), axis=1)
    assert (left[0], right[0], left[-1], right[-1]) == (0, 0, lengths[0] - 1, lengths[1] - 1)
    assert set(map(tuple, steps.T)) <= {(0, 1), (1, 0), (1, 1)}


def test_dtw_forgives_timing_alone(rng):
    mel = np.cumsum(rng.standard_normal((60, 80)), axis=0)
    slow = np.repeat(mel, 2, axis=0)
    total, steps = mel_metrics.mcd_dtw(slow, mel)
    assert total == pytest.approx(0, abs=1e-9) and steps == 120
    assert mel_metrics.mcd_dtw(mel + rng.standard_normal(mel.shape), mel)[0] > 1


def test_modulation_power_is_welchs(rng):
    mel = rng.standard_normal((2, 300, 4))
    power, segments = mel_metrics.modulation_power(mel)
    size = mel_metrics.SEGMENT
    _, welch = signal.welch(mel, window="hann", nperseg=size, noverlap=size // 2, scaling="spectrum", axis=1)
    ratio = power / segments / np.moveaxis(welch, 1, -1)[..., 1:]
    assert ratio[..., :-1] == pytest.approx(ratio[0, 0, 0]), "but for the factor 2 of one-sided spectra at the last"
    assert mel_metrics.modulation_power(mel[:, : size - 1])[1] == 0


def test_modulation_distance_and_global_variance_of_a_louder_signal(rng):
    mel = rng.standard_normal((200, 6))
    mel[:, 2] = np.log(1e-5)  # silent above a telephone band
    powers = [mel_metrics.modulation_power(m)[0] for m in (2 * mel, mel)]
    assert mel_metrics.modulation_distance(*powers) == pytest.approx(20 * np.log10(2))
    variance = [mel_metrics.global_variance(m) for m in (2 * mel, mel)]
    assert variance[0][:2] == pytest.approx(4 * mel[:, :2].var(axis=0)) and variance[1][2] == 0
    assert np.isnan(mel_metrics.modulation_distance(powers[0] * 0, powers[1]))


def test_errors_of_f0_by_hand():
    oracle = np.array([0, 0, 100, 100, 100, 100, 200, 0.0])
    generated = np.array([0, 90, 100, 121, 79, 0, 200 * 2 ** (1 / 12), 0])
    e = voicing.errors(generated, oracle)
    assert (e.frames, e.both_voiced, e.gross, e.voicing) == (8, 4, 2, 2)
    summed = np.array(e, float)
    assert voicing.gpe(summed) == 0.5 and voicing.vde(summed) == 0.25 and voicing.ffe(summed) == 0.5
    cents = [0, 1200 * np.log2(1.21), 1200 * np.log2(0.79), 100]
    assert voicing.rmse_cents(summed) == pytest.approx(np.sqrt(np.mean(np.square(cents))))
    silent = np.array(voicing.errors(oracle * 0, oracle), float)
    assert np.isnan(voicing.gpe(silent)) and voicing.vde(silent) == 5 / 8


def test_f0_tracks_that_cannot_be_compared_are_refused():
    for bad, message in (
        (np.zeros(3), "aligned"),
        (np.array([1.0, np.nan]), "not finite"),
        (np.array([-1.0, 0]), "below 0"),
    ):
        with pytest.raises(ValueError, match=message):
            voicing.errors(bad, np.zeros(2))
