"""Runs with speaker embeddings, new voices, and `tts-gen embed`."""

import functools
import json
import sys
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from models import EMBEDDING as E
from models import embedded_config, make_store, small_config, vectors, with_train, write_untrained

from tts_gen import cli, command, doors, fit, runs, synthesis
from tts_gen.batches import whole_batches
from tts_gen.config import UserError, from_dict
from tts_gen.evaluation.comparison import open_comparison
from tts_gen.evaluation.generate import prosody_samples
from tts_gen.evaluation.likelihood import log_prob
from tts_gen.evaluation.proxies import PROXIES, Missing
from tts_gen.evaluation.studies.transfer import Heard
from tts_gen.export import load
from tts_gen.features.embeddings import SpeakerEmbeddings, read_vector
from tts_gen.speech import sources
from tts_gen.synthesis import Controls
from tts_gen.vocoders import write_wav

KEY = jax.random.key(0)
PHONES = "pau M IY1 | S AH0 T . pau"
opened = functools.cache(runs.load)


# Runs


@pytest.fixture(scope="module")
def trained(embedded, embeddings_file, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "run"
    fit.train(embedded_config(embeddings_file, embedded, buckets=(16,), steps=2, save_every=2), run)
    return run


def test_a_run_holds_what_synthesis_needs(trained, embedded):
    run = runs.load(trained)
    np.testing.assert_array_equal(run.speaker_embeddings, embedded.embeddings.of_speakers(embedded))
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


def test_a_run_goes_on_with_its_vectors_only(trained, embedded, store, embeddings_file, tmp_path):
    given = dict(np.load(embeddings_file))
    np.savez_compressed(tmp_path / "same.npz", **dict(reversed(given.items())))
    c = embedded_config(embeddings_file, embedded, buckets=(16,), steps=2, save_every=2)
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
def pair(embedded, store, embeddings_file, tmp_path_factory) -> tuple[Path, Path, Path]:
    """A prosody and an acoustic run with embeddings, and a prosody run with a table."""
    root = tmp_path_factory.mktemp("pair")
    for task, family in (("prosody", "flow"), ("acoustic", "regression")):
        c = embedded_config(embeddings_file, embedded, task, family)
        write_untrained(replace(c, encoder=replace(c.encoder, label_dropout=0.1)), embedded, root / task)
    write_untrained(small_config(features=store.root), store, root / "table")
    for name in ("prosody", "acoustic", "table"):
        (root / name / "metrics.jsonl").touch()
    return root / "prosody", root / "acoustic", root / "table"


def test_guidance_goes_away_from_no_voice(pair, embedded):
    _, batch = next(whole_batches(embedded.read(embedded.split("test")), embedded.stats, "prosody"))
    batch = batch | {"style": 0 * batch["style"]}
    batch["speaker_embedding"][0] = 0
    without, strong = (runs.load(pair[0], guidance=scale) for scale in (0.0, 3.0))
    samples = [np.asarray(run.sample(run.variables, batch, KEY, 1.0)) for run in (without, strong)]
    moved = np.abs(samples[1] - samples[0])[:, :4].max((1, 2))
    assert moved[0] < 1e-4 and (moved[1:] > 1e-4).any()


def test_evaluation_reads_the_utterances_vectors(pair, embedded, embeddings_file, tmp_path, capsys):
    def samples(embeddings=None):
        c = open_comparison([pair[0], pair[2]], tmp_path, [1.0], 1, "test", 0, embeddings=embeddings)
        splits = [prosody_samples(run, c.splits["test"], 1.0, 1, 0, tmp_path / run.path.name) for run in c.runs]
        likelihoods = [log_prob(run, c.splits["val"], c.splits["test"], 0)[0] for run in c.runs]
        return [*splits, *likelihoods]

    first, kept = samples(), embeddings_file.read_bytes()
    try:
        np.savez(embeddings_file, **vectors(np.load(embeddings_file).files, seed=1))
        with pytest.raises(UserError, match="changed since .* give --speaker-embeddings"):
            samples()
        again = samples(embeddings_file)  # in the same folder: nothing old is taken
        assert [np.array_equal(a, b) for a, b in zip(first, again, strict=True)] == [False, True, False, True]
        np.savez(embeddings_file, **{k: v[:3] for k, v in np.load(embeddings_file).items()})
        with pytest.raises(UserError, match="vectors have 3 values; .* was trained with 5"):
            samples(embeddings_file)
        np.savez(embeddings_file, **vectors(e.id for e in embedded.index if e.split != "test"))
        with pytest.raises(UserError, match="no vector for 9 of 18 utterances"):
            samples(embeddings_file)
        embeddings_file.unlink()
        arguments = [str(pair[0]), "--out", str(tmp_path)]
        assert doors.evaluate(arguments) == command.FAILED
        assert "are not there" in (said := capsys.readouterr().err) and "--speaker-embeddings FILE" in said
        assert doors.evaluate([*arguments, "--speaker-embeddings", str(tmp_path / "no.npz")]) == command.FAILED
    finally:
        embeddings_file.write_bytes(kept)


def test_generated_prosody_is_voiced_by_each_runs_own_vectors(pair, tmp_path):
    assert doors.evaluate(["conditioning", *map(str, pair[:2]), "--out", str(tmp_path)]) == command.DONE


def test_other_corpora_are_heard_as_one_speaker(pair, store):
    run = opened(pair[0])
    heard = Heard("test", store, store.split("test"), run, "bob")
    for u in heard.read_by(replace(run, embeddings=object())).utterances:
        assert u.speaker == 2
        np.testing.assert_array_equal(u.speaker_embedding, run.speaker_embeddings[2])


# Voices


def spoken(pair, **asked):
    controls = Controls(phonemes=True, **asked)
    return synthesis.speak([PHONES], opened(pair[0]), opened(pair[1]), controls)[0]


def test_voices_of_training_and_new_ones(pair, embedded):
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
    y = [embedded.stats.normalise_log_f0(s.features.log_f0, np.asarray(s.features.speaker)) for s in (other, stranger)]
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


def test_what_cannot_be_embedded_is_told(store, tmp_path, monkeypatch, capsys):
    for source, out in ((store.root, "v.npy"), (tmp_path / "a.wav", "v.npz")):
        code, said = tts_gen(monkeypatch, capsys, "embed", source, tmp_path / out)
        assert code == command.FAILED and "name a file that ends in" in said
    code, said = tts_gen(monkeypatch, capsys, "embed", tmp_path / "a.wav", tmp_path / "v.npy")
    assert code == command.FAILED and "a.wav: missing audio" in said and not list(tmp_path.iterdir())
    if not has_resemblyzer():
        code, said = tts_gen(monkeypatch, capsys, "embed", store.root, tmp_path / "v.npz")
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
