"""HiFi-GAN's generator (arXiv 2010.05646): checkpoints of jik876/hifi-gan (MIT licence), of V1, V2 and V3's form."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tts_gen.convert.text_encoder import torch_layout
from tts_gen.convert.weights import Weights, sub_state
from tts_gen.vocoders.hifigan import settings


def state(checkpoint: dict) -> dict[str, np.ndarray]:
    return sub_state(checkpoint, "generator", "HiFi-GAN")


def params(weights: Weights, args: dict) -> dict:
    g = settings(args)
    found = {"conv_pre": weights.conv("conv_pre", g.channels, args["num_mels"], 7, norm=True)}
    width, n_blocks = g.channels, len(g.block_kernels)
    for i, kernel in enumerate(g.rate_kernels):
        # A transposed convolution [in, out, kernel]: the roles change places, and it runs backwards.
        up = weights.conv(f"ups.{i}", width, width // 2, kernel, norm=True, bias=False)["kernel"]
        width //= 2
        found[f"ups_{i}"] = {"kernel": np.swapaxes(up, 1, 2)[::-1], "bias": weights.take(f"ups.{i}.bias", (width,))}
        for j, size in enumerate(g.block_kernels):
            found[f"resblocks_{i * n_blocks + j}"] = {
                f"{convs}_{k}": weights.conv(f"resblocks.{i * n_blocks + j}.{convs}.{k}", width, width, size, norm=True)
                for convs in (("convs1", "convs2") if g.paired else ("convs",))
                for k in range(len(g.block_dilations[j]))
            }
    return found | {"conv_post": weights.conv("conv_post", 1, width, 7, norm=True)}


def recompute(params: dict, args: dict, arrays: dict[str, np.ndarray], dtype=np.float32) -> dict[str, np.ndarray]:
    generator = settings(args)
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), params)
    mel = np.swapaxes(arrays["mel"], 1, 2).astype(dtype)
    generate = jax.jit(partial(generator.apply, capture_intermediates=True))
    wave, left = generate({"params": params}, mel, np.ones(mel.shape[:2], dtype))
    last = len(generator.rates) - 1
    layers = {"conv_pre": "conv_pre", "up0": "ups_0", "resblock0": "resblocks_0", "up_last": f"ups_{last}"}
    inner = left["intermediates"]
    found = {ours: inner[layer]["__call__"][0] for ours, layer in (layers | {"conv_post": "conv_post"}).items()}
    return {name: torch_layout(x) for name, x in (found | {"wav": wave[..., None]}).items()}
