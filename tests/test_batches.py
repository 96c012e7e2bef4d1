"""Batches are a pure function of (seed, step), treat utterances equally, and line phonemes up with frames."""

import copy
import logging
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import make_store, small_config, with_train

from tts_gen.batches import (
    Crop,
    TrainingBatches,
    crop_frames,
    frame_arrays,
    prosody_batch,
    validation_batches,
    whole,
)
from tts_gen.config import Data, UserError
from tts_gen.features.store import Features
from tts_gen.plan import Plan, batch_rows, training_positions


def assert_equal(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], name)


@pytest.mark.parametrize("task", ["prosody", "acoustic"])
def test_a_batch_is_a_function_of_seed_and_step(store, task):
    one, two = (TrainingBatches(store, small_config(task)) for _ in range(2))
    forwards, backwards = [one[s] for s in range(6)], [two[s] for s in reversed(range(6))][::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert_equal(a, b)
    read_ahead = one.iterate(3)
    for step in (3, 4, 5):
        assert_equal(next(read_ahead), forwards[step])
    other = TrainingBatches(store, with_train(small_config(task), seed=1))
    assert any(one.ids(s) != other.ids(s) for s in range(6))


@pytest.mark.parametrize("task", ["prosody", "acoustic"])
@pytest.mark.parametrize("processes", [2, 4])
def test_rows_of_all_hosts_make_the_batch_of_one(store, task, processes):
    whole = TrainingBatches(store, small_config(task))
    parts = [TrainingBatches(store, small_config(task), p, processes) for p in range(processes)]
    for step in range(4):
        rows = [part[step] for part in parts]
        assert len({len(r["length"]) for r in rows}) == 1
        assert_equal(whole[step], {name: np.concatenate([r[name] for r in rows]) for name in rows[0]})


def test_every_utterance_is_seen_equally_often(store):
    batches = TrainingBatches(store, small_config())
    plan = batches.plan
    seen, drawn = Counter(), Counter()
    for step in range(60):
        bucket, positions = plan(step)
        seen.update(positions.tolist())
        drawn[bucket] += len(positions)
    assert set(seen) == set(store.split("train").tolist())
    for bucket, members in plan.members.items():
        counts = [seen[p] for p in members]
        assert max(counts) - min(counts) <= 1  # whole epochs, and a part of one
        assert sum(counts) == drawn[bucket]
    shares = [drawn[b] / len(m) for b, m in plan.members.items()]
    assert max(shares) < 1.7 * min(shares)  # batches are whole: buckets come in nearly the shares of the corpus


def test_few_shapes_and_all_rows_full(store):
    batches = TrainingBatches(store, small_config())
    shapes = {batches[s]["phoneme"].shape for s in range(20)}
    assert shapes == {(16, 8), (8, 16)}
    assert [b["phoneme"].shape for b in batches.examples()] == [(8, 16), (16, 8)]
    assert batches[0]["phoneme"].shape == (8, 16)
    assert [batch_rows(Data(batch_size=n), length) for n, length in ((1024, 128), (10, 128), (1024, 24))] == [8, 8, 40]
    assert batch_rows(Data(batch_size=1024, row_multiple=16), 24) == 32


def test_a_batch_larger_than_asked_for_is_told(store, caplog):
    config = small_config()
    TrainingBatches(store, config)
    assert "data.batch_size" not in caplog.text
    TrainingBatches(store, replace(config, data=replace(config.data, batch_size=40)))
    assert "data.batch_size is 40, but 8 sequences of 16 positions" in caplog.text


def test_long_prosody_utterances_are_left_out_and_named(store, caplog):
    config = small_config()
    short = replace(config, data=replace(config.data, buckets=(8, 12)))
    long = [store.index[p].id for p in store.split("train") if store.index[p].n_phonemes > 12]
    with caplog.at_level(logging.WARNING):
        batches = TrainingBatches(store, short)
    assert f"{len(long)} of 42 train utterances" in caplog.text and f"(data.buckets): {long[0]}, " in caplog.text
    assert not set(long) & {i for s in range(20) for i in batches.ids(s)}


def test_bad_buckets_are_refused(store):
    config = small_config()
    with pytest.raises(UserError, match="buckets: 10 is not a multiple of 4"):
        TrainingBatches(store, replace(config, data=replace(config.data, buckets=(8, 10))))
    with pytest.raises(UserError, match=r"no train utterance fits data.buckets \(4,\)"):
        # nothing is that short
        TrainingBatches(Lengthened(store), replace(config, data=replace(config.data, buckets=(4,))))


class Lengthened:
    """A store whose utterances all have five phonemes more."""

    def __init__(self, store):
        self.root, self.split, self.mixture = store.root, store.split, store.mixture
        self.index = copy.copy(store.index)
        self.index.n_phonemes = store.index.n_phonemes + 5


@pytest.mark.parametrize("task", ["prosody", "acoustic"])
def test_validation_covers_every_utterance_once(store, task):
    batches = list(validation_batches(store, small_config(task)))
    rows = [n for b in batches for n in b["length"] if n > 0]
    assert len(rows) == len(store.split("val"))
    shapes = {b["phoneme"].shape for b in batches}
    assert shapes <= {TrainingBatches(store, small_config(task))[s]["phoneme"].shape for s in range(20)}
    if task == "prosody":
        lengths = sorted(store.index[p].n_phonemes for p in store.split("val"))
        assert sorted(rows) == lengths


def test_prosody_batch_holds_normalised_values(store):
    positions = store.split("train")[:3]
    utterances = store.read(positions)
    batch = prosody_batch(utterances, store.stats, 16)
    for row, u in enumerate(utterances):
        n = len(u.phoneme)
        assert batch["length"][row] == n and not batch["phoneme"][row, n:].any() and not batch["voiced"][row, n:].any()
        mean, std = store.stats.log_f0_mean[u.speaker], store.stats.log_f0_std[u.speaker]
        truth = np.where(u.voiced, (u.log_f0 - mean) / std, 0)
        np.testing.assert_allclose(batch["log_f0"][row, :n], truth, rtol=1e-5)
        assert batch["log_f0_std"][row] == std
    assert np.isfinite(batch["log_f0"]).all()


def test_pitch_is_there_where_a_phoneme_only_counts_as_voiced(store):
    for u in store.read(range(5)):
        assert np.isnan(u.log_f0).any()
        found = whole(replace(u, voiced=np.ones(len(u.voiced), bool)), store.stats)
        np.testing.assert_array_equal(found.log_f0, whole(u, store.stats).log_f0)


def test_acoustic_batch_fits_many_short_phonemes(tmp_path):
    """An utterance that needs no crop may still hold more phonemes than data.max_phonemes."""
    store = make_store(tmp_path, train=8, held_out=1)
    config = small_config("acoustic")
    config = replace(config, data=replace(config.data, buckets=(128,), batch_size=1024, max_phonemes=8))
    batch = TrainingBatches(store, config)[0]
    assert batch["phoneme"].shape == (8, 8) and (batch["length"] <= 8).all() and (batch["frames"] > 0).all()


def utterance(duration: np.ndarray) -> Features:
    """Every phoneme differs from its neighbours, and the mel tells which phoneme and frame it belongs to."""
    n = len(duration)
    small = np.zeros(n, np.int8)
    phoneme = np.arange(n, dtype=np.int16)
    mel = np.stack([np.repeat(phoneme, duration), np.concatenate([np.arange(d) for d in duration])], 1)
    log_f0 = np.arange(n, dtype=np.float32)
    return Features(phoneme, small, small, small, duration, log_f0, np.ones(n, bool), mel.astype(np.float32), 0, 0)


durations = st.lists(st.integers(1, 9), min_size=1, max_size=40).map(lambda d: np.array(d, np.int32))


@given(durations, st.integers(0, 8), st.integers(1, 60))
def test_frames_know_their_phoneme(duration, offset, frames):
    offset = min(offset, duration[0] - 1)
    arrays = frame_arrays(duration[None], np.array([offset]), frames)
    expected = [(p, k) for p, d in enumerate(duration) for k in range(d)][offset : offset + frames]
    for t, (phoneme, position) in enumerate(expected):
        assert (arrays["frame_phoneme"][0, t], arrays["frame_position"][0, t]) == (phoneme, position)
    assert (arrays["frame_phoneme"] < len(duration)).all()


@settings(max_examples=200)
@given(durations, st.integers(1, 12).map(lambda x: 4 * x), st.floats(0, 1, exclude_max=True), st.integers(0, 6))
def test_crops_line_up_with_the_whole_utterance(duration, frames, at, context):
    u, data = utterance(duration), Data(context=context, max_phonemes=10)
    n = len(u.phoneme)
    crop = crop_frames(Crop(u, np.arange(n), np.tile(np.arange(n)[:, None], 3)), frames, data, at)
    part = crop.features
    np.testing.assert_array_equal(part.phoneme, u.phoneme[crop.log_f0])  # the contour is cut where the phonemes are
    np.testing.assert_array_equal(crop.places[:, 0], crop.log_f0)
    assert 0 < len(part.mel) <= frames and len(part.phoneme) <= data.max_phonemes
    assert len(part.phoneme) == len(part.duration) == len(part.log_f0) == len(part.voiced)
    arrays = frame_arrays(part.duration[None], np.array([crop.offset]), len(part.mel))
    np.testing.assert_array_equal(part.phoneme[arrays["frame_phoneme"][0]], part.mel[:, 0])
    np.testing.assert_array_equal(arrays["frame_position"][0], part.mel[:, 1])
    if len(u.mel) >= frames and duration.min() * (data.max_phonemes - 2) >= frames:
        assert len(part.mel) == frames


def test_a_part_of_the_training_data_is_nested_in_a_larger_one(store):
    def chosen(n, seed=0):
        c = small_config(features=store.root, seed=seed)
        return set(training_positions(store, replace(c, data=replace(c.data, utterances=n))))

    assert chosen(5) < chosen(20) < chosen(0) == set(store.split("train")) == chosen(42)
    assert len(chosen(5)) == 5 and chosen(5) != chosen(5, seed=1)
    c = small_config(features=store.root)
    few = replace(c, data=replace(c.data, utterances=5))
    assert {p for members in Plan.build(store, few, "train").members.values() for p in members} == chosen(5)
    assert len(Plan.build(store, few, "val").members) > 0
    with pytest.raises(UserError, match="data.utterances is 43, but the training split of .* has 42"):
        chosen(43)
