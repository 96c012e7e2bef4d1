"""Checkpoints by Orbax: asynchronous, atomic, the newest and the best kept, every leaf verified by a hash when read."""

import json
import logging
import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint import checkpoint_managers

from tts_gen import flat, parallel
from tts_gen.config import UserError

log = logging.getLogger(__name__)

UNREADABLE = float("inf")
"""stands for a metric that was not measured at a step, or is lost"""


class Checkpoints:
    """The `checkpoints` folder of a run, or another `address` (a folder, gs://bucket/...). Usable as a context manager,
    which waits for the last save.

    The newest `latest` steps are kept and the `best` with the lowest `metric`.
    """

    def __init__(
        self, run: str | Path, address: str = "", latest: int = 2, best: int = 1, metric: str = "val_loss",
        reading: bool = False,
    ):  # fmt: skip
        """`reading`: nothing in the folder is changed. Raises UserError for a folder that cannot be opened."""
        self.run, self.metric = run, metric
        self.directory = folder_of(run, address)
        saved_steps(self.directory)  # refuses an address that cannot be reached
        self._drop_damaged_metrics(reading)
        keep = [
            checkpoint_managers.LatestN(latest),
            checkpoint_managers.BestN(get_metric_fn=self._value, reverse=True, n=best),
        ]
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(keep),
            cleanup_tmp_directories=not reading,
            best_fn=self._value,  # without it the metrics would not be written
            best_mode="min",
        )
        handlers = {"state": ocp.StandardCheckpointHandler(), "notes": ocp.JsonCheckpointHandler()}
        try:
            self.manager = ocp.CheckpointManager(self.directory, options=options, item_handlers=handlers)
        except (OSError, ValueError) as error:  # the latter of a damaged description of a step
            raise UserError(f"{self.directory} cannot be used for checkpoints: {error}") from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._finish("the last checkpoint", self.manager.close)

    @property
    def steps(self) -> list[int]:
        return sorted(self.manager.all_steps())

    def save(self, step: int, state: Any, layout: flat.Layout, metrics: Mapping[str, float]) -> None:
        """Saves in the background; a step that is already there is left alone. `layout` is that of state.params.

        A save that fails (a full disk) is reported at the next one, which is tried all the same.
        """
        if step in self.manager.all_steps():
            return
        self._finish("the checkpoint before", self.manager.wait_until_finished)
        try:  # where a disk is full for one of many processes, Orbax has the others wait for it
            parallel.agree(self._lack_of_room(state))
        except UserError as error:
            log.warning("%s: step %d is not saved (%s); the next save is tried", self.directory, step, error)
            return
        notes = {"hashes": hashes(state) | {"layout": _hash_of(layout)}, "layout": layout}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), notes=ocp.args.JsonSave(notes))
        save = lambda: self.manager.save(step, args=items, metrics=dict(metrics))  # noqa: E731
        self._finish(f"the checkpoint of step {step}", save)

    def _lack_of_room(self, state: Any) -> str:
        """Empty where there is room for a step on this process's disk, or where nobody can tell."""
        needed = sum(x.nbytes for x in jax.tree.leaves(state))
        try:
            free = shutil.disk_usage(self.directory).free
        except OSError:  # gs://
            return ""
        return f"{free:,} bytes are free, {needed:,} needed" if free < needed else ""

    def _finish(self, what: str, action: Any) -> None:
        """What Orbax raises where storage fails is of many types; none of them may end a training."""
        try:
            action()
        except Exception as error:
            message = _first_line(error)
            log.warning("%s: %s could not be saved (%s); the next save is tried", self.directory, what, message)
            if jax.process_index() == 0:  # half a checkpoint would keep a full disk full
                for half in self.directory.glob("*.orbax-checkpoint-tmp*"):
                    half.rmtree(missing_ok=True)

    def best_steps(self) -> list[int]:
        """From the lowest metric up; of equal ones, and where none was validated, the newest first. Raises UserError
        where there are none."""
        if not self.steps:
            run = self.run
            raise UserError(f"{run} holds no checkpoint; train it first: python train.py CONFIG --workdir {run}")
        losses = {s: self._value(self.manager.metrics(s)) for s in self.steps}
        return sorted(self.steps, key=lambda s: (losses[s], -s))

    def restore_best(self) -> tuple[dict, int]:
        """The parameters to evaluate, and their step: of the best one that can be read; damaged ones are reported.
        Raises UserError where there is none."""
        *steps, last = self.best_steps()
        for step in steps:
            try:
                return self.restore_ema(step), step
            except UserError as error:
                log.warning("%s; using the next best", error)
        return self.restore_ema(last), last

    def restore(self, step: int, abstract: Any) -> tuple[Any, flat.Layout]:
        """State of a step with the shapes and shardings of `abstract`. Raises UserError when it is damaged."""
        folder = self.directory / str(step)
        items = ocp.args.Composite(state=ocp.args.StandardRestore(abstract), notes=ocp.args.JsonRestore())
        try:
            restored = self.manager.restore(step, args=items)
        except Exception as error:  # what Orbax itself raises where a file of an array is gone
            raise UserError(f"{folder} cannot be read: {_first_line(error)}") from error
        state, notes = restored["state"], restored["notes"]
        if not isinstance(notes, dict) or not {"hashes", "layout"} <= set(notes):
            raise UserError(f"{folder}: its notes are damaged, or of an earlier version of tts_gen, and are not read")
        found = hashes(state) | {"layout": _hash_of(notes["layout"])}
        if wrong := [name for name, value in found.items() if notes["hashes"].get(name) != value]:
            raise UserError(f"{folder} is damaged: {', '.join(wrong[:3])} differ from their hashes")
        return state, notes["layout"]

    def restore_ema(self, step: int) -> dict:
        """The parameters to evaluate, on this process's first device, whatever the topology they were saved from."""
        sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        try:
            saved = self.manager.item_metadata(step)["state"]
        except Exception as error:  # what Orbax itself raises where its own description of a step is damaged
            raise UserError(f"{self.directory / str(step)} cannot be read: {_first_line(error)}") from error
        abstract = jax.tree.map(lambda m: jax.ShapeDtypeStruct(m.shape, m.dtype, sharding=sharding), saved)
        state, layout = self.restore(step, abstract)
        return flat.unflatten(state["ema"], layout)

    def restore_newest(self, abstract: Any, layout: flat.Layout) -> tuple[int, Any] | None:
        """Newest readable step and its state, or None where there is no checkpoint. Raises UserError where the model
        saved is not the one of `abstract` and `layout`.

        Damaged ones after it are reported and moved to the folder `damaged`, so that they can be saved again: what
        storage could not read once may be whole.
        """
        damaged = []
        self._check_model(abstract)
        for step in reversed(self.steps):
            try:
                (state, saved), error = self.restore(step, abstract), ""
            except UserError as found:
                state, saved, error = None, layout, str(found)
            try:
                parallel.agree(error)  # what one process cannot read, none uses
            except UserError as found:
                log.warning("%s; going back to the step before", found)
                damaged.append(step)
                continue
            self._check_layout(step, saved, layout)
            for later in damaged:
                self._set_aside(later)
            return step, state
        if self.steps:
            raise UserError(f"{self.directory}: no checkpoint can be read; delete the folder to train from the start")
        return None

    def _set_aside(self, step: int) -> None:
        folder, aside = self.directory / str(step), self.directory / "damaged" / str(step)
        if jax.process_index() == 0:
            aside.parent.mkdir(parents=True, exist_ok=True)
            if aside.exists():
                aside.rmtree()
            folder.rename(aside)
            log.warning("%s is now %s", folder, aside)
        parallel.agree("")
        self.manager.reload()

    def _check_model(self, abstract: Any) -> None:
        """Raises UserError where the newest step that tells has another number of parameters."""
        leaves = jax.tree_util.tree_leaves_with_path(abstract)
        (expected,) = (leaf.shape for path, leaf in leaves if jax.tree_util.keystr(path, simple=True) == "ema")
        for step in reversed(self.steps):
            try:
                size = self.manager.item_metadata(step)["state"]["ema"].shape
            except Exception:  # whatever Orbax raises for one that is damaged: `restore` says so
                continue
            if size != expected:
                raise UserError(
                    f"{self.directory / str(step)} is of another model: {size[0]:,} parameters (padded) against "
                    f"{expected[0]:,}; give its settings, or a new --workdir"
                )
            return

    def _check_layout(self, step: int, saved: flat.Layout, layout: flat.Layout) -> None:
        """Raises UserError where as many parameters have other names or shapes, as in a run of an earlier version."""
        known, asked = ({"/".join(path): tuple(shape) for path, shape in entries} for entries in (saved, layout))
        if differ := sorted(name for name in known | asked if known.get(name) != asked.get(name)):
            raise UserError(
                f"{self.directory / str(step)} is of another model, or of another version of tts_gen: {differ[0]} is "
                f"{known.get(differ[0], 'absent')} there and {asked.get(differ[0], 'absent')} here; give its settings, "
                "or a new --workdir"
            )

    def _drop_damaged_metrics(self, reading: bool) -> None:
        """Orbax would refuse the whole folder for one."""
        for file in self.directory.glob("*/metrics/metrics"):
            if not file.parent.parent.name.isdigit():  # of a save that is going on, or was cut off
                continue
            try:
                good = isinstance(json.loads(file.read_text()), dict)
            except FileNotFoundError:  # another process was first
                continue
            except ValueError:
                good = False
            if not good and reading:
                raise UserError(f"{file} is damaged; delete it")
            if not good:
                log.warning("%s is damaged and is deleted: its step counts as not validated", file)
                file.unlink(missing_ok=True)

    def _value(self, metrics: Mapping[str, float] | None) -> float:
        """Of the metric by which steps are ranked; infinite where it was not measured or its file is gone."""
        value = (metrics or {}).get(self.metric)
        return value if isinstance(value, (int, float)) else UNREADABLE


def folder_of(run: str | Path, address: str = "") -> epath.Path:
    """Where a run's checkpoints are, absolute."""
    return epath.Path(address if "://" in address else os.path.abspath(address or Path(run) / "checkpoints"))


def saved_steps(folder: epath.Path) -> list[int]:
    """Raises UserError for a kind of address that needs another package."""
    try:
        found = folder.exists()
    except ImportError as error:  # gcsfs, s3fs
        raise UserError(f"train.checkpoints {folder}: {error}") from error
    return sorted(int(f.name) for f in folder.iterdir() if f.name.isdigit()) if found else []


def _first_line(error: Exception) -> str:
    """What people can read of what libraries raise."""
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__


def _hash_of(layout: flat.Layout) -> str:
    return f"{zlib.crc32(json.dumps(layout).encode()):08x}"


def hashes(state: Any) -> dict[str, str]:
    """64 bits of each leaf: the same for the same values, however they are laid out over devices and processes."""
    found = _hashes(jax.tree.map(jnp.asarray, state))
    named = jax.tree_util.tree_leaves_with_path(state)
    return {
        jax.tree_util.keystr(path, simple=True): "{:08x}{:08x}".format(*np.asarray(value))
        for (path, _), value in zip(named, found, strict=True)
    }


@jax.jit
def _hashes(state: Any) -> list[jax.Array]:
    """[2] uint32 for each leaf: sums, modulo 2^32, over its elements of a one-to-one mix of an element's bits with its
    place, so no change of a single element can go unseen. On the device, since an array of many processes is on none
    of them whole."""

    def mix(x):
        """The finaliser of MurmurHash3."""
        x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
        x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
        return x ^ (x >> 16)

    def of_leaf(x):
        bits = jax.lax.bitcast_convert_type(x.ravel(), jnp.uint32)
        place = jnp.arange(bits.size, dtype=jnp.uint32)
        mixed = [mix(bits + mix(place + jnp.uint32(seed))) for seed in (0x9E3779B9, 0x7F4A7C15)]
        return jnp.stack([jnp.sum(m, dtype=jnp.uint32) for m in mixed])

    return [of_leaf(x) for x in jax.tree.leaves(state)]
