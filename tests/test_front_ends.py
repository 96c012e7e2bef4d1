"""What text becomes for the phones that a run was trained on."""

from types import SimpleNamespace

import pytest

from tts_gen.config import UserError
from tts_gen.synthesis import Controls, _phonemes
from tts_gen.text import notation

ARPABET, IPA = ("pau", "AH", "HH", "L", "OW"), ("pau", "ə", "h", "l", "oʊ")


def read(text: str, inventory: tuple[str, ...], **controls) -> str:
    run = SimpleNamespace(inventory=SimpleNamespace(phonemes=inventory))
    return " ".join(notation(_phonemes(text, run, Controls(**controls))))


@pytest.mark.parametrize(
    ("phonemes", "controls", "expected"),
    [
        (ARPABET, {}, "pau HH AH0 L OW1 . pau"),
        (ARPABET, {"language": "de"}, "pau HH AH0 L OW1 . pau"),  # the run's phones decide
        (IPA, {}, "pau h ə l ˈoʊ . pau"),
        (IPA, {"language": "de"}, "pau h ˈɛ l oː . pau"),
    ],
)
def test_text_is_read_in_the_phones_of_the_run(phonemes, controls, expected):
    assert read("Hello.", phonemes, **controls) == expected


@pytest.mark.parametrize("phonemes", [ARPABET, IPA])
def test_phones_may_be_given(phonemes):
    assert read("pau g u: t | ta1 k ! pau", phonemes, phonemes=True) == "pau g u: t | ta1 k ! pau"


@pytest.mark.parametrize(
    ("phonemes", "text", "given"),
    [(ARPABET, "...", False), (IPA, "...", False), (IPA, "Привет", False), (IPA, "pau .", True)],
)
def test_nothing_to_say_is_an_error(phonemes, text, given):
    with pytest.raises(UserError, match="nothing to say|no phone|cannot"):
        read(text, phonemes, phonemes=given)
