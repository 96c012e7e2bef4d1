"""A PyTorch state dict, read tensor by tensor into Flax layout; all that does not fit is told at once."""

from collections.abc import Mapping

import numpy as np

from tts_gen.config import UserError

SHOWN = 5
"""offenders of each kind that a message lists"""


class Weights:
    """Tensors of one state dict, each taken once by the name and shape that the settings call for.

    A tensor that is absent or of another shape is noted, and zeros stand in for it, so that one error can list them
    all: call `finish` before anything is made of the result.
    """

    def __init__(self, state: Mapping[str, np.ndarray], where: str):
        """`where`: the file, for messages."""
        self._state, self._where = state, where
        self._taken: set[str] = set()
        self._missing: list[str] = []
        self._misshapen: list[str] = []

    def __contains__(self, name: str) -> bool:
        return name in self._state

    def take(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """The tensor as stored; zeros of that shape where it is missing or shaped otherwise."""
        self._taken.add(name)
        value = self._state.get(name)
        if value is None:
            self._missing.append(f"{name} {list(shape)}")
        elif not isinstance(value, np.ndarray):
            self._misshapen.append(f"{name} {value!r}, which is no tensor")
        elif value.shape != tuple(shape):
            self._misshapen.append(f"{name} {list(value.shape)}, not {list(shape)}")
        elif value.dtype.kind not in "fV":
            self._misshapen.append(f"{name} of {value.dtype}, not of floats")
        elif not np.isfinite(value.astype(np.float32)).all():
            self._misshapen.append(f"{name} with values that are not finite")
        else:
            return value
        return np.zeros(shape, np.float32)

    def conv(self, name: str, out: int, into: int, *kernel: int, norm: bool = False, bias: bool = True) -> dict:
        """Convolution [out, into, *kernel] -> {"kernel": [*kernel, into, out], "bias": [out]}.

        `norm`: stored with weight norm, w = g v / |v| (arXiv 1602.07868), the norm over all axes but the first.
        """
        params = {"kernel": np.moveaxis(self._kernel(name, (out, into, *kernel), norm), (0, 1), (-1, -2))}
        return params | ({"bias": self.take(f"{name}.bias", (out,))} if bias else {})

    def dense(
        self, name: str, out: int, into: int, bias: bool = True, norm: bool = False, conv: bool | int = False
    ) -> dict:
        """Linear layer [out, into] -> {"kernel": [into, out], "bias": [out]}.

        `conv`: stored as a convolution of kernel size 1, over that many axes (True: one). `norm`: as in `conv`.
        """
        shape = (out, into) + (1,) * int(conv)
        params = {"kernel": self._kernel(name, shape, norm).reshape(out, into).T}
        return params | ({"bias": self.take(f"{name}.bias", (out,))} if bias else {})

    def norm(self, name: str, width: int, names: tuple[str, str] = ("weight", "bias")) -> dict:
        """LayerNorm or GroupNorm, whose scale and shift are called `names` there -> {"scale", "bias"}."""
        scale, shift = (self.take(f"{name}.{leaf}", (width,)) for leaf in names)
        return {"scale": scale, "bias": shift}

    def _kernel(self, name: str, shape: tuple[int, ...], norm: bool) -> np.ndarray:
        if not norm:
            return self.take(f"{name}.weight", shape)
        g = self.take(f"{name}.weight_g", (shape[0],) + (1,) * (len(shape) - 1))
        v = self.take(f"{name}.weight_v", shape)
        length = np.sqrt(np.sum(np.square(v), axis=tuple(range(1, v.ndim)), keepdims=True))
        return g * (v / np.where(length > 0, length, 1))

    def finish(self, ignore: tuple[str, ...] = ()) -> None:
        """Raises UserError naming the first missing, misshapen and surplus tensors; `ignore`: prefixes of tensors that
        may be left over."""
        surplus = [name for name in self._state if name not in self._taken and not name.startswith(ignore)]
        kinds = {"missing": self._missing, "of another shape": self._misshapen, "surplus": surplus}
        problems = [f"{len(names)} {kind}: {_some(names)}" for kind, names in kinds.items() if names]
        if problems:
            raise UserError(f"{self._where}: holds other tensors than the settings call for; {'; '.join(problems)}")


def sub_state(checkpoint: Mapping, name: str, reference: str) -> Mapping[str, np.ndarray]:
    """The state dict that a checkpoint keeps under `name`. Raises UserError when it has none."""
    found = checkpoint.get(name)
    if not isinstance(found, Mapping):
        raise UserError(
            f"holds {', '.join(map(str, list(checkpoint)[:SHOWN]))}, but no '{name}' as {reference}'s files do"
        )
    return found


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
