"""The built-in aligner against speech whose times are known, and how plausible an alignment is."""

import numpy as np
import pytest

from tts_gen.align import MIN_PAUSE, Aligner, AlignmentError, Segment
from tts_gen.align.quality import LIMITS, MIN_UTTERANCES, deviations, implausible, quality
from tts_gen.corpora.espeak import synthesize
from tts_gen.text import PAUSE, Phoneme, Word, parse, words

TEXT = "The old farmer carried home three loaves of bread, because the weather turned cold."


@pytest.fixture(scope="module")
def aligner():
    return Aligner()


@pytest.fixture(scope="module")
def speech():
    wave, sample_rate, symbols, durations = synthesize(TEXT)
    starts = np.cumsum([0, *durations[:-1]])
    return wave, sample_rate, [t for p, t in zip(parse(symbols), starts, strict=True) if p.edge & 1]


def test_word_starts_agree_with_the_truth(aligner, speech):
    wave, sample_rate, truth = speech
    segments = aligner.align(wave, sample_rate, words(TEXT))
    error = np.array([s.start for s in segments if s.phoneme.edge & 1]) - truth
    assert np.median(abs(error)) < 0.02 and np.quantile(abs(error), 0.9) < 0.12
    assert implausible(quality(segments)) is None


def test_segments_fill_the_audio_and_say_the_text(aligner, speech):
    wave, sample_rate, _ = speech
    segments = aligner.align(wave, sample_rate, words(TEXT))
    assert segments[0].start == 0 and segments[-1].end == len(wave) / sample_rate
    assert all(a.end == b.start and a.end > a.start for a, b in zip(segments, segments[1:]))
    assert segments[0].phoneme.symbol == segments[-1].phoneme.symbol == PAUSE  # silence of 0.1 s
    pauses = [s for s in segments if s.phoneme.symbol == PAUSE]
    assert all(s.end - s.start >= MIN_PAUSE for s in pauses)
    found, at = [s.phoneme for s in segments if s.phoneme.symbol != PAUSE], 0
    for word in words(TEXT):
        length = next(n for n in range(1, 20) if found[at + n - 1].edge & 2)
        said = found[at : at + length]
        assert any(parse([*v, word.punctuation or "|"]) == said for v in word.variants)
        at += length
    assert at == len(found)
    after_bread = next(
        i for i, s in enumerate(segments) if s.phoneme.punctuation == 1 and segments[i + 1].phoneme.symbol == PAUSE
    )
    assert segments[after_bread].phoneme == Phoneme("D", 0, 2, 1)


def test_takes_the_variant_that_was_said(aligner):
    variants = (("B", "AY1", "K"), ("HH", "AH0", "L", "OW0"), ("HH", "AH0", "L", "OW1"))
    wave, sample_rate, *_ = synthesize("hello")
    segments = aligner.align(wave, sample_rate, [Word("hello", variants, "")])
    assert [s.phoneme for s in segments if s.phoneme.symbol != PAUSE] == parse(variants[1])  # of equal phones the first


def test_result_does_not_depend_on_what_came_before(aligner, speech):
    wave, sample_rate, _ = speech
    rng = np.random.default_rng(0)
    with pytest.raises(AlignmentError):
        aligner.align(0.3 * rng.standard_normal(2 * sample_rate), sample_rate, words("Something else altogether."))
    assert aligner.align(wave, sample_rate, words(TEXT)) == Aligner().align(wave, sample_rate, words(TEXT))


@pytest.mark.parametrize(
    ("seconds", "level", "category"),
    [(0.0, 0.0, "too short"), (0.3, 0.0, "too short"), (61, 0.0, "too long"), (2, 0.3, "no hypothesis")],
)
def test_failures_name_their_category(aligner, seconds, level, category):
    noise = level * np.random.default_rng(0).standard_normal(int(seconds * 22050))
    with pytest.raises(AlignmentError) as failure:
        aligner.align(noise, 22050, words("Something else altogether."))
    assert str(failure.value) == category


SEGMENTS = [
    Segment(Phoneme(PAUSE), 0.0, 0.125),
    Segment(Phoneme("HH", 0, 1, 1), 0.125, 0.25),
    Segment(Phoneme("AY", 2, 2, 1), 0.25, 0.5),
    Segment(Phoneme(PAUSE), 0.5, 0.75),
    Segment(Phoneme("AH", 1, 3), 0.75, 0.875),
    Segment(Phoneme("L", 0, 1, 3), 0.875, 1.0),
    Segment(Phoneme("ə", 1, 2, 3), 1.0, 1.5),
]


def test_quality_figures():
    assert quality(SEGMENTS) == {
        "seconds_per_phone": 0.225, "share_at_floor": 0.0, "longest_phone": 0.5, "longest_pause": 0.25
    }  # fmt: skip
    assert implausible(quality(SEGMENTS)) == ("seconds per phone", "0.225, accepted is 0.045 to 0.2")


def test_quality_shows_that_nothing_was_said(aligner):
    figures = quality(aligner.align(np.zeros(3 * 22050), 22050, words("What is this, please?")))
    assert implausible(figures) is not None and figures["share_at_floor"] > LIMITS["share_at_floor"][1]


def test_deviations_are_from_the_speakers_own_median():
    rng = np.random.default_rng(0)
    scores = {f"a{i}": x for i, x in enumerate(rng.normal(-10, 3, 400))} | {
        f"b{i}": x for i, x in enumerate(rng.normal(-30, 3, 400))
    }
    speakers = {name: name[0] for name in scores}
    scores["a0"] = -30
    found = deviations(scores, speakers)
    values = np.array([found[name] for name in scores])
    assert abs(values.std() - 1) < 0.15 and abs(np.median(values)) < 0.1
    assert found["a0"] == min(values) == pytest.approx(-20 / 3, abs=0.7)


def test_deviations_of_few_utterances_are_from_all():
    scores = {f"a{i}": float(i % 7) for i in range(100)} | {"b0": -20.0}
    found = deviations(scores, {name: name[0] for name in scores})
    assert found["b0"] < -5 and len(scores) - 100 < MIN_UTTERANCES
    assert deviations({}, {}) == {} and deviations({"a": -3.0, "b": -3.0}, {"a": None, "b": None}) == {"a": 0, "b": 0}
