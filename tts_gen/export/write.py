"""Models written as folders that `load.py` reads."""

import dataclasses
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from tts_gen import flat
from tts_gen.config import UserError
from tts_gen.features.files import write_json
from tts_gen.runs import Run
from tts_gen.text import PUNCTUATION, phone_class
from tts_gen.vocoders import Vocoder
from tts_gen.vocoders.windows import Windowed

PLATFORMS = ("cpu", "cuda", "tpu")
PORTABLE = {"shape_assertion"}
"""custom calls an artefact may hold: those that jax itself carries out before anything runs"""


def export_run(run: Run, out: Path) -> None:
    """Writes `run.sample` to `out`, absent or empty. Its solver, steps and guidance are those `run` was loaded with.

    Raises UserError for a joint run, and where `out` holds something.
    """
    if not isinstance(run, Run):
        raise UserError(f"{run.path} is a joint run, which has no exported form; give a prosody or an acoustic run")

    def sample(params, batch, seed, temperature):
        key = jax.random.key(seed)
        return run.task.apply({"params": params}, batch, key, temperature, run.guidance, method="sample")

    inventory = run.inventory
    about = {
        "task": run.config.task,
        "family": run.label,
        "step": run.step,
        "decoder": dataclasses.asdict(run.config.decoder),
        "energy": run.config.energy,
        "positions": run.config.encoder.positions,
        "guidance": run.guidance or 0.0,
        "audio": dataclasses.asdict(run.audio),
        "inventory": dataclasses.asdict(inventory),
        "vowels": [phone_class(symbol) == "vowel" for symbol in inventory.phonemes],
        "punctuation": PUNCTUATION,
        "stats": run.stats.to_dict(),
    }
    number = jax.ShapeDtypeStruct((), jnp.uint32), jax.ShapeDtypeStruct((), jnp.float32)
    batch, vectors, files = _batch(run), run.speaker_embeddings, {}
    if vectors is not None:
        about["speaker_embedding"], files = vectors.shape[1], {"speaker_embeddings.npy": vectors}
        batch["speaker_embedding"] = jax.ShapeDtypeStruct((*batch["speaker"].shape, vectors.shape[1]), jnp.float32)
    _write(out, sample, run.variables["params"], (batch, *number), about, files)


def export_vocoder(vocoder: Vocoder, out: Path) -> None:
    """Writes mel [B, T, M] and mask [B, T] -> wave to `out`, absent or empty. Raises UserError for Griffin-Lim, and
    where `out` holds something."""
    if not isinstance(vocoder, Windowed):
        raise UserError(f"{vocoder.name} has no parameters to export; give hifigan, or a checkpoint file")
    about = {
        "task": "vocoder",
        "family": vocoder.name,
        "audio": dataclasses.asdict(vocoder.audio),
        "reach": vocoder.network.reach,
        "window": vocoder.window,
    }
    b, t = jax_export.symbolic_shape("b, t")
    mel = jax.ShapeDtypeStruct((b, t, vocoder.audio.n_mels), jnp.float32)

    def synthesise(params, mel, mask):
        return vocoder.network.apply({"params": params}, mel, mask)

    _write(out, synthesise, vocoder.params["params"], (mel, jax.ShapeDtypeStruct((b, t), bool)), about)


def _batch(run: Run) -> dict[str, jax.ShapeDtypeStruct]:
    """What `sample` reads of a batch, in symbols: B = b, and the task's own length a multiple of what it merges."""
    b, n, t = jax_export.symbolic_shape("b, n, t")
    task, multiple = run.config.task, run.task.multiple
    if task == "prosody":
        n = multiple * n

    def arrays(names: str, *shape, dtype=jnp.int32):
        return {name: jax.ShapeDtypeStruct(shape, dtype) for name in names.split()}

    batch = arrays("phoneme stress edge punctuation", b, n) | arrays("length speaker style", b)
    if run.config.encoder.positions:
        batch |= arrays("places", b, n, 3)
    if task == "prosody":
        return batch
    values = "log_f0 energy" if run.config.energy else "log_f0"
    prosody = arrays("duration", b, n) | arrays(values, b, n, dtype=jnp.float32) | arrays("voiced", b, n, dtype=bool)
    return batch | prosody | arrays("frame_phoneme frame_position", b, multiple * t) | arrays("frames", b)


def _write(
    out: Path, function: Callable, params: Any, inputs: tuple, about: dict, arrays: dict[str, np.ndarray] | None = None
) -> None:  # fmt: skip
    """`function(params, *inputs)` and what is to be known of it, as a folder that appears whole or not at all."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists; name a new folder, or remove it")
    layout, vector = flat.layout(params), np.asarray(flat.flatten(params))

    def of_vector(vector, *inputs):
        return function(flat.unflatten(vector, layout), *inputs)

    parameters = jax.ShapeDtypeStruct(vector.shape, vector.dtype)
    exported = jax_export.export(jax.jit(of_vector), platforms=PLATFORMS)(parameters, *inputs)
    if foreign := set(re.findall(r"custom_call @(\w+)", exported.mlir_module())) - PORTABLE:
        raise UserError(
            f"{out}: the model calls {', '.join(sorted(foreign))}, which other machines need not have; "
            "write it with plain operations"
        )
    partial = out.absolute().with_name(f"{out.name}.{os.getpid()}.partial")
    partial.mkdir(parents=True)
    try:
        (partial / "sample.jax_export").write_bytes(exported.serialize())
        for name, array in {"parameters.npy": vector, **(arrays or {})}.items():
            np.save(partial / name, array)
        write_json(partial / "model.json", about | {"jax": jax.__version__})
        shutil.copyfile(Path(__file__).with_name("load.py"), partial / "load.py")
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
