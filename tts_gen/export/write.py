"""Models written as folders that `load.py` reads."""

import dataclasses
import os
import re
import shutil
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from tts_gen import flat
from tts_gen.config import UserError
from tts_gen.export import load, onnx_check, onnx_model
from tts_gen.features.embeddings import SPEAKERS
from tts_gen.features.files import write_json
from tts_gen.runs import Run
from tts_gen.text import PUNCTUATION, phone_class
from tts_gen.vocoders import Vocoder
from tts_gen.vocoders.windows import Windowed

PLATFORMS = ("cpu", "cuda", "tpu")
PORTABLE = {"shape_assertion"}
"""custom calls an artefact may hold: those that jax itself carries out before anything runs"""


def export_run(run: Run, out: Path, onnx: bool = False) -> None:
    """Writes `run.sample` to `out`, absent or empty. Its solver, steps and guidance are those `run` was loaded with.

    Raises UserError for a joint run, where `out` holds something, and as `onnx_model.convert` and `onnx_check.check`
    do.
    """
    if not isinstance(run, Run):
        raise UserError(f"{run.path} is a joint run, which has no exported form; give a prosody or an acoustic run")
    if run.config.task == "contour":
        raise UserError(f"{run.path} is a contour run, which nothing speaks with; give a prosody or an acoustic run")
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
    voices = None
    if run.speaker_embeddings is not None:
        about["speaker_embedding"], voices = run.speaker_embeddings.shape[1], {SPEAKERS: run.speaker_embeddings}
    if onnx:
        # jax2onnx 0.17 refuses symbols for B: its `rem` wants numbers.
        function, inputs, noise = onnx_model.sampler(run, partial(_batch, run, rows="1"))
        jitted = jax.jit(function)

        def original(batch, seed, temperature):
            given = batch | load.noise(noise, batch, seed) | {"temperature": temperature}
            return jitted(*(given[name] for name in inputs))

        artefact = partial(_onnx, function, inputs, "y", original, onnx_check.sentences(run))
        return _write(out, about | {"noise": noise}, artefact, voices)

    def sample(params, batch, seed, temperature):
        key = jax.random.key(seed)
        return run.task.apply({"params": params}, batch, key, temperature, run.guidance, method="sample")

    number = jax.ShapeDtypeStruct((), jnp.uint32), jax.ShapeDtypeStruct((), jnp.float32)
    inputs = _batch(run, run.task.multiple), *number
    _write(out, about, partial(_stable_hlo, sample, run.variables["params"], inputs), voices)


def export_vocoder(vocoder: Vocoder, out: Path, onnx: bool = False) -> None:
    """Writes mel [B, T, M] and mask [B, T] -> wave to `out`, absent or empty; ONNX has B 1, and T is the window.

    Raises UserError for Griffin-Lim, where `out` holds something, and as `onnx_model.convert` and `onnx_check.check`
    do.
    """
    if not isinstance(vocoder, Windowed):
        raise UserError(f"{vocoder.name} has no parameters to export; give hifigan, or a checkpoint file")
    about = {
        "task": "vocoder",
        "family": vocoder.name,
        "audio": dataclasses.asdict(vocoder.audio),
        "reach": vocoder.network.reach,
        "window": vocoder.window,
    }
    b, t = (1, vocoder.window) if onnx else jax_export.symbolic_shape("b, t")
    mel, mask = jax.ShapeDtypeStruct((b, t, vocoder.audio.n_mels), jnp.float32), jax.ShapeDtypeStruct((b, t), bool)

    def synthesise(params, mel, mask):
        return vocoder.network.apply({"params": params}, mel, mask)

    params = vocoder.params["params"]
    if onnx:
        function = partial(synthesise, params)
        inputs, windows = {"mel": mel, "mask": mask}, onnx_check.windows(vocoder.window, vocoder.audio.n_mels)
        return _write(out, about, partial(_onnx, function, inputs, "wave", jax.jit(function), windows))
    _write(out, about, partial(_stable_hlo, synthesise, params, (mel, mask)))


def _batch(run: Run, multiple: int, rows: str = "b") -> dict[str, jax.ShapeDtypeStruct]:
    """What `sample` reads of a batch, in symbols: B = b, and the task's own length a multiple of what it merges."""
    b, n, t = jax_export.symbolic_shape(f"{rows}, n, t")
    task = run.config.task
    if task == "prosody":
        n = multiple * n

    def arrays(names: str, *shape, dtype=jnp.int32):
        return {name: jax.ShapeDtypeStruct(shape, dtype) for name in names.split()}

    batch = arrays("phoneme stress edge punctuation", b, n) | arrays("length speaker style", b)
    if run.config.encoder.positions:
        batch |= arrays("places", b, n, 3)
    if run.speaker_embeddings is not None:
        batch |= arrays("speaker_embedding", b, run.speaker_embeddings.shape[1], dtype=jnp.float32)
    if task == "prosody":
        return batch
    values = "log_f0 energy" if run.config.energy else "log_f0"
    prosody = arrays("duration", b, n) | arrays(values, b, n, dtype=jnp.float32) | arrays("voiced", b, n, dtype=bool)
    return batch | prosody | arrays("frame_phoneme frame_position", b, multiple * t) | arrays("frames", b)


def _stable_hlo(function: Callable, params: Any, inputs: tuple, folder: Path, about: dict) -> dict:
    """`function(params, *inputs)` for all platforms, and the parameters."""
    layout, vector = flat.layout(params), np.asarray(flat.flatten(params))

    def of_vector(vector, *inputs):
        return function(flat.unflatten(vector, layout), *inputs)

    parameters = jax.ShapeDtypeStruct(vector.shape, vector.dtype)
    exported = jax_export.export(jax.jit(of_vector), platforms=PLATFORMS)(parameters, *inputs)
    if foreign := set(re.findall(r"custom_call @(\w+)", exported.mlir_module())) - PORTABLE:
        raise UserError(
            f"the model calls {', '.join(sorted(foreign))}, which other machines need not have; "
            "write it with plain operations"
        )
    (folder / "sample.jax_export").write_bytes(exported.serialize())
    np.save(folder / "parameters.npy", vector)
    return {"jax": jax.__version__}


def _onnx(
    function: Callable, inputs: dict, output: str, original: Callable, examples: list, folder: Path, about: dict
) -> dict:
    """`function(*inputs)`, held to `original`, which takes what the loader's function takes, on `examples` of that."""
    (folder / "model.onnx").write_bytes(onnx_model.convert(function, inputs, output))
    difference = onnx_check.check(load.onnx(folder, about), original, examples)
    return {"jax2onnx": version("jax2onnx"), "largest_difference": difference}


def _write(out: Path, about: dict, artefact: Callable[[Path, dict], dict], arrays: dict | None = None) -> None:
    """What `artefact` writes into the folder it is given, `about` with what it returns, and arrays by their files'
    names, as a folder that appears whole or not at all."""
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UserError(f"{out} exists; name a new folder, or remove it")
    unfinished = out.absolute().with_name(f"{out.name}.{os.getpid()}.partial")
    unfinished.mkdir(parents=True)
    try:
        for name, array in (arrays or {}).items():
            np.save(unfinished / name, array)
        write_json(unfinished / "model.json", about | artefact(unfinished, about))
        shutil.copyfile(Path(__file__).with_name("load.py"), unfinished / "load.py")
        unfinished.replace(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
