"""Speaker embeddings from a file, which stand for the table of speakers: files, batches, models, runs, new voices."""

import functools
import itertools
import json
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from models import away_from_start, make_store, small_config, with_train, write_untrained

from tts_gen import cli, command, doors, fit, runs, synthesis, tasks
from tts_gen.batches import TrainingBatches, validation_batches, whole_batches
from tts_gen.config import UserError, from_dict
from tts_gen.decoders import DECODERS
from tts_gen.evaluation.comparison import open_comparison
from tts_gen.evaluation.generate import prosody_samples
from tts_gen.evaluation.likelihood import log_prob
from tts_gen.evaluation.proxies import PROXIES, Missing
from tts_gen.evaluation.studies.transfer import Heard
from tts_gen.export import load
from tts_gen.features.embeddings import SpeakerEmbeddings, read_vector
from tts_gen.features.store import FeatureStore
from tts_gen.speech import sources
from tts_gen.synthesis import Controls
from tts_gen.vocoders import write_wav

E = 5
KEY = jax.random.key(0)
PHONES = "pau M IY1 | S AH0 T . pau"
opened = functools.cache(runs.load)


def vectors(keys, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {key: rng.normal(size=E) for key in keys}


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def file(plain) -> Path:
    """By speaker for ann, by utterance for bob and those without a speaker; ann's first one also has its own."""
    own = [e.id for e in plain.index if e.speaker != "ann"]
    np.savez(plain.root / "vectors.npz", **vectors(["ann", "train0", *own]))
    return plain.root / "vectors.npz"


@pytest.fixture(scope="module")
def store(plain, file) -> FeatureStore:
    return plain.with_embeddings(SpeakerEmbeddings.read(file))


def config(file, store, task: str = "prosody", family: str = "regression", **train):
    c = small_config(task, family, store.root, **train)
    return replace(c, data=replace(c.data, speaker_embeddings=str(file)))


# Files


def test_an_utterances_own_vector_goes_before_its_speakers(store, file):
    given, entries = np.load(file), {e.id: e for e in store.index}
    for name, key in (("train0", "train0"), ("train3", "ann"), ("train1", "train1"), ("train2", "train2")):
        expected = given[key] / np.linalg.norm(given[key])
        np.testing.assert_allclose(store.embeddings.of(entries[name]), expected, rtol=1e-6)
    for u, entry in zip(store.read(range(12)), store.index, strict=False):
        np.testing.assert_array_equal(u.speaker_embedding, store.embeddings.of(entry))


def test_a_speakers_vector_is_the_mean_of_training(store, file):
    found = store.embeddings.of_speakers(store)
    assert store.inventory.speakers == ("unknown", "ann", "bob")
    for row, name in zip(found, store.inventory.speakers, strict=True):
        mean = np.mean([store.embeddings.of(e) for e in store.index if (e.speaker, e.split) == (name, "train")], 0)
        np.testing.assert_allclose(row, mean / np.linalg.norm(mean), atol=1e-6)


def test_unknown_is_zeros_where_all_have_a_speaker(plain, tmp_path):
    class Labelled(FeatureStore):
        def split(self, name):
            return np.array([p for p in super().split(name) if self.index[p].speaker != "unknown"])

    np.savez(tmp_path / "two.npz", **vectors(["ann", "bob"]))
    labelled = Labelled(plain.root).with_embeddings(SpeakerEmbeddings.read(tmp_path / "two.npz"))
    labelled.embeddings.check(labelled, ("train", "val", "test"))
    found = labelled.embeddings.of_speakers(labelled)
    assert not found[0].any()
    np.testing.assert_allclose(np.linalg.norm(found[1:], axis=1), 1, rtol=1e-6)


def test_missing_entries_are_counted_and_named(plain, tmp_path):
    np.savez(tmp_path / "ann.npz", **vectors(["ann", "train1"]))
    embeddings = SpeakerEmbeddings.read(tmp_path / "ann.npz")
    message = r"no vector for 33 of 51 utterances.*: train2 \(unknown\), train4 \(bob\), .* and 28 more\. Add them"
    with pytest.raises(UserError, match=message):
        embeddings.check(plain, ("train", "val"))
    with pytest.raises(UserError, match=r"train2 \(unknown\)"):
        plain.with_embeddings(embeddings).read([2])
    with pytest.raises(UserError, match="no vector for 33 of 51"):
        fit.train(config(tmp_path / "ann.npz", plain), tmp_path / "run")


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
def test_batches_carry_the_vectors_of_their_utterances(task, store, plain, file):
    c = config(file, store, task)
    whole = TrainingBatches(store, c)
    parts = [TrainingBatches(store, c, p, 2) for p in range(2)]
    of = {e.id: store.embeddings.of(e) for e in store.index}
    for step, read in zip(range(3), whole.iterate(0), strict=False):
        expected = np.stack([of[name] for name in whole.ids(step)])
        np.testing.assert_array_equal(read["speaker_embedding"], expected)
        np.testing.assert_array_equal(np.concatenate([p[step]["speaker_embedding"] for p in parts]), expected)
    for batch in validation_batches(store, c):
        given = np.linalg.norm(batch["speaker_embedding"], axis=1)
        np.testing.assert_allclose(given, batch["length"] > 0, atol=1e-6)
    utterances = store.read(store.split("test"))
    for places, batch in whole_batches(utterances, store.stats, task):
        for row, place in enumerate(places):
            np.testing.assert_array_equal(batch["speaker_embedding"][row], utterances[place].speaker_embedding)
    without, within = TrainingBatches(plain, c)[0], whole[0]
    assert within.keys() - without.keys() == {"speaker_embedding"}
    for name, value in without.items():
        np.testing.assert_array_equal(value, within[name])


@functools.cache
def model(store, task: str, family: str, rate: float = 0.0):
    c = config("given", store, task, family)
    c = replace(c, encoder=replace(c.encoder, label_dropout=rate))
    batch = TrainingBatches(store, c)[0]
    module = tasks.build(c, store.inventory, store.stats)
    init = lambda b: module.init(KEY, b, KEY, False, method="loss")  # noqa: E731
    return module, away_from_start(init, batch), batch


@pytest.mark.parametrize("task, family", list(itertools.product(("prosody", "acoustic"), DECODERS)))
def test_losses_are_finite_and_follow_the_vector(task, family, store):
    module, variables, batch = model(store, task, family)
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
def test_one_vector_changes_one_condition(task, store):
    module, variables, batch = model(store, task, "regression")
    condition = jax.jit(lambda b: module.apply(variables, b, None, method="condition")[0])
    vector = batch["speaker_embedding"].copy()
    vector[2] = 0
    before, after = condition(batch), condition(batch | {"speaker_embedding": vector})
    assert np.flatnonzero(np.abs(after - before).max((1, 2))).tolist() == [2]


def test_dropped_labels_train_the_bias_alone(store):
    """What is dropped is zeros: with every vector zero, the kernel has no gradient; with label dropout some have."""
    module, variables, batch = model(store, "prosody", "regression", 0.5)

    @jax.jit
    def gradient(b):
        total = lambda v: sum(map(jax.numpy.sum, tasks.loss_sums(module, v, b, KEY, True)[:1]))  # noqa: E731
        return jax.grad(total)(variables)["params"]["encoder"]["speaker"]

    zeros = gradient(batch | {"speaker_embedding": 0 * batch["speaker_embedding"]})
    some = gradient(batch)
    assert not zeros["kernel"].any() and zeros["bias"].any() and some["kernel"].any()


# Runs


@pytest.fixture(scope="module")
def trained(store, file, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    fit.train(config(file, store, buckets=(16,), steps=2, save_every=2), run)
    return run


def test_a_run_holds_what_synthesis_needs(trained, store):
    run = runs.load(trained)
    np.testing.assert_array_equal(run.speaker_embeddings, store.embeddings.of_speakers(store))
    assert run.embeddings is None
    (trained / "speaker_embeddings.npy").rename(trained / "away.npy")
    try:
        with pytest.raises(UserError, match=r"speaker_embeddings\.npy: cannot be read"):
            runs.load(trained)
        np.save(trained / "speaker_embeddings.npy", np.ones((2, E), np.float32))
        with pytest.raises(UserError, match=r"\(2, 5\) are no vectors of 3 speakers"):
            runs.load(trained)
    finally:
        (trained / "away.npy").replace(trained / "speaker_embeddings.npy")


def test_a_run_goes_on_with_its_vectors_only(trained, store, plain, file, tmp_path):
    given = dict(np.load(file))
    np.savez_compressed(tmp_path / "same.npz", **dict(reversed(given.items())))
    c = config(file, store, buckets=(16,), steps=2, save_every=2)
    elsewhere = replace(c, data=replace(c.data, speaker_embeddings=str(tmp_path / "same.npz")))
    fit.train(elsewhere, trained)
    fit.train(c, trained)
    np.savez(tmp_path / "other.npz", **given | {"ann": given["ann"] + 0.1})
    other = replace(c, data=replace(c.data, speaker_embeddings=str(tmp_path / "other.npz")))
    with pytest.raises(UserError, match=r"other\.npz, but .* other vectors; give the file as it was"):
        fit.train(other, trained)
    table = replace(c, data=replace(c.data, speaker_embeddings=""))
    with pytest.raises(UserError, match="speaker_embeddings is empty, but .* other vectors"):
        fit.train(table, trained)
    fit.train(table, tmp_path / "table")
    assert not (tmp_path / "table" / "speaker_embeddings.npy").exists()
    assert json.loads((tmp_path / "table" / "features.json").read_text()).keys() == {"index_sha256", "utterances"}
    with pytest.raises(UserError, match="started with none; leave it out"):
        fit.train(c, tmp_path / "table")

    fit.train(with_train(other, init_from=str(trained)), tmp_path / "tuned")
    tuned, source = (runs.load(run).variables["params"] for run in (tmp_path / "tuned", trained))
    assert np.abs(tuned["encoder"]["speaker"]["kernel"] - source["encoder"]["speaker"]["kernel"]).max() < 0.1
    with pytest.raises(UserError, match="has speaker embeddings, this run not; give data.speaker_embeddings"):
        fit.train(with_train(table, init_from=str(trained)), tmp_path / "a")
    with pytest.raises(UserError, match="has a table of speakers, this run not; leave out"):
        fit.train(with_train(c, init_from=str(tmp_path / "table")), tmp_path / "b")


@pytest.fixture(scope="module")
def pair(store, plain, file, tmp_path_factory) -> tuple[Path, Path, Path]:
    """A prosody and an acoustic run with embeddings, and a prosody run with a table."""
    root = tmp_path_factory.mktemp("pair")
    for task, family in (("prosody", "flow"), ("acoustic", "regression")):
        c = config(file, store, task, family)
        write_untrained(replace(c, encoder=replace(c.encoder, label_dropout=0.1)), store, root / task)
    write_untrained(small_config(features=plain.root), plain, root / "table")
    for name in ("prosody", "acoustic", "table"):
        (root / name / "metrics.jsonl").touch()
    return root / "prosody", root / "acoustic", root / "table"


def test_guidance_goes_away_from_no_voice(pair, store):
    _, batch = next(whole_batches(store.read(store.split("test")), store.stats, "prosody"))
    batch = batch | {"style": 0 * batch["style"]}
    batch["speaker_embedding"][0] = 0
    plain, strong = (runs.load(pair[0], guidance=scale) for scale in (0.0, 3.0))
    samples = [np.asarray(run.sample(run.variables, batch, KEY, 1.0)) for run in (plain, strong)]
    moved = np.abs(samples[1] - samples[0])[:, :4].max((1, 2))
    assert moved[0] < 1e-4 and (moved[1:] > 1e-4).any()


def test_evaluation_reads_the_utterances_vectors(pair, store, file, tmp_path, capsys):
    def samples(embeddings=None):
        c = open_comparison([pair[0], pair[2]], tmp_path, [1.0], 1, "test", 0, embeddings=embeddings)
        splits = [prosody_samples(run, c.splits["test"], 1.0, 1, 0, tmp_path / run.path.name) for run in c.runs]
        likelihoods = [log_prob(run, c.splits["val"], c.splits["test"], 0)[0] for run in c.runs]
        return [*splits, *likelihoods]

    first, kept = samples(), file.read_bytes()
    try:
        np.savez(file, **vectors(np.load(file).files, seed=1))
        with pytest.raises(UserError, match="changed since .* give --speaker-embeddings"):
            samples()
        again = samples(file)  # in the same folder: nothing old is taken
        assert [np.array_equal(a, b) for a, b in zip(first, again, strict=True)] == [False, True, False, True]
        np.savez(file, **{k: v[:3] for k, v in np.load(file).items()})
        with pytest.raises(UserError, match="vectors have 3 values; .* was trained with 5"):
            samples(file)
        np.savez(file, **vectors(e.id for e in store.index if e.split != "test"))
        with pytest.raises(UserError, match="no vector for 9 of 18 utterances"):
            samples(file)
        file.unlink()
        arguments = [str(pair[0]), "--out", str(tmp_path)]
        assert doors.evaluate(arguments) == command.FAILED
        assert "are not there" in (said := capsys.readouterr().err) and "--speaker-embeddings FILE" in said
        assert doors.evaluate([*arguments, "--speaker-embeddings", str(tmp_path / "no.npz")]) == command.FAILED
    finally:
        file.write_bytes(kept)


def test_generated_prosody_is_voiced_by_each_runs_own_vectors(pair, tmp_path):
    assert doors.evaluate(["conditioning", *map(str, pair[:2]), "--out", str(tmp_path)]) == command.DONE


def test_other_corpora_are_heard_as_one_speaker(pair, plain):
    run = opened(pair[0])
    heard = Heard("test", plain, plain.split("test"), run, "bob")
    for u in heard.read_by(replace(run, embeddings=object())).utterances:
        assert u.speaker == 2
        np.testing.assert_array_equal(u.speaker_embedding, run.speaker_embeddings[2])


# Voices


def spoken(pair, **asked):
    controls = Controls(phonemes=True, **asked)
    return synthesis.speak([PHONES], opened(pair[0]), opened(pair[1]), controls)[0]


def test_voices_of_training_and_new_ones(pair, store):
    ann = opened(pair[0]).speaker_embeddings[1]
    known = spoken(pair, speaker="ann")
    again = spoken(pair, speaker="ann", speaker_embedding=tuple((2.5 * ann).tolist()))
    np.testing.assert_allclose(again.mel, known.mel, atol=1e-4)
    new = vectors(["new"], seed=7)["new"]
    other = spoken(pair, speaker="ann", speaker_embedding=tuple(new.tolist()))
    assert other.features.duration.shape == known.features.duration.shape
    assert np.nanmax(np.abs(other.features.log_f0 - known.features.log_f0)) > 1e-3
    stranger = spoken(pair, speaker_embedding=tuple(new.tolist()))
    assert stranger.features.speaker == 0
    # The same draw in the range of all speakers.
    y = [store.stats.normalise_log_f0(s.features.log_f0, np.asarray(s.features.speaker)) for s in (other, stranger)]
    np.testing.assert_allclose(*y, atol=1e-4)
    assert spoken(pair, speaker="unknown").mel.shape[1] == known.mel.shape[1]
    with pytest.raises(UserError, match="several speakers; name one"):
        spoken(pair)


def test_voices_that_a_run_cannot_speak_with_are_told(pair):
    with pytest.raises(UserError, match="has 3 values; .* was trained with 5"):
        spoken(pair, speaker_embedding=(1.0, 2.0, 3.0))
    with pytest.raises(UserError, match="all zeros"):
        spoken(pair, speaker_embedding=(0.0,) * E)
    with pytest.raises(UserError, match="table of speakers and takes no speaker embedding"):
        spoken((pair[2], pair[1]), speaker_embedding=(1.0,) * E)
    assert spoken((pair[2], pair[1]), speaker="bob").features.speaker == 2  # one of either kind
    with pytest.raises(UserError, match="expected float"):
        from_dict(Controls, {"speaker_embedding": ["a"]}, "request")


def tts_gen(monkeypatch, capsys, *arguments) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["tts-gen", *map(str, arguments)])
    code = cli.main()
    return code, capsys.readouterr().err


def test_the_command_speaks_with_a_file(pair, tmp_path, monkeypatch, capsys):
    models = ("--prosody", pair[0], "--acoustic", pair[1], "--vocoder", "griffin_lim", "--phonemes")
    lines, voice = tmp_path / "lines.txt", tmp_path / "voice.npy"
    lines.write_text(f"{PHONES}\n")
    np.save(voice, np.ones(E))
    asked = ("synthesize", "--file", lines, *models, "--speaker-embedding", voice, "--out", tmp_path / "out")
    assert tts_gen(monkeypatch, capsys, *asked) == (command.DONE, "")
    assert (tmp_path / "out" / "0001.wav").stat().st_size > 1000
    np.save(voice, -np.ones(E))
    sources._vector.cache_clear()  # of a program that ended
    code, said = tts_gen(monkeypatch, capsys, *asked)
    assert code == command.FAILED and "speaker_embedding was" in said
    sources._vector.cache_clear()
    np.save(voice, np.ones(3))
    code, said = tts_gen(monkeypatch, capsys, *asked)
    assert code == command.FAILED and "has 3 values" in said


def test_an_exported_run_speaks_alike(pair, tmp_path, monkeypatch, capsys):
    assert tts_gen(monkeypatch, capsys, "export", pair[0], tmp_path / "out")[0] == command.DONE
    model, run = load.load(tmp_path / "out"), opened(pair[0])
    ann, new = run.speaker_embeddings[1], vectors(["new"], seed=7)["new"]
    by_name = model(PHONES, speaker="ann", temperature=0.0)
    given = model(PHONES, speaker="ann", temperature=0.0, speaker_embedding=3 * ann)
    np.testing.assert_allclose(given["log_f0"], by_name["log_f0"], atol=1e-4)
    other = model(PHONES, temperature=0.0, speaker_embedding=new)
    sentence = synthesis.read(PHONES, run, Controls(phonemes=True, speaker_embedding=tuple(new.tolist())))
    controls = Controls(prosody_temperature=0.0, speaker_embedding=tuple(new.tolist()))
    (expected,) = synthesis.intone([sentence], run, controls)
    np.testing.assert_allclose(other["log_f0"], expected.log_f0, atol=1e-4)
    with pytest.raises(ValueError, match=r"shape \(3,\); give 5 finite values"):
        model(PHONES, speaker_embedding=[1, 2, 3])


# tts-gen embed


def has_resemblyzer() -> bool:
    try:
        PROXIES["speaker_similarity"].version()
    except Missing:
        return False
    return True


def test_what_cannot_be_embedded_is_told(plain, tmp_path, monkeypatch, capsys):
    for source, out in ((plain.root, "v.npy"), (tmp_path / "a.wav", "v.npz")):
        code, said = tts_gen(monkeypatch, capsys, "embed", source, tmp_path / out)
        assert code == command.FAILED and "name a file that ends in" in said
    code, said = tts_gen(monkeypatch, capsys, "embed", tmp_path / "a.wav", tmp_path / "v.npy")
    assert code == command.FAILED and "a.wav: missing audio" in said and not list(tmp_path.iterdir())
    if not has_resemblyzer():
        code, said = tts_gen(monkeypatch, capsys, "embed", plain.root, tmp_path / "v.npz")
        assert code == command.FAILED and "missing: pip install --no-deps resemblyzer" in said


@pytest.mark.skipif(not has_resemblyzer(), reason="needs resemblyzer")
def test_recordings_are_embedded(tmp_path, monkeypatch, capsys):
    store, rng = make_store(tmp_path / "store", train=3, held_out=1), np.random.default_rng(0)
    for entry in store.index:
        write_wav(Path(entry.audio), rng.uniform(-0.5, 0.5, 16000).astype(np.float32), 16000)
    assert tts_gen(monkeypatch, capsys, "embed", store.root, tmp_path / "v.npz")[0] == command.DONE
    found = SpeakerEmbeddings.read(tmp_path / "v.npz")
    found.check(store, ("train", "val", "test"))
    assert tts_gen(monkeypatch, capsys, "embed", store.index[1].audio, tmp_path / "v.npy")[0] == command.DONE
    np.testing.assert_allclose(read_vector(tmp_path / "v.npy"), found.of(store.index[1]), atol=1e-5)
    Path(store.index[2].audio).unlink()
    code, said = tts_gen(monkeypatch, capsys, "embed", store.root, tmp_path / "w.npz")
    assert code == command.FAILED and "train2.wav: missing audio" in said and not (tmp_path / "w.npz").exists()
