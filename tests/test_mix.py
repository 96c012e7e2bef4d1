"""A mixture is a store like any: what it holds is what its stores hold, its statistics are those of what training
draws, and training draws by weight."""

import json
import logging
import shutil
from collections import Counter
from dataclasses import asdict, replace
from fractions import Fraction

import numpy as np
import pytest
from evaluated import IDENTITY, world
from mixtures import make_pair, mixed
from models import AUDIO, losses, make_store, small_config, with_train

from tts_gen import fit
from tts_gen.batches import TrainingBatches, validation_batches
from tts_gen.config import UserError
from tts_gen.evaluation.generate import oracle_prosody
from tts_gen.evaluation.prosody import prosody_rows
from tts_gen.evaluation.split import Split
from tts_gen.features import journal
from tts_gen.features.files import write_json_lines
from tts_gen.features.journal import Row
from tts_gen.features.mix import mix, parse
from tts_gen.features.prepare import prepare
from tts_gen.features.stats import StatsBuilder
from tts_gen.features.store import FeatureStore

TASKS = ["prosody", "acoustic"]
NAMES = {"first": ("unknown", "ann", "first.bob"), "second": ("unknown", "second.bob", "cleo")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora")
    make_pair(folder)
    return folder


@pytest.fixture(scope="module")
def sources(folder):
    return [FeatureStore(folder / name) for name in NAMES]


@pytest.fixture(scope="module")
def store(folder, sources):
    return mixed(folder, 3, 2)


def test_a_mixture_holds_what_its_stores_hold(store, sources):
    assert len(store.index) == sum(len(s.index) for s in sources)
    position = 0
    for source in sources:
        for i, entry in enumerate(source.index):
            found, (old,), (new,) = store.index[position], source.read([i]), store.read([position])
            assert store.mixture.name(position) == source.root.name
            for name in ("stress", "edge", "punctuation", "duration", "log_f0", "voiced", "mel"):
                np.testing.assert_array_equal(getattr(old, name), getattr(new, name), name)
            symbols = [[s.inventory.phonemes[p] for p in u.phoneme] for s, u in ((source, old), (store, new))]
            assert symbols[0] == symbols[1]
            assert store.inventory.speakers[new.speaker] == found.speaker == NAMES[source.root.name][old.speaker]
            assert store.inventory.styles[new.style] == source.inventory.styles[old.style]
            kept = (entry.n_phonemes, entry.n_frames, entry.split, entry.text, entry.audio, entry.checksum)
            assert (found.n_phonemes, found.n_frames, found.split, found.text, found.audio, found.checksum) == kept
            assert found.id in (entry.id, f"{source.root.name}.{entry.id}")
            position += 1
    ids = [e.id for e in store.index]
    assert len(set(ids)) == len(ids)
    assert {"first.train0", "second.train0", "train3", "b-train3"} <= set(ids)
    assert store.inventory.speakers == ("unknown", "ann", "cleo", "first.bob", "second.bob")
    assert store.inventory.styles == ("unknown", "calm", "glad")


def test_statistics_are_those_of_what_training_draws(store, sources):
    """Brute force: every utterance as many times as its weight."""
    builder, counts, voiced = StatsBuilder(), Counter(), Counter()
    for source, weight in zip(sources, (3, 2), strict=True):
        for position in source.split("train"):
            (u,), speaker = source.read([position]), NAMES[source.root.name]
            for _ in range(weight):
                builder.add(speaker[u.speaker], u.log_f0, u.duration, u.mel)
                symbols = [source.inventory.phonemes[p] for p in u.phoneme]
                counts.update(symbols)
                voiced.update(s for s, v in zip(symbols, u.voiced, strict=True) if v)
    expected = builder.stats(store.inventory.speakers).to_dict()
    assert store.stats.to_dict().keys() == expected.keys()
    for name, value in store.stats.to_dict().items():
        np.testing.assert_allclose(value, expected[name], rtol=2e-5, err_msg=name)
    assert set(store.inventory.phonemes) == set(counts)
    assert dict(zip(store.inventory.phonemes, store.inventory.voiced, strict=True)) == {
        s: 2 * voiced[s] > counts[s] for s in counts
    }
    assert 0 < voiced["S"] < counts["S"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("weights", [(3, 2), (1, 1), (0.3, 1)])
def test_training_draws_by_weight(folder, sources, task, weights, tmp_path):
    paths = [str(s.root) for s in sources]
    mix(tmp_path, list(zip(paths, weights, strict=True)))
    store = FeatureStore(tmp_path)
    plan = TrainingBatches(store, small_config(task)).plan
    steps = plan.rounds.start(40)
    drawn, entries = Counter(), dict.fromkeys(plan.members, 0)
    for step in range(steps):
        bucket, positions = plan(step)
        drawn.update(positions.tolist())
        entries[bucket] += len(positions)
    for bucket, members in plan.members.items():
        epochs = entries[bucket] / float(plan.streams[bucket].epochs.total)
        for position, times in Counter(members.tolist()).items():
            rate = weights[position >= len(sources[0].index)] / max(weights)
            assert abs(drawn[position] - times * rate * epochs) <= 2 * times  # an epoch that is not at its end, too
    assert set(plan.round(0)) == set(plan.members)
    of_second = sum(n for p, n in drawn.items() if p >= len(sources[0].index)) / sum(drawn.values())
    expected = [w * len(np.concatenate([m[(m >= len(sources[0].index)) == i] for m in plan.members.values()]))
                for i, w in enumerate(weights)]  # fmt: skip
    assert of_second == pytest.approx(expected[1] / sum(expected), abs=0.02)


@pytest.mark.parametrize("task", TASKS)
def test_the_plan_knows_the_share_of_padding(store, sources, task):
    """Brute force, over the arrays of all batches."""
    config = small_config(task)
    config = replace(config, data=replace(config.data, max_phonemes=64))
    for of in (store, sources[0]):
        batches = TrainingBatches(of, config)
        valid = total = 0
        for step in range(batches.plan.rounds.start(30)):
            batch = batches[step]
            valid += batch["length" if task == "prosody" else "frames"].sum()
            total += batch["phoneme"].size if task == "prosody" else batch["mel"].shape[0] * batch["mel"].shape[1]
        assert batches.plan.filled == pytest.approx(valid / total, abs=0.005)


@pytest.mark.parametrize("task", TASKS)
def test_batches_of_a_mixture_are_functions_of_the_step(store, task):
    whole = TrainingBatches(store, small_config(task))
    again = TrainingBatches(FeatureStore(store.root), small_config(task))
    parts = [TrainingBatches(store, small_config(task), p, 2) for p in range(2)]
    for step in (7, 30, 2, 1000):
        batch, rows = whole[step], [part[step] for part in parts]
        for name, value in batch.items():
            np.testing.assert_array_equal(value, again[step][name])
            np.testing.assert_array_equal(value, np.concatenate([r[name] for r in rows]))
    other = TrainingBatches(store, with_train(small_config(task), seed=1))
    assert any(whole.ids(s) != other.ids(s) for s in range(6))
    rows = [n for batch in validation_batches(store, small_config(task)) for n in batch["length"] if n]
    assert len(rows) == len(store.split("val")) == 15


def test_a_run_goes_on_and_tells_other_weights_and_changed_stores(folder, sources, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    for source in sources:
        shutil.copytree(source.root, tmp_path / source.root.name)
    mixed(tmp_path, 1, 2)
    config = small_config(features=tmp_path / "mixed", buckets=(16,), steps=8, save_every=4, sample_every=0)
    run = tmp_path / "run"
    fit.train(with_train(config, steps=4), run)
    assert "batches an epoch; sequences in a batch: 8 of length 16; " in caplog.text
    fit.train(config, run)
    assert list(losses(run)) == list(range(1, 9))

    before = FeatureStore(tmp_path / "mixed").fingerprint
    mixed(tmp_path, 2, 4)  # only their ratio counts
    assert FeatureStore(tmp_path / "mixed").fingerprint == before
    mixed(tmp_path, 1, 1)
    assert FeatureStore(tmp_path / "mixed").fingerprint != before
    with pytest.raises(UserError, match="other means and standard deviations|changed since"):
        fit.train(with_train(config, steps=9), run)

    index = tmp_path / "second" / "index.jsonl"
    lines = index.read_text().splitlines(keepends=True)
    index.write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match=r"mixture.json: .*second changed since it was mixed; mix again: tts-gen mix"):
        FeatureStore(tmp_path / "mixed")
    index.unlink()
    with pytest.raises(UserError, match="mixture.json: second is not at .*second any more"):
        FeatureStore(tmp_path / "mixed")


def test_texts_on_both_sides_are_told(folder, sources, tmp_path, caplog):
    mix(tmp_path / "mixed", [(str(folder / name), 1.0) for name in NAMES])
    trained = {e.text for s in sources for e in s.index if e.split == "train"}
    held_out = [e for s in sources for e in s.index if e.split != "train"]
    known = sum(e.text in trained for e in held_out)
    assert known and f"{known} of {len(held_out)} held-out utterances have a text" in caplog.text


def test_a_folder_of_corpora_moves_with_its_mixture(folder, store, tmp_path):
    shutil.copytree(folder, tmp_path / "elsewhere" / "corpora")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "corpora" / "mixed")
    moved = FeatureStore(tmp_path / "link")
    shard = next((tmp_path / "elsewhere" / "corpora" / "second" / "shards").iterdir())
    np.testing.assert_array_equal(moved.read([60])[0].mel, store.read([60])[0].mel)
    shard.unlink()
    with pytest.raises(UserError, match=f"{shard}.*prepare MANIFEST {shard.parent.parent}"):
        FeatureStore(tmp_path / "link").read([60])


def test_evaluation_reports_by_corpus(store, sources):
    prosody = oracle_prosody(Split.read(store, "test"), store)
    lengths = [sum(s.index.n_phonemes[s.split("test")]) for s in sources]
    assert prosody.corpus.tolist() == ["first"] * lengths[0] + ["second"] * lengths[1]
    oracle, *_ = world(np.random.default_rng(0))
    labelled = replace(oracle, corpus=np.where(oracle.utterance % 2, "first", "second"))
    scopes = [{r["scope"] for r in prosody_rows(o, o, IDENTITY, n_boot=10)} for o in (oracle, labelled)]
    assert scopes[1] - scopes[0] == {"corpus:first", "corpus:second"}


@pytest.mark.parametrize(
    "texts, message",
    [
        (("a=0", "b"), "a=0: the weight is 0; give a number above 0"),
        (("a", "b=-1"), "b=-1: the weight is -1"),
        (("a=nan", "b"), "the weight is nan"),
        (("a=inf", "b"), "the weight is inf"),
        (("a=much", "b"), "a=much: weight 'much' is not a number"),
        (("a=2000", "b"), "weights 2000 and 1: one may be at most 1000 times another"),
    ],
)
def test_weights_that_are_none_are_refused(texts, message):
    with pytest.raises(UserError, match=message):
        parse(texts)


def test_names_with_an_equals_sign_are_stores(tmp_path):
    (tmp_path / "seed=0").mkdir()
    asked = parse([f"{tmp_path}/seed=0", f"{tmp_path}/seed=0=2", "runs/seed=1/features", "gs://bucket/a=0.5"])
    assert asked == [(f"{tmp_path}/seed=0", 1), (f"{tmp_path}/seed=0", 2), ("runs/seed=1/features", 1),
                     ("gs://bucket/a", 0.5)]  # fmt: skip


def test_what_cannot_be_mixed_is_told(folder, store, sources, tmp_path):
    first, second = (str(s.root) for s in sources)
    other_mels = make_store(tmp_path / "mels", 8, 2, audio=replace(AUDIO, fmax=7000.0))
    (tmp_path / "begun" / "shards").mkdir(parents=True)
    shutil.copytree(first, tmp_path / "copy")
    for paths, message in (
        ([first], "two stores or more"),
        ([first, first], "are the same store"),
        ([first, str(tmp_path / "copy")], f"{first} and {tmp_path}/copy are the same store"),
        ([first, str(store.root)], f"{store.root} is a mixture itself; name the stores that it is made of: ../first"),
        ([first, str(tmp_path / "begun")], "begun is an unfinished feature store"),
        ([first, str(tmp_path / "nothing")], "nothing is not a feature store"),
        ([first, str(other_mels.root)], f"fmax is 7000.0 in {tmp_path}/mels but 8000.0 in {first}"),
    ):
        with pytest.raises(UserError, match=message):
            mix(tmp_path / "out", [(path, 1.0) for path in paths])
        assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="copy is a feature store of its own; give another folder"):
        mix(tmp_path / "copy", [(first, 1.0), (second, 1.0)])


def test_a_new_name_that_is_taken_is_told(folder, sources, tmp_path):
    for source in sources:
        shutil.copytree(source.root, tmp_path / source.root.name)
    index = tmp_path / "second" / "index.jsonl"
    rows = [json.loads(line) for line in index.read_text().splitlines()]
    rows[5]["id"] = "first.train0"
    index.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UserError, match="id first.train0 is one of a store, and a new name for another's"):
        mixed(tmp_path, 1, 1)


def test_what_prepare_measured_is_found_in_a_mixture(folder, sources, tmp_path):
    for source in sources:
        shutil.copytree(source.root, tmp_path / source.root.name)
    row = Row("val3", "", position=30, level=-20.0, clipped=0.0, figures={"score": 1.0}, shard="00000")
    write_json_lines(tmp_path / "second" / "shards" / "00000.rows.jsonl", [asdict(row)])
    store, position = mixed(tmp_path, 1, 1), len(sources[0].index) + 30
    found = journal.figures(store.home, store.index.shard_lengths)
    assert found == {(store.index[position].shard, 30): {"score": 1.0, "level": -20.0, "clipped": 0.0}}
    assert journal.figures(tmp_path / "second", ["00000.array_record"]).keys() == {("00000.array_record", 30)}


def test_stores_of_one_name_are_told_apart_by_their_folders(folder, sources, tmp_path):
    for source in sources:
        shutil.copytree(source.root, tmp_path / source.root.name / "features")
    found = mix(tmp_path / "mixed", [(str(tmp_path / s.root.name / "features"), 1.0) for s in sources])
    assert [c.name for c in found.corpora] == ["first-features", "second-features"]
    assert found.rates == (Fraction(1), Fraction(1))


def test_a_mixture_is_not_prepared_into_nor_written_to_an_address(sources, tmp_path):
    root, asked = tmp_path / "both", [(str(s.root), 1.0) for s in sources]
    mix(root, asked)
    with pytest.raises(UserError, match="is a mixture of other stores"):
        prepare(tmp_path / "none.jsonl", root)
    lines = (root / "index.jsonl").read_text().splitlines(True)
    (root / "index.jsonl").write_text("".join(lines[:-1]))
    with pytest.raises(UserError, match="is not of its index.jsonl"):
        FeatureStore(root)
    with pytest.raises(UserError, match="written to a folder of this machine"):
        mix("memory://mixed", asked)
