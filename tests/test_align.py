"""Alignment: against speech whose times are known, and TextGrid files as other aligners write them."""

import numpy as np
import pytest

from tts_gen.align import MIN_PAUSE, Aligner, AlignmentError, Segment, textgrid
from tts_gen.align.quality import LIMITS, implausible, quality
from tts_gen.config import UserError
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
    assert np.median(abs(error)) < 0.02 and abs(error).max() < 0.12
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


def test_textgrid_round_trip(tmp_path):
    textgrid.write(tmp_path / "a.TextGrid", SEGMENTS)
    assert textgrid.read(tmp_path / "a.TextGrid", 1.5) == SEGMENTS
    assert (tmp_path / "a.TextGrid").read_text().startswith('File type = "ooTextFile"\nObject class = "TextGrid"')


def _short(tiers: dict[str, list[tuple[float, float, str]]], end: float) -> str:
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", str(end), "<exists>", str(len(tiers))]
    for name, intervals in tiers.items():
        lines += ['"IntervalTier"', f'"{name}"', "0", str(end), str(len(intervals))]
        lines += [str(x) if not isinstance(x, str) else f'"{x}"' for interval in intervals for x in interval]
    return "\n".join(lines) + "\n"


MFA = {
    "anna - words": [(0, 0.1, ""), (0.1, 0.4, "hi"), (0.4, 0.5, "a"), (0.5, 0.9, ""), (0.9, 1.0, "")],
    "anna - phones": [
        (0, 0.1, "sil"),
        (0.1, 0.2, "HH"),
        (0.2, 0.4, "AY1"),
        (0.4, 0.5, "AH0"),
        (0.5, 0.9, "sp"),
        (0.9, 1.0, "spn"),
    ],
}
MAUS = {
    "ORT-MAU": [(0, 0.1, ""), (0.1, 0.4, "hi"), (0.4, 0.5, "a,"), (0.5, 1.0, "")],
    "KAN-MAU": [(0, 0.1, ""), (0.1, 0.4, "haI"), (0.4, 0.5, "@"), (0.5, 1.0, "")],
    "MAU": [(0, 0.1, "<p:>"), (0.1, 0.2, "h"), (0.2, 0.4, "aI"), (0.4, 0.5, "@"), (0.5, 1.0, "<p:>")],
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize(
    ("tiers", "phones", "mark"), [(MFA, ["HH", "AY", "AH"], 0), (MAUS, ["h", "aI", "@"], 1)], ids=["mfa", "maus"]
)
def test_reads_what_other_aligners_write(tmp_path, tiers, phones, mark, encoding):
    path = tmp_path / "a.TextGrid"
    path.write_text(_short(tiers, 1.0), encoding=encoding)
    segments = textgrid.read(path, 1.02)
    assert [s.phoneme.symbol for s in segments] == [PAUSE, *phones, PAUSE]
    assert [s.phoneme.edge for s in segments] == [0, 1, 2, 3, 0]
    assert segments[3].phoneme.punctuation == mark
    assert [s.start for s in segments] == [0, 0.1, 0.2, 0.4, 0.5] and segments[-1].end == 1.02


def test_textgrid_errors_name_the_file_and_the_fault(tmp_path):
    path = tmp_path / "b.TextGrid"
    with pytest.raises(UserError, match="b.TextGrid: no such"):
        textgrid.read(path, 1.0)
    path.write_text("not a grid")
    with pytest.raises(UserError, match="b.TextGrid: not a TextGrid"):
        textgrid.read(path, 1.0)
    path.write_text(_short(MFA, 1.0))
    with pytest.raises(UserError, match=r"ends at 1\.000 s but its audio at 2\.000 s"):
        textgrid.read(path, 2.0)
    path.write_text(_short({"syllables": [(0, 1.0, "x")]}, 1.0))
    with pytest.raises(UserError, match="no interval tier named.*it has syllables"):
        textgrid.read(path, 1.0)
    path.write_text(_short({"phones": [(0, 1.0, "sil")]}, 1.0))
    with pytest.raises(UserError, match="no phone"):
        textgrid.read(path, 1.0)
