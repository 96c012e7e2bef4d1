"""Recordings: what is read is what was written, in any format; what is wrong with a file is named."""

import os
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tts_gen.features.sound import CLIPPED, SILENCE, Recording, Unusable, load

RATE = 16000


def speech_like(seconds: float = 2.0) -> np.ndarray:
    """[n] a tone that swells and fades, as syllables do."""
    t = np.arange(round(seconds * RATE)) / RATE
    return 0.5 * np.sin(2 * np.pi * 150 * t) * np.abs(np.sin(2 * np.pi * 1.7 * t))


def reason(path: Path) -> tuple[str, str]:
    with pytest.raises(Unusable) as caught:
        load(path).check()
    return caught.value.reason, caught.value.detail


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"format": "WAV", "subtype": "PCM_U8"}, 0.01),
        ({"format": "WAV", "subtype": "PCM_24"}, 1e-6),
        ({"format": "WAV", "subtype": "FLOAT"}, 1e-7),
        ({"format": "WAV", "subtype": "DOUBLE"}, 1e-7),
        ({"format": "AIFF"}, 1e-4),
        ({"format": "FLAC"}, 1e-4),
        ({"format": "OGG", "subtype": "VORBIS"}, 0.05),
        ({"format": "OGG", "subtype": "OPUS"}, 0.05),
        ({"format": "MP3"}, 0.05),
    ],
)
def test_formats(tmp_path, options, tolerance):
    wave = speech_like()
    soundfile.write(tmp_path / "a", np.stack([1.2 * wave, 0.8 * wave], axis=1), RATE, **options)
    recording = load(tmp_path / "a")
    assert (recording.rate, recording.seconds, recording.wave.dtype) == (RATE, 2.0, np.float32)
    assert np.abs(recording.wave - wave).max() < tolerance
    recording.check()


def test_no_more_is_read_than_asked_for(tmp_path):
    soundfile.write(tmp_path / "a.flac", speech_like(30), RATE)
    recording = load(tmp_path / "a.flac", most=13.0)
    assert len(recording.wave) == 13 * RATE and recording.seconds == 30.0
    assert reason(tmp_path / "a.flac") == ("too long", "seconds 30, accepted is at most 12")


@pytest.mark.parametrize("options", [{"format": "WAV"}, {"format": "AIFF"}, {"format": "OGG"}])
def test_a_file_that_ends_too_early(tmp_path, options):
    soundfile.write(tmp_path / "a", speech_like(11), RATE, **options)
    data = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(data[: 2 * len(data) // 3])
    assert reason(tmp_path / "a")[0] == "truncated audio"


def test_a_wav_file_from_a_pipe_has_no_length(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech_like(), RATE, subtype="PCM_16")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "a.wav").write_bytes(data)
    assert load(tmp_path / "a.wav").seconds == 2.0


def test_what_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "text").write_text("no sound")
    found = {name: reason(tmp_path / name) for name in ("none", "pipe", "loop", "text", "", "x" * 300, "a\0b")}
    assert {name for name, (why, _) in found.items() if why == "unreadable audio"} == set(found) - {"none"}
    assert found["none"][0] == "missing audio" and found[""][1] == "is a folder" and found["pipe"][1] == "is not a file"


def test_level_is_that_of_speech_and_not_of_clicks_or_pauses():
    tone = np.sqrt(2) * 0.1 * np.sin(2 * np.pi * 200 * np.arange(RATE // 5) / RATE)  # -20 dB
    for pause in (RATE, 9 * RATE):
        wave = np.concatenate([np.zeros(pause), tone]).astype(np.float32)
        assert Recording(wave, RATE, len(wave) / RATE).level == pytest.approx(-20, abs=0.2)
    click = np.zeros(RATE, np.float32)
    click[5000:5100] = 0.9
    assert Recording(click, RATE, 1.0).level < SILENCE


def test_clipping_is_flat_tops(tmp_path):
    wave = np.random.default_rng(0).normal(0, 0.2, RATE).astype(np.float32)
    wave = np.convolve(wave, np.hanning(20) / 5, "same").astype(np.float32)  # smooth, as a recording's samples are
    peak = np.abs(wave).max()
    shares = [Recording(np.clip(wave, -c * peak, c * peak), RATE, 1.0).clipped for c in (1.0, 0.8, 0.5, 0.2)]
    assert shares[0] == 0 and shares == sorted(shares) and shares[-1] > CLIPPED
    exact = np.clip(wave, -0.2 * peak, 0.2 * peak)
    top = np.abs(exact) >= 0.2 * peak
    runs = np.split(top, np.flatnonzero(np.diff(top)) + 1)
    assert shares[-1] == pytest.approx(sum(len(r) for r in runs if r[0] and len(r) >= 3) / RATE, abs=1e-3)
    soundfile.write(tmp_path / "a.wav", exact, RATE)
    assert reason(tmp_path / "a.wav")[0] == "clipping"


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda w: np.where(np.arange(len(w)) == 99, np.nan, w), "samples not finite"),
        (lambda w: np.where(np.arange(len(w)) == 99, np.inf, w), "samples not finite"),
        (lambda w: 32767 * w, "samples not in -1..1"),
        (lambda w: 1e-4 * w, "silence"),
        (lambda w: w[:100], "too short"),
        (lambda w: w[:0], "too short"),
    ],
)
def test_samples_nobody_can_use(tmp_path, spoil, why):
    soundfile.write(tmp_path / "a.wav", spoil(speech_like()), RATE, subtype="FLOAT")
    assert reason(tmp_path / "a.wav")[0] == why


def test_a_rate_below_the_telephones(tmp_path):
    soundfile.write(tmp_path / "a.wav", speech_like(), 4000)
    assert reason(tmp_path / "a.wav") == ("sampling rate too low", "Hz 4000, accepted is at least 8000")
