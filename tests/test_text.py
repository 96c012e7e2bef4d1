"""Text: what is spoken, how it is pronounced, and the written form of phonemes."""

import importlib.util
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tts_gen.config import UserError
from tts_gen.text import PAUSE, PUNCTUATION, Phoneme, notation, parse, phone_class, phonemes, pronounce, words
from tts_gen.text.classes import CLASSES
from tts_gen.text.normalise import normalise
from tts_gen.text.pronounce import predict


def spoken(text: str) -> str:
    return " ".join(word + mark for word, mark in normalise(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mr. Smith met Dr. Jones on Elm St. in St. Louis.",
         "mister smith met doctor jones on elm street in saint louis."),
        ("It costs $12.50, £1 or €2.5 million.",
         "it costs twelve dollars and fifty cents, one pound or two point five million euros."),
        ("In 1905 and the 1990s 1,500 people",
         "in nineteen oh five and the nineteen nineties one thousand five hundred people"),
        ("0.5%, 3.05, -5, 21st, 007",
         "zero point five percent, three point zero five, minus five, twenty first, zero zero seven"),
        ("at 10:05 a.m. or 3:00 or 5pm", "at ten oh five a. m. or three o'clock or five p. m."),
        ("pets, e.g. cats, dogs etc. Then more.", "pets, for example cats, dogs et cetera. then more."),
        ("The U.S. has USB, PCs, NASA and my ID", "the u. s. has u. s. b., p. c.'s, nasa and my i. d."),
        ("TELL US NOW", "tell us now"),
        ("R&D + me @ home", "r. and d. plus me at home"),
        ("Press #5 or *, then #.", "press number five or star, then pound."),
        ("He sat. No. Go on.", "he sat. no. go on."),  # no weekday, no number
        ("version 1.6.1 in 5-10 min.", "version one point six point one in five to ten minutes."),
        ("555-1234", "five five five one two three four"),
        ("“Yes,” he said—‘quite’… What?!", "yes, he said, quite. what?"),
        ("state-of-the-art", "state of the art"),
        ("naïve café Straße ½", "naive cafe strasse one half"),
    ],
)  # fmt: skip
def test_normalises(text, expected):
    assert spoken(text) == expected


def test_folded_digits_are_the_same_numbers():
    assert spoken("１２") == "twelve"
    assert all(mark in PUNCTUATION for _, mark in normalise("a; b: c! d? e. f, g"))


@pytest.mark.parametrize("text", ["北京", "5 ☃", "Привет"])
def test_names_the_character_that_cannot_be_said(text):
    with pytest.raises(UserError, match=r"U\+[0-9A-F]{4}"):
        words(text)


@pytest.mark.parametrize("text", ["", "   ", "...", "“—”"])
def test_rejects_text_with_nothing_to_say(text):
    with pytest.raises(UserError, match="nothing to say"):
        words(text)


@settings(max_examples=150, deadline=None)
@given(st.text(st.characters(min_codepoint=32, max_codepoint=0x24F), max_size=40))
def test_any_latin_text_is_said_in_full_or_refused(text):
    try:
        found = words(text)
    except UserError:
        return
    for p in phonemes(found):
        assert phone_class(p.symbol) != "other"
        assert (p.stress > 0) == (phone_class(p.symbol) == "vowel")


def test_dictionary_variants_and_inflections():
    the, eithers, boss, zorbs, parents = words("the either's boss's zorb's parents'")
    assert the.variants[:2] == (("DH", "AH0"), ("DH", "AH1"))
    assert len(eithers.variants) > 1 and all(v[-2:] == ("ER0", "Z") for v in eithers.variants)
    assert boss.variants[0][-2:] == ("IH0", "Z")
    assert zorbs.variants[0] == (*predict("zorb"), "Z")
    assert parents.text == "parents'" and parents.variants[0][-1] == "S"


def test_predicts_unknown_words_as_g2p_en_does():
    assert words("zorbulated")[0].variants == (tuple("Z AO1 R B Y AH0 L EY2 T AH0 D".split()),)
    assert "nltk" not in sys.modules and "g2p_en" not in sys.modules


def test_unknown_word_without_g2p_en_is_an_error_with_the_remedy(monkeypatch):
    module = sys.modules["tts_gen.text.pronounce"]  # `tts_gen.text.pronounce` is the function
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    module._weights.cache_clear()
    try:
        with pytest.raises(UserError, match=r"'blorptastic'.*pip install --no-deps g2p-en"):
            pronounce("blorptastic")
    finally:
        module._weights.cache_clear()


def test_letters_are_named_not_read_as_words():
    assert [w.variants[0] for w in words("TWAX")][1:3] == [("D", "AH1", "B", "AH0", "L", "Y", "UW0"), ("EY1",)]


def test_phonemes_carry_edges_stress_and_punctuation():
    found = phonemes(words("Oh, go!"))
    assert found == [
        Phoneme(PAUSE),
        Phoneme("OW", 2, 3, 1),
        Phoneme(PAUSE),
        Phoneme("G", 0, 1, 4),
        Phoneme("OW", 2, 2, 4),
        Phoneme(PAUSE),
    ]
    assert [p.symbol for p in phonemes(words("go on"), pauses=False)] == ["G", "OW", "AA", "N"]
    assert phonemes(words("the"), choice=[2], pauses=False)[1].symbol == "IY"


def test_notation_is_the_inverse_of_parse():
    symbols = "pau HH AH0 L OW1 , pau W ER1 L D | DH EH1 R ? pau".split()
    parsed = parse(symbols)
    assert notation(parsed) == symbols
    assert [p.stress for p in parsed[1:5]] == [0, 1, 0, 2] and parsed[4].punctuation == 1
    assert parse(notation(phonemes(words("It works, does it not?")))) == phonemes(words("It works, does it not?"))


@given(st.lists(st.sampled_from(["AH0", "HH", "ˈɑː", "ˌə", "ə", "ni2", "a1", "E:", "2:", "tʃ"]), min_size=1))
def test_phones_of_any_set_keep_their_spelling(phones):
    assert notation(parse(phones)) == [*phones, "|"][:-1]


def test_parse_reads_ipa_and_tolerates_boundaries():
    assert parse(["|", "ˈə", "t", "|", "|", "ˌɑː", "i"]) == [
        Phoneme("ə", 2, 1), Phoneme("t", 0, 2), Phoneme("ɑː", 3, 1), Phoneme("i", 1, 2)
    ]  # fmt: skip
    with pytest.raises(UserError, match="no phone"):
        parse(["pau", "|", ","])


@pytest.mark.parametrize(
    ("symbol", "name"),
    [("AH", "vowel"), ("ɑː", "vowel"), ("T", "stop"), ("tʃ", "affricate"), ("t", "stop"), ("ŋ", "nasal"),
     ("HH", "fricative"), ("ɹ", "approximant"), ("JH", "affricate"), (PAUSE, "pause"), ("?!", "other"),
     ("E:", "vowel"), ("@", "vowel"), ("a5", "vowel"), ("jh", "affricate"), ("th", "fricative"), ("N", "nasal")],
)  # fmt: skip
def test_phone_classes(symbol, name):
    assert phone_class(symbol) == name and name in CLASSES
