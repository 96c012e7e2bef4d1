"""Where phonemes stand: by hand, against the plain loop of exported models, and as the encoder gets it."""

from dataclasses import replace

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from models import away_from_start, small_config

from tts_gen import tasks
from tts_gen.batches import acoustic_batch, crop_frames, prosody_batch, whole
from tts_gen.config import Data
from tts_gen.encoder import PLACES
from tts_gen.export import load
from tts_gen.features.places import COLUMNS, MOST, places
from tts_gen.text import PAUSE, parse

KEY = jax.random.key(0)


def found(symbols: str) -> np.ndarray:
    phonemes = parse(symbols.split())
    columns = [[p.symbol != PAUSE, p.stress, p.edge, p.punctuation] for p in phonemes]
    np.testing.assert_array_equal(load.places(np.array(columns, np.int32)), places(*np.array(columns).T))
    return places(*np.array(columns).T)


def test_phrases_end_at_pauses_and_at_punctuation():
    start, end, syllable = found("pau HH AH0 L OW1 | DH EH1 R , AY1 | G OW1 pau N AW1 . pau").T.tolist()
    assert start == [0, 1, 1, 1, 1, 2, 2, 2, 1, 2, 2, 0, 1, 1, 0]
    assert end == [0, 2, 2, 2, 2, 1, 1, 1, 2, 1, 1, 0, 1, 1, 0]
    assert syllable == [0, 0, 1, 1, 2, 0, 1, 1, 1, 0, 1, 0, 0, 1, 0]


def test_ipa_has_syllables_and_phones_that_nobody_knows_have_none():
    assert found("pau h ə l ˈoʊ .")[:, 2].tolist() == [0, 0, 1, 1, 2]
    strange = found("pau Q7 K7 | Q7 .")
    assert not strange[:, 2].any() and strange[:, 0].tolist() == [0, 1, 1, 2]


def test_long_phrases_and_nothing_but_pauses():
    many = found(" | ".join(["AH0"] * 20) + " pau")
    assert many.max() == MOST - 1 and many[-2].tolist() == [MOST - 1, 1, 1] and many[0].tolist() == [1, MOST - 1, 1]
    assert found("pau " + "AH1 " * 12)[-1, 2] == MOST - 1
    assert not places(*np.zeros((4, 3), int)).any()


phone, after = st.sampled_from(["AH0", "IY1", "M", "S", "x"]), st.sampled_from(["|", ",", ".", "| pau", ", pau pau"])


@given(st.lists(st.tuples(st.lists(phone, min_size=1, max_size=4), after), min_size=1, max_size=12))
def test_exported_models_see_the_same(words):
    table = found("pau " + " ".join(f"{' '.join(phones)} {end}" for phones, end in words))
    assert table.shape[1] == len(COLUMNS) and 0 <= table.min() and table.max() < MOST


def test_a_crop_knows_its_place_in_the_whole(store):
    u = max(store.read(store.split("train")), key=lambda u: len(u.mel))
    uncropped = whole(u, store.stats)
    crop = crop_frames(uncropped, 32, Data(max_phonemes=16, context=1), 1.0)
    n = len(crop.features.phoneme)
    assert n < len(u.phoneme)
    np.testing.assert_array_equal(crop.places, uncropped.places[-n:])
    np.testing.assert_array_equal(acoustic_batch([crop], store.stats, 16, 64)["places"][0, :n], crop.places)


def test_the_encoder_hears_positions_only_where_asked(store):
    batch, shapes = prosody_batch(store.read([0, 1]), store.stats, 16), {}
    other = batch | {"places": (batch["places"] + 1) % MOST}
    for positions in (False, True):
        config = small_config("prosody")
        config = replace(config, encoder=replace(config.encoder, positions=positions))
        task = tasks.build(config, store.inventory, store.stats)
        variables = away_from_start(lambda task=task: task.init(KEY, batch, KEY, False, method="loss"))
        shapes[positions] = variables["params"]["encoder"]
        sample = jax.jit(lambda b, task=task, v=variables: task.apply(v, b, KEY, 1.0, method="sample"))
        a, b = (np.asarray(sample(x))[0, :4] for x in (batch, other))
        assert (np.abs(a - b).max() > 1e-3) == positions
    assert shapes[True].keys() - shapes[False].keys() == set(COLUMNS)
    assert PLACES == dict.fromkeys(COLUMNS, MOST) and list(PLACES) == list(COLUMNS)
