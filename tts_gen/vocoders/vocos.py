"""Vocos in Flax: spectra of frames from their mels, and one inverse Fourier transform. Ten times fewer operations than
HiFi-GAN.

Source: Siuzdak, "Vocos: Closing the gap between time-domain and Fourier-based neural vocoders for high-quality audio
synthesis", arXiv 2306.00814, 2023; `vocos` 0.1.0 (gemelo-ai/vocos, MIT licence).
"""

import math
from collections.abc import Mapping
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tts_gen import torch_file
from tts_gen.config import Audio, UserError
from tts_gen.layers import DepthwiseConv
from tts_gen.vocoders.windows import Windowed

LOUDEST = 1e2
"""magnitude at which the reference cuts a bin"""


class Vocos(nn.Module):
    """Log-mel to wave. Frames that `mask` leaves out never change the others' samples."""

    width: int = 512
    hidden: int = 1536
    layers: int = 8
    n_fft: int = 1024
    """a multiple of the hop"""
    hop: int = 256

    @nn.compact
    def __call__(self, mel: jax.Array, mask: jax.Array) -> jax.Array:
        """mel[B, T, M], mask[B, T] -> wave[B, T * hop]."""
        mask = mask[..., None].astype(mel.dtype)
        norm = lambda name: nn.LayerNorm(epsilon=1e-6, name=name)  # noqa: E731
        x = norm("norm")(nn.Conv(self.width, (7,), padding=[(3, 3)], precision="highest", name="embed")(mel * mask))
        for i in range(self.layers):
            h = norm(f"norm_{i}")(DepthwiseConv(7, 1, name=f"dwconv_{i}")(x * mask))
            h = nn.gelu(nn.Dense(self.hidden, precision="highest", name=f"pwconv1_{i}")(h), approximate=False)
            h = nn.Dense(self.width, precision="highest", name=f"pwconv2_{i}")(h)
            x = x + self.param(f"gamma_{i}", nn.initializers.ones, (self.width,)) * h
        out = nn.Dense(self.n_fft + 2, precision="highest", name="out")(norm("final_norm")(x))
        log_magnitude, phase = jnp.split(out, 2, -1)
        magnitude = jnp.minimum(jnp.exp(log_magnitude), LOUDEST)
        frames = jnp.fft.irfft(jax.lax.complex(magnitude * jnp.cos(phase), magnitude * jnp.sin(phase)), self.n_fft)
        window = jnp.asarray(np.hanning(self.n_fft + 1)[:-1], frames.dtype)
        envelope = self._overlap_add(mask * window**2)
        return self._overlap_add(frames * window * mask) / jnp.maximum(envelope, 1e-11)

    def _overlap_add(self, frames):
        """[B, T, n_fft] -> [B, T * hop], frame t centred on the middle of its own hop samples."""
        batch, length, _ = frames.shape
        n = self.n_fft // self.hop
        parts = frames.reshape(batch, length, n, self.hop)
        total = sum(jnp.pad(parts[:, :, i], ((0, 0), (i, n - 1 - i), (0, 0))) for i in range(n))
        beyond = (self.n_fft - self.hop) // 2
        return total.reshape(batch, (length + n - 1) * self.hop)[:, beyond : beyond + length * self.hop]

    @property
    def reach(self) -> int:
        """Frames on either side of a frame that can change its samples."""
        return 3 + 3 * self.layers + math.ceil((self.n_fft - self.hop) / 2 / self.hop)


def state_of(path: Path) -> Mapping[str, np.ndarray] | None:
    """Tensors of a checkpoint, published (pytorch_model.bin) or as its trainer saves it; None if it is not Vocos's."""
    checkpoint = torch_file.read(path)
    state = checkpoint.get("state_dict", checkpoint)
    return state if isinstance(state, Mapping) and "backbone.embed.weight" in state else None


def load(path: Path, state: Mapping[str, np.ndarray], audio: Audio | None = None) -> Windowed:
    """Vocos by the tensors `state` of its checkpoint `path` and the config.yaml that lies beside it.

    Raises UserError when that is missing or of another kind of Vocos, when weights are missing or have other shapes,
    and when `audio` is given and is not the mel that they read. The published checkpoint of 24 kHz reads mels of
    HTK's scale, as no run here makes them; one that was trained for HiFi-GAN's mels says so in its config.
    """
    shape, mel = _config(path.with_name("config.yaml"))
    reads = _audio(mel, path.with_name("config.yaml"))
    audio = audio or reads
    audio.check_equal(reads, "the features", str(path))
    if audio.n_fft % audio.hop or (audio.n_fft - audio.hop) % 2:
        raise UserError(f"{path}: n_fft {audio.n_fft} is not a multiple of hop {audio.hop}, which Vocos needs here")
    network = Vocos(*shape, audio.n_fft, audio.hop)
    return Windowed("vocos", network, to_params(state, network, audio, path), audio)


def _config(path: Path) -> tuple[tuple[int, int, int], dict]:
    """Width, hidden width and number of layers, and the settings of the mels."""
    import yaml

    classes = {"feature_extractor": "MelSpectrogramFeatures", "backbone": "VocosBackbone", "head": "ISTFTHead"}
    if not path.is_file():
        raise UserError(f"{path} is missing, which says what mels this Vocos reads; put the checkpoint's own there")
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
        config = config.get("model", {}).get("init_args", config)  # the trainer's own config wraps it
        kinds = {name: config[name]["class_path"].rsplit(".", 1)[-1] for name in classes}
        found = {name: config[name].get("init_args") or {} for name in classes}
        shape = tuple(found["backbone"][name] for name in ("dim", "intermediate_dim", "num_layers"))
    except (yaml.YAMLError, KeyError, AttributeError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not Vocos's config ({type(error).__name__}: {error}); put its own there") from error
    if kinds != classes:
        made, read = ", ".join(kinds.values()), ", ".join(classes.values())
        raise UserError(f"{path}: made of {made}, but what is read here is made of {read}; give another Vocos")
    return shape, found["feature_extractor"]


def _audio(mel: dict, where: Path) -> Audio:
    """The mel definition; names and defaults are torchaudio's. Where frames are centred does not matter to a network
    that sees frames alone."""
    for name, default in (("mel_scale", "htk"), ("norm", None)):
        if (found := mel.get(name, default)) != "slaney":
            raise UserError(
                f"{where}: reads mels of {name} {found}, but all mels here are of slaney's; give a Vocos that was "
                "trained on HiFi-GAN's mels, or use --vocoder hifigan"
            )
    rate = mel.get("sample_rate", 24000)
    sizes = (rate, mel.get("n_fft", 1024), mel.get("hop_length", 256), mel.get("n_mels", 100))
    return Audio(*sizes, float(mel.get("f_min") or 0), float(mel.get("f_max") or rate / 2))


def to_params(state: Mapping[str, np.ndarray], network: Vocos, audio: Audio, where: Path) -> dict:
    """Flax parameters from PyTorch's: [out, in, kernel] -> [kernel, in, out]."""

    def take(name: str, *shape: int) -> np.ndarray:
        value = state.get(name)
        if value is None or value.shape != shape:
            found = "is missing" if value is None else f"has shape {value.shape}"
            raise UserError(f"{where}: weight {name} {found}, but Vocos's has {shape}")
        return np.ascontiguousarray(value.T, np.float32)

    def dense(name: str, out: int, *into: int) -> dict:
        return {"kernel": take(f"{name}.weight", out, *into), "bias": take(f"{name}.bias", out)}

    def norm(name: str) -> dict:
        return {"scale": take(f"{name}.weight", width), "bias": take(f"{name}.bias", width)}

    width, hidden = network.width, network.hidden
    params = {"embed": dense("backbone.embed", width, audio.n_mels, 7), "norm": norm("backbone.norm")}
    for i in range(network.layers):
        block = f"backbone.convnext.{i}"
        depthwise = dense(f"{block}.dwconv", width, 1, 7)
        params[f"dwconv_{i}"] = depthwise | {"kernel": depthwise["kernel"][:, 0]}
        params[f"norm_{i}"] = norm(f"{block}.norm")
        params[f"pwconv1_{i}"] = dense(f"{block}.pwconv1", hidden, width)
        params[f"pwconv2_{i}"] = dense(f"{block}.pwconv2", width, hidden)
        params[f"gamma_{i}"] = take(f"{block}.gamma", width)
    last = {"final_norm": norm("backbone.final_layer_norm"), "out": dense("head.out", network.n_fft + 2, width)}
    return {"params": params | last}
