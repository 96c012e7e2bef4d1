"""Marks in a text: breaks, rate and pitch of parts, phones of words; what is not understood is named."""

from dataclasses import replace

import numpy as np
import pytest
from models import AUDIO, make_store, small_config, write_untrained

from tts_gen import runs
from tts_gen.config import UserError
from tts_gen.speech import markup
from tts_gen.synthesis import Controls, read
from tts_gen.text import notation, parse


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("run")
    store = make_store(root / "store")
    write_untrained(small_config("prosody", "flow", store.root), store, root / "prosody")
    return runs.load(root / "prosody")


def marked(sentence: str, run):
    u, marks = markup.read(sentence, run, Controls(speaker="ann"))
    return " ".join(notation(run.inventory.decode(u.phoneme, u.stress, u.edge, u.punctuation))), u, marks


def test_markup_is_read_as_what_it_says(run):
    plain, *_ = marked("Me, see a tea.", run)
    assert plain == "pau M IY1 , pau S IY1 | AH0 | T IY1 . pau"
    said, u, marks = marked(
        '<speak>Me<break time="300ms"/>, <prosody rate="50%" pitch="+12st">see <prosody rate="200%">a</prosody>'
        '</prosody> <phoneme ph="T AH1 M">tea</phoneme>.</speak>', run,
    )  # fmt: skip
    assert said == "pau M IY1 pau S IY1 | AH0 | T AH1 M . pau"
    np.testing.assert_allclose(marks.rate, [1, 1, 1, 1, 0.5, 0.5, 1, 1, 1, 1, 1])
    np.testing.assert_allclose(marks.semitones, [0, 0, 0, 0, 12, 12, 12, 0, 0, 0, 0])
    np.testing.assert_allclose(marks.seconds, [np.nan] * 3 + [0.3] + [np.nan] * 7)
    log_f0 = np.where(u.voiced, 5.0, np.nan).astype(np.float32)
    spoken = replace(u, duration=np.full(11, 10, np.int32), log_f0=log_f0, mel=np.zeros((110, 8), np.float32))
    found = markup.apply(spoken, marks, AUDIO.frame_seconds)
    np.testing.assert_array_equal(found.duration, [10, 10, 10, 26, 20, 20, 10, 10, 10, 10, 10])
    np.testing.assert_allclose((found.log_f0 - log_f0)[[1, 5, 6, 8]], [0, np.log(2), np.log(2), 0], atol=1e-6)
    assert len(found.mel) == found.duration.sum()


def test_markup_changes_nothing_where_there_is_none(run):
    for sentence in ("Me, see a tea.", "Tea? Me!"):
        said, u, marks = marked(sentence, run)
        np.testing.assert_array_equal(markup.apply(u, marks, 0.01).duration, u.duration)
        assert said == " ".join(notation(parse(said.split())))
    plain = read("Me, see a tea.", run, Controls(speaker="ann"))
    np.testing.assert_array_equal(marked("Me, see a tea.", run)[1].phoneme, plain.phoneme)
    np.testing.assert_array_equal(marked("Me<break time='1s'/>, see a tea.", run)[1].phoneme[:3], plain.phoneme[:3])


@pytest.mark.parametrize("sentence, message", [
    ("Me <b>see</b>", "unknown tag <b>; valid are <speak>, <break>, <prosody>, <phoneme>"),
    ("Me <break/>", r"<break time=''>: give \"300ms\" to \"10s\""),
    ('Me <break time="1h"/>', "<break time='1h'>: give"),
    ('Me <break time="99s"/>', "<break time='99s'>: give"),
    ('<prosody rate="fast">me</prosody>', "<prosody rate='fast'>: give"),
    ('<prosody pitch="+1.2.3st">me</prosody>', "<prosody pitch='\\+1.2.3st'>: give"),
    ('<prosody volume="1">me</prosody>', "<prosody> has no volume; valid: rate, pitch"),
    ("<phoneme>me</phoneme>", "<phoneme> lacks ph"),
    ('<phoneme ph="QQ">me</phoneme>', "unknown phoneme 'QQ'"),
    ("Me <break time='1s'>see</break>", "<break> may hold no text or tags"),
    ("Me <phoneme ph='M'>a<b/></phoneme>", "<phoneme> may hold no tags"),
    ("<prosody pitch='+20st'><prosody pitch='+20st'>me</prosody></prosody>", "[+]40 semitones; at most 10 times"),
    ("<prosody>" * 3000 + "me" + "</prosody>" * 3000, "too deep in one another"),
    ("Me & tea", "malformed markup"),
    ("<prosody>me", "malformed markup"),
    ("<!DOCTYPE a><speak>me</speak>", "declarations and comments"),
    ('<break time="1s"/>', "nothing to say"),
])  # fmt: skip
def test_markup_that_is_not_understood_is_named(sentence, message, run):
    with pytest.raises(UserError, match=message):
        marked(sentence, run)
