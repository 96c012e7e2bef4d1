"""Mel, f0, durations, pooling: against the reference implementation, exact truth and invariants."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_gen.align import Segment
from tts_gen.config import Audio, UserError
from tts_gen.features import durations, pitch
from tts_gen.features.mel import log_mel
from tts_gen.features.pooling import interpolate_unvoiced, pool_log_f0
from tts_gen.text import Phoneme

AUDIO = Audio()
GOLDEN = Path(__file__).parent / "golden" / "hifigan_mel.npz"


def harmonic(f0: np.ndarray) -> np.ndarray:
    """[n] float32, a voice-like sum of harmonics with fundamental f0[n] Hz."""
    phase = 2 * np.pi * np.cumsum(f0) / AUDIO.sample_rate
    return (0.2 * sum(np.sin(k * phase) / k for k in range(1, 10))).astype(np.float32)


@pytest.mark.parametrize("clip", [0, 1])
def test_mel_equals_hifigan(clip):
    golden = np.load(GOLDEN)
    difference = np.abs(log_mel(golden[f"wav_{clip}"], AUDIO) - golden[f"mel_{clip}"].T)
    assert difference.max() < 1e-3 and difference.mean() < 1e-5


@pytest.mark.parametrize("extra", [0, 1, 255])
def test_mel_has_one_frame_a_whole_hop(extra):
    mel = log_mel(np.zeros(20 * AUDIO.hop + extra, np.float32), AUDIO)
    assert mel.shape == (20, AUDIO.n_mels) and mel.dtype == np.float32
    np.testing.assert_allclose(mel, np.log(1e-5), atol=3.0)  # silence stands near the clip, finite


def test_mel_of_too_short_a_wave_is_an_error():
    with pytest.raises(ValueError, match="384 samples"):
        log_mel(np.zeros(384, np.float32), AUDIO)


@pytest.mark.parametrize(("method", "tolerance"), [("dio", 0.3), ("pyin", 2.5)])
def test_f0_stands_at_the_frame_centres(method, tolerance):
    n = 80 * AUDIO.hop + 100
    truth = 120 + 100 * np.arange(n) / AUDIO.sample_rate  # a rise of 1.2 Hz a frame shows a shift of a fraction of one
    contour = pitch.f0(harmonic(truth), AUDIO, method)
    assert contour.shape == (80,) and contour.dtype == np.float32
    inner = slice(5, 75)
    assert (contour[inner] > 0).all()
    error = contour[inner] - truth[np.arange(80) * AUDIO.hop + AUDIO.hop // 2][inner]
    assert np.abs(error).max() < tolerance and abs(error.mean()) < tolerance / 4


def test_f0_of_noise_is_unvoiced():
    noise = np.random.default_rng(0).normal(0, 0.1, AUDIO.sample_rate).astype(np.float32)
    assert (pitch.f0(noise, AUDIO) > 0).mean() < 0.2


@pytest.mark.parametrize("floor", [0.0, 0.05, 0.2])
def test_voicing_is_that_of_world(floor):
    """Voice, a buzz under hissing, silence and a creak: frame by frame what pyworld's own D4C decides."""
    import pyworld

    rng = np.random.default_rng(0)
    f0 = np.concatenate([np.linspace(90, 280, 40000), np.full(20000, 180.0), np.linspace(75, 62, 20000)])
    wave = harmonic(f0).astype(np.float64)
    wave[40000:60000] = 0.1 * wave[40000:60000] + 0.05 * np.diff(rng.standard_normal(20001))
    wave[50000:54000] = 0
    wave += floor * rng.standard_normal(len(wave)) * (np.arange(len(wave)) % 30000 > 12000)
    rough, times = pyworld.dio(wave, AUDIO.sample_rate, f0_floor=pitch.F0_MIN, f0_ceil=pitch.F0_MAX,
                               frame_period=1000 * AUDIO.frame_seconds)  # fmt: skip
    contour = pyworld.stonemask(wave, rough, times, AUDIO.sample_rate)
    aperiodicity = pyworld.d4c(wave, contour, times, AUDIO.sample_rate, threshold=pitch.VOICING_THRESHOLD)
    voiced = aperiodicity[:, 0] < 0.999
    found = pitch.f0(np.concatenate([np.zeros(AUDIO.hop // 2), wave]), AUDIO)
    np.testing.assert_array_equal(found, np.where(voiced, contour, 0)[: len(found)].astype(np.float32))
    assert 0.2 < voiced.mean() < 0.95 and (contour[~voiced] > 0).any()


def test_f0_method_is_checked():
    with pytest.raises(UserError, match="crepe.*dio, pyin"):
        pitch.f0(np.zeros(5000, np.float32), AUDIO, "crepe")


def segments(lengths) -> list[Segment]:
    ends = np.cumsum(lengths)
    return [Segment(Phoneme("AH"), float(end - length), float(end)) for length, end in zip(lengths, ends, strict=True)]


@given(st.lists(st.floats(0.0, 0.3), min_size=1, max_size=40), st.integers(0, AUDIO.hop - 1))
def test_fitted_durations_fill_the_frames(lengths, remainder):
    samples = sum(lengths) * AUDIO.sample_rate + remainder
    n_frames = int(samples // AUDIO.hop)
    if n_frames < len(lengths):
        with pytest.raises(ValueError, match="phonemes in"):
            durations.fit(segments(lengths), n_frames, AUDIO)
        return
    fitted = durations.fit(segments(lengths), n_frames, AUDIO)
    assert fitted.sum() == n_frames and fitted.min() >= 1 and fitted.dtype == np.int32
    if min(lengths) > 1.5 * AUDIO.frame_seconds:  # nothing to borrow: no boundary moves by more than rounding
        ends = np.cumsum(lengths) / AUDIO.frame_seconds
        assert np.abs(np.cumsum(fitted) - ends)[:-1].max(initial=0) <= 0.5 + 1e-6


def test_a_segment_too_short_borrows_from_its_neighbour():
    frame = AUDIO.frame_seconds
    assert durations.fit(segments([5 * frame, 0.1 * frame, 5 * frame]), 10, AUDIO).tolist() == [5, 1, 4]
    assert durations.fit(segments([9.9 * frame, 0.05 * frame, 0.05 * frame]), 10, AUDIO).tolist() == [8, 1, 1]


@pytest.mark.parametrize(
    ("times", "message"),
    [([(0, 0.5), (0.5, 0.9)], "end at 0.900"), ([(0, 0.4), (0.5, 1)], "gaps"), ([(0.2, 0.5), (0.5, 1)], "gaps")],
)
def test_segments_that_do_not_fill_are_an_error(times, message):
    n_frames = int(AUDIO.sample_rate // AUDIO.hop)
    with pytest.raises(ValueError, match=message):
        durations.fit([Segment(Phoneme("AH"), *time) for time in times], n_frames, AUDIO)


frames = st.lists(st.floats(0.05, 60.0), min_size=1, max_size=40).map(np.array)


@given(frames)
def test_rounded_durations_keep_the_total(x):
    rounded = durations.round_durations(x)
    assert rounded.min() >= 1 and rounded.dtype == np.int32
    total = (x - 0.5).sum()
    assert rounded.sum() == len(x) if total < len(x) - 0.5 else abs(rounded.sum() - total) < 1
    if x.min() >= 2:  # a single frame can only be added to
        assert np.abs(rounded - np.floor(x)).max() <= 1


@given(frames, st.integers(0, 5))
def test_masked_positions_do_not_matter(x, padding):
    padded = np.stack([np.concatenate([x, np.full(padding, np.nan)])] * 2)
    rounded = durations.round_durations(padded, np.arange(padded.shape[1])[None] < np.full((2, 1), len(x)))
    assert (rounded[:, len(x) :] == 0).all()
    assert (rounded[:, : len(x)] == durations.round_durations(x)).all()


def test_rounding_undoes_dequantisation_in_distribution():
    rng = np.random.default_rng(1)
    truth = rng.geometric(0.2, (400, 25))
    rounded = durations.round_durations(truth + rng.uniform(size=truth.shape))
    assert abs(rounded.mean() - truth.mean()) < 0.02
    assert abs(rounded.std() / truth.std() - 1) < 0.01
    assert (rounded == truth).mean() > 0.9  # the rest are the single frames that keep each total


def test_durations_must_be_finite_and_positive():
    with pytest.raises(ValueError, match="finite and positive"):
        durations.round_durations(np.array([1.0, np.inf]))


def test_pooling_needs_enough_voiced_frames():
    f0 = np.array([100, 400, 0, 0, 200, 0, 0, 0, 200, 200, 0, 0, 0, 0, 0, 0, 150, 150], float)
    duration = np.array([4, 4, 8, 2])
    is_pause = np.array([False, False, False, True])
    pooled = pool_log_f0(f0, duration, is_pause)
    assert pooled[0] == pytest.approx(np.log(200))  # the mean of logs, not the log of the mean
    assert np.isnan(pooled[1:]).all()  # one frame; two of eight; a pause


def test_pooling_takes_30_percent():
    f0 = np.array([120.0] * 3 + [0.0] * 7)
    assert pool_log_f0(f0, np.array([10]), np.array([False]))[0] == pytest.approx(np.log(120))


def test_interpolation():
    voiced = np.array([False, True, False, False, True, False])
    log_f0 = np.array([np.nan, 1.0, np.nan, np.nan, -2.0, np.nan], np.float32)
    np.testing.assert_allclose(interpolate_unvoiced(log_f0, voiced), [1, 1, 0, -1, -2, -2], atol=1e-6)
    assert (interpolate_unvoiced(log_f0, np.zeros(6, bool)) == 0).all()


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(-3, 3), st.booleans()), min_size=1, max_size=20))
def test_interpolation_keeps_what_is_voiced(values):
    log_f0, voiced = map(np.array, zip(*values, strict=True))
    filled = interpolate_unvoiced(log_f0, voiced)
    assert np.isfinite(filled).all() and (filled[voiced] == log_f0[voiced]).all()
