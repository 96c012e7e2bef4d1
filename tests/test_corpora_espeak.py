from collections import Counter

import numpy as np
import pytest
import soundfile

from tts_gen.config import UserError
from tts_gen.corpora import CORPORA, UNTIMED, Utterance, read_manifest, write_manifest
from tts_gen.corpora.dictionary import write_dictionary
from tts_gen.corpora.espeak import VOICES, ipa, synthesize, words
from tts_gen.corpora.sentences import sentences
from tts_gen.text import PAUSE, notation, parse, phonemes, word_phonemes


def test_phonemes_words_punctuation_and_pauses():
    # Of three: once in tens of thousands of calls espeak-ng gives a phoneme no name (it reads memory it never wrote).
    found = Counter(tuple(synthesize("Stop that, please! Is it true?")[2]) for _ in range(3))
    expected = "pau s t ˈɑː p | ð ˈæ t , pau p l ˈiː z ! pau ɪ z | ɪ t | t ɹ ˈuː ? pau"
    assert found.most_common(1)[0][0] == tuple(expected.split())


def test_a_hiatus_is_no_pause():
    assert synthesize("piano", "en")[2] == "pau p i ˈa n əʊ pau".split()


def test_ipa_of_a_text():
    assert ipa("Hello, world. The rendezvous!") == "həlˈoʊ wˈɜːld ðə ɹˈɑːndɪvˌuː"
    assert ipa("") == ipa("...") == ""
    assert ipa("piano", "en") == "piˈanəʊ"


@pytest.mark.parametrize("text", ["Stop.", "Well, 25 apples; Mr. Jackson's!", "“Quoted” -- (text) – naïve…"])
def test_durations_fill_the_wave(text):
    wave, rate, phonemes, durations = synthesize(text, "en-us+m3")
    assert rate == 22050 and wave.dtype == np.float32 and np.abs(wave).max() <= 1
    assert len(durations) == sum(p not in UNTIMED for p in phonemes)
    assert sum(durations) == pytest.approx(len(wave) / rate, abs=1e-9) and min(durations) >= 0
    assert phonemes[0] == phonemes[-1] == PAUSE


def test_the_times_are_those_of_the_sounds():
    wave, rate, phonemes, durations = synthesize("Sss, seesaw. Sassy, sixes.")
    energy, crossings = {}, {}
    timed = [p for p in phonemes if p not in UNTIMED]
    starts = np.cumsum([0, *durations[:-1]])
    for phoneme, start, duration in zip(timed, starts, durations):
        part = wave[int((start + 0.25 * duration) * rate) : int((start + 0.75 * duration) * rate)]
        energy.setdefault(phoneme, []).append(np.sqrt(np.mean(part**2)))
        crossings.setdefault(phoneme, []).append(np.mean(np.diff(np.signbit(part))))
    assert max(energy[PAUSE]) < 0.01 < min(energy["s"])
    vowels = [np.mean(c) for p, c in crossings.items() if p.startswith("ˈ")]
    assert len(vowels) >= 3 and max(vowels) < 0.5 * min(crossings["s"])


def test_rate_and_pitch_are_heard():
    text = "My mother ran along the narrow lane."

    def f0(pitch):
        import pyworld

        wave, rate, _, _ = synthesize(text, pitch=pitch)
        f0, _ = pyworld.dio(wave.astype(np.float64), rate)
        return np.median(f0[f0 > 0])

    assert len(synthesize(text, rate=120)[0]) > 1.4 * len(synthesize(text, rate=240)[0])
    assert f0(80) > 1.3 * f0(20)


@pytest.mark.parametrize(
    ("text", "voice", "message"),
    [
        ("Hi.", "xx", "no voice 'xx'"),
        ("Hi.", "en-us+nobody", "variant 'nobody'; it has .*f1"),
        ("...", "en-us", "nothing to say"),
    ],
)
def test_errors(text, voice, message):
    with pytest.raises(UserError, match=message):
        synthesize(text, voice)


def test_build(tmp_path, capsys):
    utterances, drops = read_manifest(CORPORA["espeak"](tmp_path, count=60))
    assert len(utterances) == 60 and drops == []
    assert {u.style for u in utterances} == {"statement", "question", "exclamation", "list"}
    assert {u.speaker for u in utterances} == set(VOICES)
    assert {u.split for u in utterances} == {"train", "val", "test"}
    for u in utterances:
        info = soundfile.info(u.audio)
        assert info.samplerate == 22050 and info.duration == pytest.approx(sum(u.durations), abs=1e-9)
        assert [p.symbol for p in parse(u.phonemes)].count(PAUSE) == u.phonemes.count(PAUSE)
        assert len(parse(u.phonemes)) == len(u.durations)
    assert (tmp_path / "LICENCE.txt").exists()
    assert "60 utterances" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("language", "text", "phones", "marks"),
    [
        ("de", "Guten Tag, ja?", "ɡ ˈuː t ə n | t ˈɑː k , j ˈɑː ?", ",?"),
        ("fr", "Les enfants.", "l e z | ɑ̃ f ˈɑ̃ .", "."),
        ("cmn", "你好，世界。", "n i2 χ ˈɑu2 , s. ˈi.5 | tɕ ˈiɛ5 .", ",."),
        ("ru", "Привет", "p rʲ i vʲ ˈe t", ""),
        ("en-us", "25 teas", "t w ˈɛ n t i | f ˈaɪ v | t ˈiː z", ""),
    ],
)
def test_words_of_other_languages(language, text, phones, marks):
    found = words(text, language)
    assert notation([p for w in found for p in word_phonemes(w.variants[0], w.punctuation)]) == phones.split()
    assert "".join(w.punctuation for w in found) == marks


def test_words_have_the_phones_of_the_speech():
    for text, _ in sentences(60, 1):
        said = {p.symbol for p in parse(synthesize(text)[2])}
        assert {p.symbol for p in phonemes(words(text))} <= said | {PAUSE}


def test_words_errors():
    with pytest.raises(UserError, match="nothing to say in '...'"):
        words("...")
    with pytest.raises(UserError, match="no voice 'xx'; its languages are .*de, "):
        words("Hi.", "xx")


def test_dictionary(tmp_path):
    texts = ["Guten Tag, Herr Übel!", "„Guten“ Tag – geht's?"]
    us = [Utterance(f"u{i}", tmp_path / "a.wav", t, language="de") for i, t in enumerate(texts)]
    write_manifest(tmp_path / "m.jsonl", us)
    assert write_dictionary(tmp_path / "m.jsonl", tmp_path / "de.dict") == 5
    lines = dict(line.split("\t") for line in (tmp_path / "de.dict").read_text(encoding="utf-8").splitlines())
    assert list(lines) == ["geht's", "guten", "herr", "tag", "übel"] and lines["guten"] == "ɡ ˈuː t ə n"
    write_manifest(tmp_path / "m.jsonl", [*us, Utterance("e", tmp_path / "a.wav", "Hi.")])
    with pytest.raises(UserError, match="languages de, en; a dictionary is of one"):
        write_dictionary(tmp_path / "m.jsonl", tmp_path / "de.dict")


def test_debs_are_refused(tmp_path):
    with pytest.raises(UserError, match="takes no Debian packages"):
        CORPORA["espeak"](tmp_path, debs=["x.deb"])
