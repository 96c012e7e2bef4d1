"""The feature store: what is written is read, statistics are those of the training split, damage is named."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tts_gen.config import Audio, UserError
from tts_gen.corpora import Utterance
from tts_gen.features.inventory import Inventory
from tts_gen.features.record import Record
from tts_gen.features.stats import Stats
from tts_gen.features.store import INDEX, FeatureStore
from tts_gen.features.writer import write_store
from tts_gen.text import PAUSE, Phoneme

AUDIO = Audio()
MEAN = {"ann": 5.3, "bob": 4.7, None: 5.0}
"""log-f0 by speaker"""


def make_record(rng: np.random.Generator, speaker: str | None, n: int = 20) -> Record:
    symbols = [PAUSE, *rng.choice(["AH", "S", "M"], n - 2), PAUSE]
    duration = rng.integers(1, 12, n).astype(np.int32)
    log_f0 = rng.normal(MEAN[speaker], 0.2, n).astype(np.float32)
    log_f0[[s in (PAUSE, "S") for s in symbols]] = np.nan
    phonemes = [Phoneme(s, int(s == "AH"), i % 4, 2) for i, s in enumerate(symbols)]
    return Record(phonemes, duration, log_f0, rng.normal(-5, 2, (duration.sum(), 80)).astype(np.float32))


def make_items() -> list[tuple[Utterance, Record]]:
    rng = np.random.default_rng(0)
    items = []
    for i in range(60):
        speaker = ("ann", "bob", None)[i % 3]
        split = "train" if i < 48 else "test"
        utterance = Utterance(f"u{i}", Path(f"/corpus/u{i}.wav"), f"Text {i}.", speaker, "calm", split)
        items.append((utterance, make_record(rng, speaker)))
    return items


@pytest.fixture(scope="module")
def items():
    return make_items()


@pytest.fixture
def store(items, tmp_path):
    write_store(tmp_path, AUDIO, items)
    return FeatureStore(tmp_path)


def test_what_is_written_is_read(store, items):
    positions = [31, 0, 59]
    for features, position in zip(store.read(positions), positions, strict=True):
        utterance, record = items[position]
        inventory = store.inventory
        found = inventory.decode(features.phoneme, features.stress, features.edge, features.punctuation)
        assert found == record.phonemes
        np.testing.assert_array_equal(features.duration, record.duration)
        np.testing.assert_array_equal(features.log_f0, record.log_f0)
        np.testing.assert_array_equal(features.voiced, ~np.isnan(record.log_f0))
        np.testing.assert_allclose(features.mel, record.mel, atol=0.005)
        assert features.mel.dtype == np.float32
        assert inventory.speakers[features.speaker] == (utterance.speaker or "unknown")
        assert inventory.styles[features.style] == "calm"
        entry = store.index[position]
        assert (entry.id, entry.n_phonemes, entry.n_frames) == (utterance.id, 20, len(record.mel))
        assert (entry.text, entry.audio, entry.group) == (utterance.text, str(utterance.audio), utterance.id)
    assert store.audio == AUDIO


def test_splits(store):
    np.testing.assert_array_equal(store.split("test"), np.arange(48, 60))
    with pytest.raises(UserError, match="'val'.*test, train"):
        store.split("val")


def test_a_store_travels_to_other_processes(store):
    store.read([0])
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.read([5])[0].mel, store.read([5])[0].mel)


def test_statistics_are_of_the_training_split(store, items):
    train = [(u, r) for u, r in items if u.split == "train"]
    mel = np.concatenate([r.mel for _, r in train])
    np.testing.assert_allclose(store.stats.mel_mean, mel.mean(0), atol=1e-3)
    np.testing.assert_allclose(store.stats.mel_std, mel.std(0), atol=1e-3)
    duration = np.concatenate([r.duration for _, r in train])
    drawn = np.log(duration + np.random.default_rng(0).uniform(size=(2000, len(duration))))
    assert store.stats.log_duration_mean == pytest.approx(drawn.mean(), abs=2e-3)
    assert store.stats.log_duration_std == pytest.approx(drawn.std(), abs=2e-3)
    assert store.inventory.speakers == ("unknown", "ann", "bob")
    for row, name in enumerate((None, "ann", "bob")):
        log_f0 = np.concatenate([r.log_f0 for u, r in train if u.speaker == name])
        assert store.stats.log_f0_mean[row] == pytest.approx(np.nanmean(log_f0), abs=1e-5)
        assert store.stats.log_f0_std[row] == pytest.approx(np.nanstd(log_f0), abs=1e-5)


def test_normalisation_is_undone(store):
    rng = np.random.default_rng(0)
    stats, speaker = store.stats, np.array([1, 2])
    log_f0, mel, log_duration = rng.normal(5, 1, (2, 7)), rng.normal(size=(2, 9, 80)), rng.normal(size=(2, 7))
    normal = stats.normalise_log_f0(log_f0, speaker)
    np.testing.assert_allclose(normal[1], (log_f0[1] - stats.log_f0_mean[2]) / stats.log_f0_std[2])
    np.testing.assert_allclose(stats.denormalise_log_f0(normal, speaker), log_f0)
    np.testing.assert_allclose(stats.normalise_log_f0(log_f0[1], 2), normal[1])
    np.testing.assert_allclose(stats.denormalise_mel(stats.normalise_mel(mel)), mel)
    np.testing.assert_allclose(stats.denormalise_log_duration(stats.normalise_log_duration(log_duration)), log_duration)


def test_voiced_class_is_the_training_majority(store):
    ids = store.inventory.phoneme_ids(["AH", "M", "S", PAUSE])
    assert store.inventory.phone_voiced(ids).tolist() == [True, True, False, False]


def test_rare_speakers_use_the_pooled_statistics(items, tmp_path, caplog):
    few = [replace(items[0][0], id="few", speaker="cleo")]
    write_store(tmp_path, AUDIO, [*items, (few[0], items[1][1])])
    assert "cleo" in caplog.text
    stats, speakers = FeatureStore(tmp_path).stats, FeatureStore(tmp_path).inventory.speakers
    everyone = np.concatenate([r.log_f0 for u, r in items if u.split == "train"] + [items[1][1].log_f0])
    assert stats.log_f0_mean[speakers.index("cleo")] == pytest.approx(np.nanmean(everyone), abs=1e-5)


def test_labels_outside_training_count_as_unknown(items, tmp_path, caplog):
    stranger = replace(items[0][0], id="stranger", speaker="dora", split="test")
    write_store(tmp_path, AUDIO, [*items, (stranger, items[0][1])])
    store = FeatureStore(tmp_path)
    assert "dora" in caplog.text and "dora" not in store.inventory.speakers
    assert store.index[-1].speaker == "unknown" and store.read([60])[0].speaker == 0


def test_no_training_split_is_an_error(items, tmp_path):
    with pytest.raises(UserError, match="training split"):
        write_store(tmp_path, AUDIO, items[50:])


def test_what_is_not_a_store_is_refused(tmp_path):
    with pytest.raises(UserError, match="not a feature store.*tts-gen prepare MANIFEST"):
        FeatureStore(tmp_path)
    (tmp_path / "shards").mkdir()
    with pytest.raises(UserError, match="unfinished.*tts-gen prepare MANIFEST"):
        FeatureStore(tmp_path)


def test_damage_is_named(store):
    shard = store.root / "shards" / store.index[0].shard
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 0xFF
    shard.write_bytes(damaged)
    reopened, outcomes = FeatureStore(store.root), []
    for position, entry in enumerate(reopened.index):
        try:
            reopened.read([position])
        except UserError as error:
            assert f"utterance {entry.id}:" in str(error) and str(shard) in str(error)
            outcomes.append(entry.id)
    assert len(outcomes) == 1


def test_a_record_of_another_run_fails_its_checksum(store):
    rows = [json.loads(line) for line in (store.root / INDEX).read_text().splitlines()]
    rows[3]["checksum"] ^= 1
    (store.root / INDEX).write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(UserError, match="u3.*checksum"):
        FeatureStore(store.root).read([3])


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5])
def test_a_shard_cut_off_is_named(store, share):
    shard = store.root / "shards" / store.index[0].shard
    data = shard.read_bytes()
    shard.write_bytes(data[: int(share * len(data))])
    with pytest.raises(UserError, match=f"utterance u59: damaged record.*{shard.name}"):
        FeatureStore(store.root).read([59])


def test_a_missing_shard_is_named(store):
    shard = store.root / "shards" / store.index[0].shard
    shard.unlink()
    with pytest.raises(UserError, match=shard.name):
        FeatureStore(store.root).read([0])


def test_a_broken_index_names_its_line(store):
    (store.root / INDEX).write_text('{"id": "a"}\n')
    with pytest.raises(UserError, match="line 1: Entry lacks"):
        FeatureStore(store.root)


def test_inventory_and_stats_survive_saving(store, tmp_path):
    store.inventory.save(tmp_path / "i.json")
    assert Inventory.load(tmp_path / "i.json") == store.inventory
    store.stats.save(tmp_path / "s.json")
    assert Stats.load(tmp_path / "s.json").to_dict() == store.stats.to_dict()


def test_unknown_names_are_errors_that_list_the_known(store):
    inventory = store.inventory
    assert inventory.speaker_id(None) == inventory.speaker_id("unknown") == 0
    assert inventory.speaker_id("bob") == 2
    with pytest.raises(UserError, match="speaker 'eve'.*unknown, ann, bob"):
        inventory.speaker_id("eve")
    with pytest.raises(UserError, match="style 'sad'.*unknown, calm"):
        inventory.style_id("sad")
    with pytest.raises(UserError, match="phoneme 'ZH'.*pau, AH, M, S"):
        inventory.encode([Phoneme("ZH")])


def test_records_must_be_consistent():
    record = make_record(np.random.default_rng(0), "ann")
    with pytest.raises(ValueError, match="durations sum"):
        replace(record, mel=record.mel[:-1])
    with pytest.raises(ValueError, match="differ in length"):
        replace(record, log_f0=record.log_f0[:-1])
