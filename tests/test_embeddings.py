"""Speaker embeddings from a file, which stand for the table of speakers: files, batches, models."""

import functools
import itertools
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from models import EMBEDDING as E
from models import away_from_start, embedded_config, vectors

from tts_gen import fit, tasks
from tts_gen.batches import TrainingBatches, validation_batches, whole_batches
from tts_gen.config import UserError
from tts_gen.decoders import DECODERS
from tts_gen.features.embeddings import SpeakerEmbeddings, read_vector
from tts_gen.features.store import FeatureStore

KEY = jax.random.key(0)


# Files


def test_an_utterances_own_vector_goes_before_its_speakers(embedded, embeddings_file):
    given, entries = np.load(embeddings_file), {e.id: e for e in embedded.index}
    for name, key in (("train0", "train0"), ("train3", "ann"), ("train1", "train1"), ("train2", "train2")):
        expected = given[key] / np.linalg.norm(given[key])
        np.testing.assert_allclose(embedded.embeddings.of(entries[name]), expected, rtol=1e-6)
    for u, entry in zip(embedded.read(range(12)), embedded.index, strict=False):
        np.testing.assert_array_equal(u.speaker_embedding, embedded.embeddings.of(entry))


def test_a_speakers_vector_is_the_mean_of_training(embedded, embeddings_file):
    found = embedded.embeddings.of_speakers(embedded)
    assert embedded.inventory.speakers == ("unknown", "ann", "bob")
    for row, name in zip(found, embedded.inventory.speakers, strict=True):
        mean = np.mean(
            [embedded.embeddings.of(e) for e in embedded.index if (e.speaker, e.split) == (name, "train")], 0
        )
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


def test_unknown_is_zeros_where_all_have_a_speaker(store, tmp_path):
    class Labelled(FeatureStore):
        def split(self, name):
            return np.array([p for p in super().split(name) if self.index[p].speaker != "unknown"])

    np.savez(tmp_path / "two.npz", **vectors(["ann", "bob"]))
    labelled = Labelled(store.root).with_embeddings(SpeakerEmbeddings.read(tmp_path / "two.npz"))
    labelled.embeddings.check(labelled, ("train", "val", "test"))
    found = labelled.embeddings.of_speakers(labelled)
    assert not found[0].any()
    np.testing.assert_allclose(np.linalg.norm(found[1:], axis=1), 1, rtol=1e-6)


def test_missing_entries_are_counted_and_named(store, tmp_path):
    np.savez(tmp_path / "ann.npz", **vectors(["ann", "train1"]))
    embeddings = SpeakerEmbeddings.read(tmp_path / "ann.npz")
    message = r"no vector for 33 of 51 utterances.*: train2 \(unknown\), train4 \(bob\), .* and 28 more\. Add them"
    with pytest.raises(UserError, match=message):
        embeddings.check(store, ("train", "val"))
    with pytest.raises(UserError, match=r"train2 \(unknown\)"):
        store.with_embeddings(embeddings).read([2])
    with pytest.raises(UserError, match="no vector for 33 of 51"):
        fit.train(embedded_config(tmp_path / "ann.npz", store), tmp_path / "run")


WRONG = {
    "no file": (lambda path: None, "cannot be read as .npz"),
    "empty file": (lambda path: path.write_bytes(b""), "cannot be read as .npz"),
    "not a zip": (lambda path: path.write_text("ann 0.1 0.2"), "cannot be read as .npz"),
    "cut": (lambda path: _cut(path), "cannot be read as .npz"),
    "pickled": (lambda path: np.savez(path, ann=np.array([{}], object)), "cannot be read as .npz.*allow_pickle"),
    "npy": (lambda path: np.save(path.open("wb"), np.ones(3)), "holds no named vectors"),
    "nothing": (lambda path: np.savez(path), "holds no named vectors"),
    "other members": (lambda path: _member(path), "ann.* give numbers"),
    "lengths": (lambda path: np.savez(path, ann=np.ones(3), bob=np.ones(4)), "bob has 4 values, ann has 3"),
    "matrix": (lambda path: np.savez(path, ann=np.ones((1, 3))), r"ann has shape \(1, 3\); give one vector"),
    "no values": (lambda path: np.savez(path, ann=np.ones(0)), r"ann has shape \(0,\)"),
    "not finite": (lambda path: np.savez(path, ann=np.array([1, np.nan, np.inf])), "ann holds 2 values .* not finite"),
    "zeros": (lambda path: np.savez(path, ann=np.zeros(3)), "ann is all zeros"),
    "words": (lambda path: np.savez(path, ann=np.array(["a"])), "ann is <U1; give numbers"),
}


def _cut(path: Path) -> None:
    np.savez(path, ann=np.ones(300))
    path.write_bytes(path.read_bytes()[:-100])


def _member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("ann", "0.1 0.2")


@pytest.mark.parametrize("kind", WRONG)
def test_files_that_will_not_do_are_told(kind, tmp_path):
    write, message = WRONG[kind]
    write(tmp_path / "vectors.npz")
    with pytest.raises(UserError, match=message) as error:
        SpeakerEmbeddings.read(tmp_path / "vectors.npz")
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("write", [
    lambda path: None, lambda path: path.write_text("1"), lambda path: np.savez(path.open("wb"), a=np.ones(3)),
    lambda path: np.save(path, np.array([{}], object)), lambda path: np.save(path, np.ones((1, 3))),
])  # fmt: skip
def test_a_voice_that_will_not_do_is_told(write, tmp_path):
    write(tmp_path / "voice.npy")
    with pytest.raises(UserError, match="voice.npy"):
        read_vector(tmp_path / "voice.npy")


def test_lengths_of_any_size_become_one(tmp_path):
    given = {"big": np.full(4, 1e300), "small": np.full(4, 1e-300), "int": np.arange(4), "half": np.ones(4, np.float16)}
    np.savez(tmp_path / "v.npz", **given)
    found = SpeakerEmbeddings.read(tmp_path / "v.npz").vectors
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-6)


# Batches and models


@pytest.mark.parametrize("task", ["prosody", "acoustic"])
def test_batches_carry_the_vectors_of_their_utterances(task, embedded, store, embeddings_file):
    c = embedded_config(embeddings_file, embedded, task)
    whole = TrainingBatches(embedded, c)
    parts = [TrainingBatches(embedded, c, p, 2) for p in range(2)]
    of = {e.id: embedded.embeddings.of(e) for e in embedded.index}
    for step, read in zip(range(3), whole.iterate(0), strict=False):
        expected = np.stack([of[name] for name in whole.ids(step)])
        np.testing.assert_array_equal(read["speaker_embedding"], expected)
        np.testing.assert_array_equal(np.concatenate([p[step]["speaker_embedding"] for p in parts]), expected)
    for batch in validation_batches(embedded, c):
        given = np.linalg.norm(batch["speaker_embedding"], axis=1)
        np.testing.assert_allclose(given, batch["length"] > 0, atol=1e-6)
    utterances = embedded.read(embedded.split("test"))
    for places, batch in whole_batches(utterances, embedded.stats, task):
        for row, place in enumerate(places):
            np.testing.assert_array_equal(batch["speaker_embedding"][row], utterances[place].speaker_embedding)
    without, within = TrainingBatches(store, c)[0], whole[0]
    assert within.keys() - without.keys() == {"speaker_embedding"}
    for name, value in without.items():
        np.testing.assert_array_equal(value, within[name])


@functools.cache
def model(embedded, task: str, family: str, rate: float = 0.0):
    c = embedded_config("given", embedded, task, family)
    c = replace(c, encoder=replace(c.encoder, label_dropout=rate))
    batch = TrainingBatches(embedded, c)[0]
    module = tasks.build(c, embedded.inventory, embedded.stats)
    init = lambda b: module.init(KEY, b, KEY, False, method="loss")  # noqa: E731
    return module, away_from_start(init, batch), batch


@pytest.mark.parametrize("task, family", list(itertools.product(("prosody", "acoustic"), DECODERS)))
def test_losses_are_finite_and_follow_the_vector(task, family, embedded):
    module, variables, batch = model(embedded, task, family)
    assert variables["params"]["encoder"]["speaker"]["kernel"].shape == (E, 16)
    loss = jax.jit(lambda b: tasks.loss_sums(module, variables, b, KEY, False)[0])
    before = np.asarray(loss(batch))
    vector = batch["speaker_embedding"].copy()
    vector[1] *= -1
    changed = np.flatnonzero(np.asarray(loss(batch | {"speaker_embedding": vector})) != before)
    assert np.isfinite(before).all() and changed.tolist() == [1]
    # The id is for statistics alone.
    np.testing.assert_array_equal(loss(batch | {"speaker": 0 * batch["speaker"]}), before)


@pytest.mark.parametrize("task", ["prosody", "acoustic"])
def test_one_vector_changes_one_condition(task, embedded):
    module, variables, batch = model(embedded, task, "regression")
    condition = jax.jit(lambda b: module.apply(variables, b, None, method="condition")[0])
    vector = batch["speaker_embedding"].copy()
    vector[2] = 0
    before, after = condition(batch), condition(batch | {"speaker_embedding": vector})
    assert np.flatnonzero(np.abs(after - before).max((1, 2))).tolist() == [2]


def test_dropped_labels_train_the_bias_alone(embedded):
    """What is dropped is zeros: with every vector zero, the kernel has no gradient; with label dropout some have."""
    module, variables, batch = model(embedded, "prosody", "regression", 0.5)

    @jax.jit
    def gradient(b):
        total = lambda v: sum(map(jax.numpy.sum, tasks.loss_sums(module, v, b, KEY, True)[:1]))  # noqa: E731
        return jax.grad(total)(variables)["params"]["encoder"]["speaker"]

    zeros = gradient(batch | {"speaker_embedding": 0 * batch["speaker_embedding"]})
    some = gradient(batch)
    assert not zeros["kernel"].any() and zeros["bias"].any() and some["kernel"].any()
