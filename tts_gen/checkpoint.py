"""Checkpoints by Orbax: asynchronous, atomic, the newest and the best kept, every leaf verified by a checksum when
read."""

import logging
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from tts_gen import flat
from tts_gen.config import UserError

log = logging.getLogger(__name__)


class Checkpoints:
    """The `checkpoints` folder of a run. Usable as a context manager, which waits for the last save."""

    def __init__(self, run: str | Path):
        self.directory = Path(run).absolute() / "checkpoints"
        keep = [
            checkpoint_managers.LatestN(2),
            checkpoint_managers.BestN(get_metric_fn=_loss, reverse=True, n=1),
        ]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
            cleanup_tmp_directories=True,
            best_fn=_loss,  # without it the losses would not be written
            best_mode="min",
        )
        handlers = {"state": ocp.StandardCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()}
        try:
            self.manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        except ValueError as error:  # it reads the losses of all steps at once
            raise UserError(
                f"{self.directory}: a file */metrics/metrics is damaged ({error}); delete its step"
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.manager.close()

    @property
    def steps(self) -> list[int]:
        return sorted(self.manager.all_steps())

    def save(self, step: int, state: Any, layout: flat.Layout, val_loss: float) -> None:
        """Saves in the background; a step that is already there is left alone. `layout` is that of state.params."""
        if step in self.manager.all_steps():
            return
        notes = {"checksums": checksums(state), "layout": layout}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(notes))
        self.manager.save(step, args=items, metrics={"val_loss": val_loss})

    def best_step(self) -> int:
        """The step with the lowest validation loss, the newest where none was validated."""
        if not self.steps:
            run = self.directory.parent
            raise UserError(f"{run} holds no checkpoint; train it first: python train.py CONFIG --workdir {run}")
        losses = {s: _loss(self.manager.metrics(s)) for s in self.steps}
        return min(losses, key=lambda s: (losses[s], -s))

    def restore(self, step: int, abstract: Any) -> tuple[Any, flat.Layout]:
        """State of a step with the shapes and shardings of `abstract`. Raises UserError when it is damaged."""
        folder = self.directory / str(step)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), notes=ocp.args.JsonRestore())
        try:
            restored = self.manager.restore(step, args=items)
        except Exception as error:  # what Orbax itself raises where a file of an array is gone
            raise UserError(f"{folder} cannot be read: {error}") from error
        state, notes = restored["state"], restored["notes"]
        if wrong := [name for name, value in checksums(state).items() if notes["checksums"].get(name) != value]:
            raise UserError(f"{folder} is damaged: {', '.join(wrong[:3])} differ from their checksums")
        return state, notes["layout"]

    def restore_ema(self, step: int) -> dict:
        """The parameters to evaluate, on this process's first device, whatever the topology they were saved from."""
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        try:
            saved = self.manager.item_metadata(step)["state"]
        except ValueError as error:  # the store's own directory is damaged
            raise UserError(f"{self.directory / str(step)} cannot be read: {error}") from error
        abstract = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding), saved)
        state, layout = self.restore(step, abstract)
        return flat.unflatten(state["ema"], layout)

    def restore_newest(self, abstract: Any) -> tuple[int, Any] | None:
        """Newest readable step and its state, or None where there is no checkpoint.

        Damaged ones after it are reported and deleted, so that they can be saved again.
        """
        damaged = []
        for step in reversed(self.steps):
            try:
                state, _ = self.restore(step, abstract)
            except UserError as error:
                log.warning("%s; going back to the step before", error)
                damaged.append(step)
                continue
            for later in damaged:
                self.manager.delete(later)
            return step, state
        if self.steps:
            raise UserError(f"{self.directory}: no checkpoint can be read; delete the folder to train from the start")
        return None


def _loss(metrics: dict[str, float] | None) -> float:
    """Infinite where the file is gone."""
    return metrics["val_loss"] if metrics else float("inf")


def checksums(state: Any) -> dict[str, int]:
    """CRC-32 of each leaf's bytes."""
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True): zlib.crc32(np.ascontiguousarray(leaf).tobytes())
        for path, leaf in leaves
    }
