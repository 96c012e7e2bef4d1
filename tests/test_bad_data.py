"""One bad utterance never ends a training: values that are not finite, a damaged record, an utterance far too long."""

import json
import logging
from dataclasses import replace

import numpy as np
import pytest
from models import AUDIO, simulated, small_config, with_train

from tts_gen import batches, fit
from tts_gen.batches import collate
from tts_gen.config import UserError
from tts_gen.corpora import Utterance
from tts_gen.features.store import FeatureStore
from tts_gen.features.writer import write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Of 42 training utterances one has a mel that is not finite, one has 20 times too many phonemes."""
    root, rng = tmp_path_factory.mktemp("store"), np.random.default_rng(0)
    items = []
    for split, count in (("train", 42), ("val", 9), ("test", 9)):
        for i in range(count):
            name = {("train", 5): "not-finite", ("train", 7): "long"}.get((split, i), f"{split}{i}")
            record = simulated(320 if name == "long" else int(rng.integers(4, 17)), "ann", rng)
            if name == "not-finite":
                record.mel[:] = np.nan
            # Out of the training split while statistics are made, which would refuse it.
            written = "spare" if name == "not-finite" else split
            items.append((Utterance(name, root / f"{name}.wav", "Text.", "ann", "calm", written), record))
    write_store(root, AUDIO, items)
    index = (root / "index.jsonl").read_text()
    (root / "index.jsonl").write_text(index.replace('"split": "spare"', '"split": "train"'))
    return FeatureStore(root)


@pytest.fixture(autouse=True)
def _everything_is_said_again():
    batches._left_out.cache_clear()


@pytest.mark.parametrize("task, family", [("prosody", "regression"), ("acoustic", "regression")])
def test_a_training_finishes_and_names_them(store, tmp_path, caplog, task, family):
    config = with_train(small_config(task, family, store.root), steps=12, save_every=6)
    with caplog.at_level(logging.INFO):
        fit.train(config, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == 12 and all(np.isfinite(r["loss"]) and r["skipped"] == 0 for r in rows)
    assert caplog.text.count(f"utterance not-finite in {store.root}: its mel or f0 is not finite; left out") == 1
    if task == "prosody":  # mels are cropped, however long
        too_long = "1 of 42 train utterances have more than 16 phonemes and are left out (data.buckets): long"
        assert too_long in caplog.text


@pytest.mark.parametrize("task", ["prosody", "acoustic"])
def test_a_row_that_cannot_be_used_is_all_zeros_and_the_others_as_they_were(store, task):
    config = small_config(task, features=store.root)
    ids = [entry.id for entry in store.index]
    good = [ids.index(f"train{i}") for i in (0, 1, 2)]
    mixed = [good[0], ids.index("not-finite"), *good[1:]]
    crop, bucket = np.full(4, 0.5), config.data.buckets[-1]
    found, expected = collate(store, config, mixed, bucket, crop), collate(store, config, good, bucket, crop[:3])
    for name, values in found.items():
        assert not np.any(values[1])
        np.testing.assert_array_equal(values[[0, 2, 3]], expected[name])


def test_a_damaged_record_is_named_and_left_out(store, caplog, monkeypatch):
    class Damaged(FeatureStore):
        def read(self, positions):
            if 0 in positions:
                raise UserError("utterance train0: damaged record 0")
            return super().read(positions)

    damaged, config = Damaged(store.root), small_config(features=store.root)
    with caplog.at_level(logging.WARNING):
        batch = collate(damaged, config, [0, 1, 2], 16, np.zeros(3))
        collate(damaged, config, [0, 1, 2], 16, np.zeros(3))
    assert batch["length"][0] == 0 and batch["length"][1] > 0
    assert caplog.text.count("utterance train0: damaged record 0; left out, training goes on without it") == 1
    alone = collate(damaged, config, [0], 16, np.zeros(1))
    assert {k: v.shape for k, v in alone.items()} == {k: (1, *v.shape[1:]) for k, v in batch.items()}
    assert not any(v.any() for v in alone.values())
    monkeypatch.setattr(Damaged, "read", _unreadable)
    with pytest.raises(UserError, match="none of its utterances can be used; see above"):
        collate(damaged, config, [0], 16, np.zeros(1))


def _unreadable(self, positions):
    raise UserError(f"damaged record {positions}")


def test_a_store_that_changed_is_refused(store, tmp_path):
    config = with_train(small_config(features=store.root), steps=2)
    fit.train(config, tmp_path / "run")
    known = json.loads((tmp_path / "run/features.json").read_text())
    (tmp_path / "run/features.json").write_text(json.dumps(known | {"index_sha256": "0", "utterances": 59}))
    with pytest.raises(UserError, match="changed since .*run was started .59 utterances then, 60 now.*init-from"):
        fit.train(with_train(config, steps=4), tmp_path / "run")


def test_a_batch_that_does_not_divide_is_refused_before_anything_is_written(store, tmp_path):
    config = small_config(features=store.root)
    odd = replace(config, data=replace(config.data, row_multiple=3))
    with pytest.raises(UserError, match="set data.row_multiple to"):
        fit.train(replace(odd, train=replace(odd.train, accumulate=4)), tmp_path)
    assert not list((tmp_path / "checkpoints").glob("*"))


def test_a_workdir_that_cannot_be_written(store, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        fit.train(small_config(features=store.root), tmp_path / "file" / "run")
