"""Alignment files: every format as other programs write it, round trips, and files that are not what they should be."""

import logging

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from praatio import textgrid as praatio

from tts_gen.align import Segment, files, textgrid
from tts_gen.align.files import FORMATS, SLIP, TOLERANCE
from tts_gen.config import UserError
from tts_gen.text import PAUSE, PUNCTUATION, Phoneme, word_phonemes

END = 1.0
TIMES = [0.0, 0.1, 0.2, 0.4, 0.5, END]
SYMBOLS = [PAUSE, "HH", "AY", "AH", PAUSE]


def intervals(*labels: str) -> list[tuple[float, float, str]]:
    return list(zip(TIMES, TIMES[1:], labels))


PHONES = intervals("sil", "HH", "AY1", "AH0", "")
WORDS = [(0.0, 0.1, ""), (0.1, 0.4, "hi"), (0.4, 0.5, "a"), (0.5, END, "")]


def short(**tiers) -> str:
    """In Praat's short format."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "0", str(END), "<exists>", str(len(tiers))]
    for name, content in tiers.items():
        lines += ['"IntervalTier"', f'"{name}"', "0", str(END), str(len(content))]
        lines += [f'"{x}"' if isinstance(x, str) else str(x) for interval in content for x in interval]
    return "\n".join(lines) + "\n"


def long(**tiers) -> str:
    """In Praat's long format, with a tier of points and a remark."""
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0 ", f"xmax = {END} ! seconds"]
    lines += ["tiers? <exists> ", f"size = {len(tiers) + 1} ", "item []: ", "    item [1]:"]
    lines += ['        class = "TextTier" ', '        name = "clicks" ', "        xmin = 0 ", f"        xmax = {END} "]
    lines += [
        "        points: size = 1 ",
        "        points [1]:",
        "            number = 3e-1 ",
        '            mark = "!" ',
    ]
    for i, (name, content) in enumerate(tiers.items(), 2):
        lines += [f"    item [{i}]:", '        class = "IntervalTier" ', f'        name = "{name}" ']
        lines += ["        xmin = 0 ", f"        xmax = {END} ", f"        intervals: size = {len(content)} "]
        for j, (start, end, label) in enumerate(content, 1):
            lines += [f"        intervals [{j}]:", f"            xmin = {start} ", f"            xmax = {end} "]
            lines += [f'            text = "{label}" ']
    return "\r\n".join(lines) + "\r\n"


def lines(form: str, rows) -> str:
    return "\n".join(form.format(*row, ticks=[round(1e7 * x) for x in row[:2]]) for row in rows) + "\n"


HTK_WORDS = intervals("sil -10.5 <s>", "HH -80.25 hi", "AY1 -70.0", "AH0 -9e1 a", "sil")
PAUSED = [(start, end, label or "pau") for start, end, label in PHONES]
STATES = [
    (start + k * (end - start) / 5, start + (k + 1) * (end - start) / 5, f"x^x-{label}+x=x@1_2/A:0_0[{k + 2}]")
    for start, end, label in PAUSED
    for k in range(5)
]
TICKS, SECONDS = "{ticks[0]} {ticks[1]} {2}", "{0:.3f} {1:.3f} {2}"
MAUS = {"ORT-MAU": WORDS, "KAN-MAU": WORDS, "MAU": intervals("<p:>", "HH", "AY1", "AH0", "<p:>")}
SPEAKERS = {"ben - phones": intervals(*"BBBBB"), "anna - phones": PHONES, "anna - words": WORDS}
KALDI = lines(
    "u1 1 {0:.3f} {1:.3f} {2} 0.98", [(s, e - s, p) for s, e, p in intervals("SIL", "HH_B", "AY1_E", "AH0_S", "SIL")]
)
CORPUS = lines("u1 A {0:.3f} {1:.3f} {2}", [(s, e - s, p) for s, e, p in PHONES[1:4]])

FAMILY = {
    "praat-long": (".TextGrid", long(words=WORDS, phones=PHONES), True),
    "praat-short": (".TextGrid", short(phones=PHONES, words=WORDS), True),
    "mfa": (".TextGrid", long(**{"anna - words": WORDS, "anna - phones": PHONES}), True),
    "mfa-speakers": (".TextGrid", short(**SPEAKERS), True),
    "maus": (".textgrid", long(**MAUS), True),
    "gaps": (".TextGrid", short(phones=PHONES[1:4], words=WORDS[1:3]), True),
    "htk": (".lab", lines(TICKS, HTK_WORDS), True),
    "htk-seconds": (".lab", lines(SECONDS, HTK_WORDS), True),
    "merlin": (".lab", lines(TICKS, PAUSED), False),
    "merlin-states": (".lab", lines(TICKS, STATES), False),
    "festival": (".lab", "separator ;\nnfields 1\n#\n" + lines("    {1:.4f} 125 {2}", PAUSED), False),
    "kaldi": (".ctm", KALDI, True),
    "ctm-corpus": (".ctm", f";; a remark\nu0 A 0 0.3 B\n{CORPUS}u2 A 0 1 B\n", False),
}
"""name -> (ending, content, whether it tells words)"""
CODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]


UTF_8_ONLY = (".ctm",)
READABLE = [(n, c) for n, (ending, *_) in FAMILY.items() for c in CODINGS if ending not in UTF_8_ONLY or "utf-8" in c]


@pytest.mark.parametrize(("name", "coding"), READABLE)
def test_every_format_says_the_same(tmp_path, name, coding):
    ending, content, has_words = FAMILY[name]
    path = tmp_path / f"a{ending}"
    path.write_bytes(content.encode(coding))
    segments = files.read(path, END, "u1", "Anna", "Hi, a!")
    assert [s.phoneme.symbol for s in segments] == SYMBOLS
    assert [s.phoneme.stress for s in segments] == [0, 0, 2, 1, 0]
    assert [x for s in segments for x in (s.start, s.end)] == pytest.approx(
        [x for t in zip(TIMES, TIMES[1:]) for x in t]
    )
    assert [a.end for a in segments[:-1]] == [b.start for b in segments[1:]] and segments[-1].end == END
    assert [s.phoneme.edge for s in segments] == ([0, 1, 2, 3, 0] if has_words else [0] * 5)
    marks = [PUNCTUATION[s.phoneme.punctuation] for s in segments]
    assert marks == (["", ",", ",", "!", ""] if has_words else [""] * 5)


def test_marks_of_the_file_go_before_those_of_the_text(tmp_path):
    words = [(0.1, 0.4, "hi"), (0.4, 0.5, "a?")]
    (tmp_path / "a.TextGrid").write_text(short(phones=PHONES, words=words))
    segments = files.read(tmp_path / "a.TextGrid", END, text="Hi, a!")
    assert [PUNCTUATION[s.phoneme.punctuation] for s in segments] == ["", "", "", "?", ""]
    assert [s.word for s in segments] == ["", "hi", "hi", "a", ""]


def test_marks_reach_the_words_that_the_text_has_too(tmp_path):
    words = [(0.1, 0.2, "twenty"), (0.2, 0.4, "five"), (0.4, 0.5, "a")]
    (tmp_path / "a.TextGrid").write_text(short(phones=PHONES, words=words))
    segments = files.read(tmp_path / "a.TextGrid", END, text="25, “a”!")
    assert [PUNCTUATION[s.phoneme.punctuation] for s in segments] == ["", "", "", "!", ""]


def test_a_file_without_words_is_told_once_a_folder(tmp_path, caplog):
    for name in "ab":
        (tmp_path / f"{name}.lab").write_text("0 1000000 a\n")
        files.read(tmp_path / f"{name}.lab", 0.1)
    assert caplog.text.count("tells no words") == 1


PHONE = st.sampled_from(["HH", "AY1", "AH0", "tʃ", "ˈɑː", "ə", "a5", "?", "spn", '"', "aI", "9"])
WORD = st.tuples(st.lists(PHONE, min_size=1, max_size=3), st.sampled_from(PUNCTUATION), st.text("aéß'-\"", min_size=1))
TIME = st.integers(30, 3000)  # in 10,000ths of a second


@st.composite
def spoken(draw) -> list[Segment]:
    """Words, with pauses before, between and after some of them."""
    segments: list[Segment] = []
    time = 0.0

    def add(phoneme: Phoneme, word: str = "") -> None:
        nonlocal time
        start, time = time, time + draw(TIME) / 1e4
        segments.append(Segment(phoneme, start, time, word=word))

    for phones, mark, word in draw(st.lists(WORD, min_size=1, max_size=5)):
        if draw(st.booleans()):
            add(Phoneme(PAUSE))
        for phoneme in word_phonemes(phones, mark):
            add(phoneme, "w" + word)
    if draw(st.booleans()):
        add(Phoneme(PAUSE))
    return segments


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(spoken())
def test_what_is_written_is_read_back(tmp_path, segments):
    textgrid.write(tmp_path / "a.TextGrid", segments)
    assert files.read(tmp_path / "a.TextGrid", segments[-1].end) == segments
    grid = praatio.openTextgrid(str(tmp_path / "a.TextGrid"), includeEmptyIntervals=True)  # an independent reader
    assert grid.tierNames == ("words", "phones") and grid.maxTimestamp == segments[-1].end
    for tier in grid.tiers:
        starts, ends, _ = zip(*tier.entries)
        assert starts[0] == 0 and ends[-1] == segments[-1].end and starts[1:] == ends[:-1]  # Praat wants no gaps


def test_a_segment_without_length_cannot_be_written(tmp_path):
    with pytest.raises(ValueError, match="no length"):
        textgrid.write(tmp_path / "a.TextGrid", [Segment(Phoneme("AH", 1, 3), 0.0, 0.0)])


@pytest.mark.parametrize("difference", [-TOLERANCE, -0.02, 0.02, TOLERANCE])
@pytest.mark.parametrize("name", FAMILY)
def test_a_small_difference_from_the_audio_is_taken_by_the_last_segment(tmp_path, name, difference):
    ending, content, _ = FAMILY[name]
    path = tmp_path / f"a{ending}"
    path.write_text(content)
    segments = files.read(path, END - difference * 0.999, "u1", "anna")
    assert segments[-1].end == END - difference * 0.999 and [s.phoneme.symbol for s in segments] == SYMBOLS


@pytest.mark.parametrize("name", FAMILY)
def test_a_file_of_another_length_is_refused(tmp_path, name):
    ending, content, _ = FAMILY[name]
    path = tmp_path / f"a{ending}"
    path.write_text(content)
    with pytest.raises(UserError, match=f"a{ending}: .*0.44"):
        files.read(path, 0.449, "u1", "anna")
    if ending != ".ctm":  # which leaves out silences, as at the end
        with pytest.raises(UserError, match=rf"a{ending}: ends at 1\.000 s but its audio at 1\.051 s; align"):
            files.read(path, 1.051, "u1", "anna")


def test_rounded_times_leave_no_gaps(tmp_path):
    (tmp_path / "a.ctm").write_text("u 1 0.10 0.099 a\nu 1 0.20 0.103 b\nu 1 0.30 0.1 c\nu 1 0.41 0.1 d\n")
    segments = files.read(tmp_path / "a.ctm", 0.51)
    assert [s.phoneme.symbol for s in segments] == [PAUSE, "a", "b", "c", PAUSE, "d"]
    assert max(abs(s.end - t) for s, t in zip(segments, [0.1, 0.2, 0.3, 0.4, 0.41, 0.51])) <= SLIP


def test_no_phone_is_lost_at_the_end_or_for_want_of_length(tmp_path):
    (tmp_path / "a.ctm").write_text("u 1 0 0.4 a\nu 1 0.4 0 b\nu 1 0.4 0.06 c\nu 1 0.46 0.04 d\n")
    segments = files.read(tmp_path / "a.ctm", 0.45)
    assert [(s.phoneme.symbol, s.start, s.end) for s in segments] == [
        ("a", 0, 0.4), ("b", 0.4, 0.4), ("c", 0.4, 0.45), ("d", 0.45, 0.45)
    ]  # fmt: skip


FAULTS = {
    "nothing": (".TextGrid", "", "not a TextGrid"),
    "text": (".TextGrid", "not a grid", "not a TextGrid"),
    "cut short": (".TextGrid", short(phones=PHONES)[:-20], "not a TextGrid, or cut short"),
    "no number": (".TextGrid", short(phones=PHONES).replace("0.1", "0.1.1"), "'0.1.1' is not a number"),
    "other tier": (".TextGrid", short(syllables=PHONES), "no interval tier named phones, .*it has syllables"),
    "whose": (
        ".TextGrid",
        short(**{"ben - phones": PHONES, "eve - phones": PHONES}),
        "tiers phones of ben, eve; .*field speaker",
    ),
    "only pauses": (".TextGrid", short(phones=[(0, END, "sil")]), "holds no phone"),
    "overlap": (".TextGrid", short(phones=[(0, 0.5, "a"), (0.4, END, "b")]), "'b' from 0.400 to 1.000 s overlaps"),
    "several": (".TextGrid", short(phones=[(0, END, "t S")]), "'t S' at 0.000 s holds a space"),
    "backwards": (".lab", "0.0 1.0 a\n1.0 0.5 b\n0.5 1.0 c\n", "'b' from 1.000 to 0.500"),
    "transcript": (".lab", "Hello there, all.\n", "line 1: 'Hello' is not a number"),
    "two columns": (".lab", "\n0 hi\n", "line 2: '0 hi' is not `start end phone`"),
    "festival": (".lab", "#\n0.5 125\n", "line 2: '0.5 125' is not `end colour phone`"),
    "empty": (".lab", " \n", "holds no label"),
    "coding": (".lab", "0 10000000 \udcfc", "neither UTF-8 nor UTF-16"),
    "other names": (".ctm", "u2 1 0 1 a\nu3 1 0 1 a\n", "no line of recording 'u1'; it has 2"),
    "four columns": (".ctm", "u1 1 0 1\n", "line 'u1 1 0 1'.*is not `recording channel start duration phone`"),
    "not a time": (".ctm", "u1 1 0 nan a\n", "'nan' is not a number"),
    "ending": (".csv", "0,1,a", "end in .TextGrid, .lab, .ctm, not in .csv"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_told_by_file_and_reason(tmp_path, name):
    ending, content, message = FAULTS[name]
    path = tmp_path / f"b{ending}"
    path.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(UserError, match=rf"b\{ending}.*{message}"):
        files.read(path, END, "u1", "anna")


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UserError, match="b.lab: no such alignment file; correct the manifest's field alignment"):
        files.read(tmp_path / "b.lab", 1.0)


@st.composite
def damaged(draw) -> tuple[str, bytes]:
    """Random bytes, or a file of the family with a piece of it replaced."""
    ending, content, _ = draw(st.sampled_from(list(FAMILY.values())))
    whole = content.encode(draw(st.sampled_from(CODINGS)))
    start = draw(st.integers(0, len(whole)))
    piece = draw(
        st.binary(max_size=20) | st.sampled_from([b"1e309", b"-1", b'"', b"\n#\n", b"99999999999", b" ", b"\0"])
    )
    return ending, draw(
        st.just(whole[:start] + piece + whole[start + draw(st.integers(0, 30)) :]) | st.binary(max_size=99)
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damaged())
def test_a_damaged_file_is_read_or_refused(tmp_path, file):
    ending, content = file
    path = tmp_path / f"a{ending}"
    path.write_bytes(content)
    logging.disable(logging.WARNING)
    try:
        segments = files.read(path, END, "u1", "anna", "Hi, a!")
    except UserError as error:
        assert "a" + ending in str(error)
    else:
        assert segments[0].start == 0 and segments[-1].end == END
        assert all(a.end == b.start and a.start <= a.end for a, b in zip(segments, segments[1:]))
    finally:
        logging.disable(logging.NOTSET)


def test_formats_are_all_in_the_family():
    assert {ending.lower() for ending, *_ in FAMILY.values()} == {ending.lower() for ending in FORMATS}
