"""Starting from another run's parameters."""

from dataclasses import replace

import jax
import numpy as np
import pytest
from models import make_store, small_config, with_train

from tts_gen import fit, runs
from tts_gen.checkpoint import Checkpoints
from tts_gen.config import UserError
from tts_gen.features.inventory import Inventory
from tts_gen.finetune import carry_over

OLD = Inventory(("pau", "A", "B"), (False, True, True), ("unknown", "ann", "bob"), ("unknown", "calm"))
NEW = Inventory(("pau", "B", "C"), (False, True, True), ("unknown", "bob", "cat", "ann"), ("unknown", "angry", "calm"))


def params(inventory: Inventory, value: float) -> dict:
    rows = {"phoneme": inventory.phonemes, "speaker": inventory.speakers, "style": inventory.styles}
    tables = {t: {"embedding": value + np.arange(len(n), dtype=np.float32)[:, None] * np.ones(4, np.float32)}
              for t, n in rows.items()}  # fmt: skip
    return {"encoder": tables | {"kernel": np.full((4, 4), value)}, "decoder": {"kernel": np.full(3, value)}}


def test_rows_go_by_name_and_new_ones_are_fresh():
    found = carry_over(params(OLD, 10.0), OLD, params(NEW, 50.0), NEW, "old")
    rows = {t: found["encoder"][t]["embedding"][:, 0].tolist() for t in ("phoneme", "speaker", "style")}
    assert rows == {"phoneme": [10, 12, 52], "speaker": [10, 12, 52, 11], "style": [10, 51, 11]}
    assert np.all(found["encoder"]["kernel"] == 10) and np.all(found["decoder"]["kernel"] == 10)


def test_another_model_is_refused():
    other = params(NEW, 0.0)
    other["decoder"] = {"kernel": np.zeros(5), "bias": np.zeros(2)}
    differences = r"decoder/bias absent in old, \[2\] here; decoder/kernel \[3\] in old, \[5\] here"
    with pytest.raises(UserError, match=differences):
        carry_over(params(OLD, 0.0), OLD, other, NEW, "old")


def test_a_run_starts_from_another(tmp_path):
    """With speakers of its own and all but their rows frozen."""
    store = make_store(tmp_path / "old")
    config = small_config(features=store.root, buckets=(16,))
    fit.train(with_train(config, steps=4), tmp_path / "run")
    source = runs.load(tmp_path / "run")

    other = make_store(tmp_path / "new")
    inventory = replace(other.inventory, speakers=("unknown", "ann", "bea", "bob"))
    inventory.save(other.root / "inventory.json")
    stats = replace(other.stats, log_f0_mean=np.insert(other.stats.log_f0_mean, 2, 5.0),
                    log_f0_std=np.insert(other.stats.log_f0_std, 2, 0.2))  # fmt: skip
    stats.save(other.root / "stats.json")
    settings = {"init_from": str(tmp_path / "run"), "steps": 3, "ema": 0.0}
    settings["frozen"] = ("decoder", "encoder/ConvBlock_0")
    tuned = small_config(features=other.root, buckets=(16,), **settings)
    fit.train(tuned, tmp_path / "tuned")
    found = runs.load(tmp_path / "tuned")
    before, after = source.variables["params"], found.variables["params"]
    jax.tree.map(np.testing.assert_array_equal, before["decoder"], after["decoder"])
    jax.tree.map(np.testing.assert_array_equal, before["encoder"]["ConvBlock_0"], after["encoder"]["ConvBlock_0"])
    table, known = after["encoder"]["speaker"]["embedding"], before["encoder"]["speaker"]["embedding"]
    assert table.shape[0] == 4 and known.shape[0] == 3
    np.testing.assert_allclose(np.asarray(table)[[0, 1, 3]], known, atol=0.1)  # three steps away
    assert np.any(np.asarray(table)[[0, 1, 3]] != known)

    with Checkpoints(tmp_path / "tuned") as checkpoints:
        assert checkpoints.steps == [3]
    # Its own checkpoint comes first now.
    fit.train(with_train(tuned, steps=5), tmp_path / "tuned")
    with Checkpoints(tmp_path / "tuned") as checkpoints:
        assert checkpoints.steps == [3, 5]


def test_starting_from_what_does_not_fit(tmp_path):
    store = make_store(tmp_path / "store")
    config = small_config(features=store.root, buckets=(16,))
    fit.train(with_train(config, steps=2), tmp_path / "run")
    wide = replace(config, encoder=replace(config.encoder, width=24))
    with pytest.raises(UserError, match="run is another model: decoder/trunk/Dense_0/kernel"):
        fit.train(with_train(wide, init_from=str(tmp_path / "run")), tmp_path / "wide")
    with pytest.raises(UserError, match="nowhere is not a run directory"):
        fit.train(with_train(config, init_from=str(tmp_path / "nowhere")), tmp_path / "other")
