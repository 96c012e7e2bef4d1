"""Samplers and vocoders as ONNX models, by jax2onnx.

jax.random does not travel: noise is an input (`draws.Given`), which whoever runs the model draws. jax2onnx is given a
program that JAX has traced, not the model: its own tracing replaces functions of jax.numpy, and fails on symbols.
"""

import importlib.util
import logging
from collections.abc import Callable
from contextlib import contextmanager

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import jaxpr_as_fun

from tts_gen import draws
from tts_gen.config import UserError
from tts_gen.runs import Run

INSTALL = "pip install -e '.[onnx]' && pip install --no-deps jax2onnx"


class Noise:
    """What sampling draws, as arrays that it is given: `sources`, in the order of `load.noise`'s arrays."""

    def __init__(self, merged: int, steps: int):
        """`merged`: lengths are its multiples; `steps`: of the solver."""
        self.merged, self.steps, self.sources = merged, steps, []
        self._number: dict[tuple, int] = {}

    def record(self, kind: str, path: tuple, shape: tuple) -> jax.Array:
        """A `draws.Given.source` that only notes what is asked for."""
        if (key := _place(path)) not in self._number:
            self._number[key] = len(self.sources)
            steps = self.steps if "step" in key else 0
            self.sources.append({"kind": kind, "steps": steps, "merged": self.merged, "width": shape[2]})
        return jnp.zeros(shape)

    def given(self, arrays: list[jax.Array]) -> draws.Given:
        def source(kind, path, shape):
            key = _place(path)
            array = arrays[self._number[key]]
            return (array[path[key.index("step")]] if "step" in key else array).reshape(shape)

        return draws.Given(source)

    def inputs(self, groups: tuple) -> dict[str, jax.ShapeDtypeStruct]:
        """`groups`: rows, and positions divided by `merged`; the length's own symbol must be an axis of some input."""
        return {
            f"noise_{i}": jax.ShapeDtypeStruct(
                (*[s["steps"]] * (s["steps"] > 0), *groups, s["merged"], s["width"]), np.float32
            )
            for i, s in enumerate(self.sources)
        }


def _place(path: tuple) -> tuple:
    return tuple("step" if isinstance(part, jax.core.Tracer) else part for part in path)


def sampler(run: Run, batch_of: Callable[[int], dict]) -> tuple[Callable, dict, list[dict]]:
    """`function(batch, temperature, *noise)`, its inputs by name, and the noise's sources.

    `batch_of(merged)`: abstract arrays of a batch whose own length is a multiple of that.
    """
    noise = Noise(run.task.multiple, getattr(run.config.decoder, "solver_steps", 0))
    temperature = {"temperature": jax.ShapeDtypeStruct((), np.float32)}

    def sample(batch, temperature, rng):
        return run.task.apply(run.variables, batch, rng, temperature, run.guidance, method="sample")

    batch = batch_of(noise.merged)
    jax.eval_shape(lambda *given: sample(*given, draws.Given(noise.record)), batch, *temperature.values())
    if not noise.sources:
        batch = batch_of(1)
    rows, length = batch["frame_phoneme" if "frame_phoneme" in batch else "phoneme"].shape
    inputs = batch | temperature | noise.inputs((rows, length // noise.merged))

    def function(*values):
        given = dict(zip(inputs, values, strict=True))
        return sample({name: given[name] for name in batch}, given["temperature"],
                      noise.given([given[name] for name in inputs if name.startswith("noise_")]))  # fmt: skip

    return function, inputs, noise.sources


def convert(function: Callable, inputs: dict[str, jax.ShapeDtypeStruct], output: str) -> bytes:
    """`function(*inputs)` as a model file. Raises UserError where jax2onnx is not installed, and naming the primitive
    that it cannot convert."""
    if missing := [name for name in ("jax2onnx", "onnxruntime") if importlib.util.find_spec(name) is None]:
        raise UserError(f"ONNX needs {' and '.join(missing)}; run: {INSTALL}")
    specs = list(inputs.values())
    traced = jaxpr_as_fun(jax.make_jaxpr(function)(*specs))
    with _alone():
        from jax2onnx import to_onnx

        try:
            model = to_onnx(lambda *values: traced(*values)[0], specs, input_names=list(inputs), output_names=[output])
        except Exception as error:  # of any kind, from deep within
            primitive = _primitive(error)
            if primitive is None:
                raise
            raise UserError(
                f"jax2onnx cannot convert the primitive {primitive} as this model has it ({type(error).__name__}: "
                f"{str(error).splitlines()[0]}); export the model without --onnx"
            ) from error
    return model.SerializeToString()


def _primitive(error: Exception) -> str | None:
    """The innermost primitive that was being converted."""
    found, trace = None, error.__traceback__
    while trace:
        found = trace.tb_frame.f_locals.get("primitive_name", found)
        trace = trace.tb_next
    return found


@contextmanager
def _alone():
    """Without what jax2onnx leaves behind: its own jnp.cumsum, and warnings of packages and types that models do
    without."""
    cumsum, loggers = jnp.cumsum, [logging.getLogger(name) for name in ("jax2onnx", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        jnp.cumsum = cumsum
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
