"""Grad-TTS (Popov et al., arXiv 2105.06337): checkpoints of huawei-noah/Speech-Backbones, Grad-TTS/ (MIT licence), one
speaker or many.

The published networks were trained with attention and group norms that see padding (`reference_masking`), and their
U-Net's output is the score. Temperature there divides the noise; here it multiplies it.
"""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from tts_gen.convert import text_encoder
from tts_gen.convert.text_encoder import torch_layout
from tts_gen.convert.weights import Weights
from tts_gen.decoders import networks
from tts_gen.decoders.diffusion import Diffusion
from tts_gen.joint import Joint, Speakers
from tts_gen.layers import time_embedding
from tts_gen.text_encoder import TextEncoder, TextEncoderModule, durations, expand

MULTIPLIERS = 1, 2, 4
"""of the U-Net's width, per level"""
HEADS, HEAD_WIDTH = 4, 32
STEPS = 4
"""of the solvers in a golden folder"""
MULTIPLE = 4
"""frames: the reference pads to multiples of it"""


def settings(args: dict) -> Joint:
    """From the constructor's arguments of `GradTTS`."""
    encoder = TextEncoder(
        width=args["n_enc_channels"],
        filter_width=args["filter_channels"],
        heads=args["n_heads"],
        layers=args["n_enc_layers"],
        kernel=args["enc_kernel"],
        dropout=args["enc_dropout"],
        window=args["window_size"],
        mean_only=True,
        duration_width=args["filter_channels_dp"],
        duration_kernel=args["enc_kernel"],
        duration_dropout=args["enc_dropout"],
    )
    decoder = Diffusion(
        network="unet2d",
        widths=tuple(args["dec_dim"] * m for m in MULTIPLIERS),
        heads=HEADS,
        head_width=HEAD_WIDTH,
        prior_mean="given",
        reference_masking=True,
        time_scale=float(args["pe_scale"]),
        predict="score",
        beta0=float(args["beta_min"]),
        beta1=float(args["beta_max"]),
        solver="grad_euler",
        solver_steps=10,
    )
    several = args["n_spks"] > 1
    width = args["spk_emb_dim"]
    speakers = Speakers(args["n_spks"], width, hidden=4 * width) if several else Speakers(width=width)
    return Joint(decoder, encoder, args["n_vocab"], speakers, scale_last=True)


def state(checkpoint: dict) -> dict[str, np.ndarray]:
    """The checkpoint is a bare state dict."""
    return checkpoint


def params(weights: Weights, args: dict) -> dict:
    """Parameters of the joint model: {"encoder", "decoder"}, and where there are several speakers {"speaker",
    "speaker_hidden", "speaker_image"}."""
    c, channels = settings(args), args["n_feats"]
    encoder = TextEncoderModule(c.encoder, c.symbols, channels)
    found = {
        "encoder": text_encoder.params(weights, encoder, "encoder."),
        "decoder": {"network": _network(weights, c.decoder, 3 if c.speakers.hidden else 2)},
    }
    if c.speakers.hidden:
        mlp, width = "decoder.estimator.spk_mlp.", c.speakers.width
        found |= {
            "speaker": {"embedding": weights.take("spk_emb.weight", (c.speakers.count, width))},
            "speaker_hidden": weights.dense(f"{mlp}0", c.speakers.hidden, width),
            "speaker_image": weights.dense(f"{mlp}2", channels, c.speakers.hidden),
        }
    return found


def _network(weights: Weights, d: Diffusion, images: int) -> dict:
    """Parameters of unet2d.UNet2D for that many input images."""
    prefix, widths = "decoder.estimator.", d.widths
    emb, bottom, last = widths[0], widths[-1], len(widths) - 1
    found = {
        "time_in": weights.dense(f"{prefix}mlp.0", 4 * emb, emb),
        "time_out": weights.dense(f"{prefix}mlp.2", emb, 4 * emb),
        "mid_resnet1": _resnet(weights, f"{prefix}mid_block1", bottom, bottom, emb),
        "mid_attention": _attention(weights, f"{prefix}mid_attn", bottom, d),
        "mid_resnet2": _resnet(weights, f"{prefix}mid_block2", bottom, bottom, emb),
        "final_block": _block(weights, f"{prefix}final_block", emb, emb),
        "final": weights.dense(f"{prefix}final_conv", 1, emb, conv=2),
    }
    into = images
    for i, width in enumerate(widths):
        found |= _level(weights, f"{prefix}downs.{i}", f"down{i}", width, into, d)
        if i < last:
            found[f"down{i}_out"] = image_conv(weights, f"{prefix}downs.{i}.3.conv", width, width)
        into = width
    for i, width in enumerate(reversed(widths[:-1])):
        found |= _level(weights, f"{prefix}ups.{i}", f"up{i}", width, 2 * into, d)
        found[f"up{i}_out"] = upsample(weights, f"{prefix}ups.{i}.3.conv", width)
        into = width
    return found


def _level(weights: Weights, theirs: str, ours: str, width: int, into: int, d: Diffusion) -> dict:
    emb = d.widths[0]
    return {
        f"{ours}_resnet1": _resnet(weights, f"{theirs}.0", width, into, emb),
        f"{ours}_resnet2": _resnet(weights, f"{theirs}.1", width, width, emb),
        f"{ours}_attention": _attention(weights, f"{theirs}.2", width, d),
    }


def _resnet(weights: Weights, name: str, width: int, into: int, emb: int) -> dict:
    found = {
        "block1": _block(weights, f"{name}.block1", width, into),
        "block2": _block(weights, f"{name}.block2", width, width),
        "time": weights.dense(f"{name}.mlp.1", width, emb),
    }
    return found | ({"skip": weights.dense(f"{name}.res_conv", width, into, conv=2)} if into != width else {})


def _block(weights: Weights, name: str, width: int, into: int) -> dict:
    return {"conv": image_conv(weights, f"{name}.block.0", width, into),
            "norm": weights.norm(f"{name}.block.1", width)}  # fmt: skip


def _attention(weights: Weights, name: str, width: int, d: Diffusion) -> dict:
    inner, shape = d.heads * d.head_width, (d.heads, d.head_width)
    qkv = weights.dense(f"{name}.fn.fn.to_qkv", 3 * inner, width, bias=False, conv=2)["kernel"]
    query, key, value = (part.reshape(width, *shape) for part in np.split(qkv, 3, 1))
    out = weights.dense(f"{name}.fn.fn.to_out", width, inner, conv=2)
    gate = weights.take(f"{name}.fn.g", (1,))
    return {"query": query, "key": key, "value": value, "out": out["kernel"].reshape(*shape, width),
            "bias": out["bias"], "gate": gate}  # fmt: skip


def image_conv(weights: Weights, name: str, out: int, into: int) -> dict:
    """A 3x3 convolution, whose first axis is the mel bin there and the frame here."""
    found = weights.conv(name, out, into, 3, 3)
    return found | {"kernel": found["kernel"].swapaxes(0, 1)}


def upsample(weights: Weights, name: str, width: int) -> dict:
    """Parameters of unet2d.Upsample from a transposed convolution [in, out, 4 bins, 4 frames]."""
    w = weights.take(f"{name}.weight", (width, width, 4, 4)).transpose(3, 2, 0, 1)
    tap = [3, 1], [2, 0]
    phases = {f"phase{a}{b}": {"kernel": w[tap[a]][:, tap[b]]} for a in (0, 1) for b in (0, 1)}
    return phases | {"bias": weights.take(f"{name}.bias", (width,))}


def recompute(params: dict, args: dict, arrays: dict[str, np.ndarray], dtype=np.float32) -> dict[str, np.ndarray]:
    """Every output of a golden folder, in its layout, from its inputs and noise."""
    c, channels = settings(args), args["n_feats"]
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), params)
    a = {k: v.astype(dtype) if v.dtype == np.float32 else v for k, v in arrays.items()}
    a = {k: np.swapaxes(v, 1, 2) if v.ndim == 3 and k != "mask" else v for k, v in a.items()}

    def decode(method, *values, solver="grad_euler"):
        decoder = replace(c.decoder, solver=solver, solver_steps=STEPS).build(channels)
        return jax.jit(lambda p, v: decoder.apply({"params": p}, *v, method=method))(params["decoder"], values)

    found, voice = {}, None
    if c.speakers.hidden:
        joint, speaker = c.build(channels), params["speaker"]["embedding"][a["spk"]]
        image = lambda m, v: m.speaker_image(jax.nn.mish(m.speaker_hidden(v)))  # noqa: E731
        voice = joint.apply({"params": params}, speaker, method=image)
        found = {"spk_emb": np.asarray(speaker), "spk_feat": np.asarray(voice)}
    mask, cond = a["mask"][:, 0], text_encoder.with_voice(a["mu"], voice=voice)
    m = mask[..., None]
    loss = decode("loss_at", a["x0"], a["t"], a["fwd_noise"], cond, mask, None)
    # The reference starts from z itself and subtracts a step's noise.
    start, path = a["rev_z"] - a["mu"], -jnp.stack([a[f"rev_stoc_noise_{i}"] for i in range(STEPS)])
    reverse = {
        name: m * decode(_sample, start, path, cond, mask, 1.0, solver=solver)
        for name, solver in (("rev_x", "grad_euler"), ("rev_stoc_x", "grad_sde"))
    }
    return found | {
        **_estimator(params["decoder"]["network"], c.decoder, a, cond),
        "fwd_xt": torch_layout(decode("noised", a["x0"], a["t"], a["fwd_noise"], cond, mask)),
        "fwd_z_masked": torch_layout(a["fwd_noise"] * m),
        "loss_t": np.asarray(jnp.sum(loss * mask) / jnp.sum(mask)),
        **{name: torch_layout(x) for name, x in reverse.items()},
        **_synthesis(params, c, a, voice, decode),
    }


def _sample(module, start, path, *rest):
    """`path`: noise of each step, or None for the ODE."""
    return module.sample_from(start, lambda i: path[i], *rest)


def _estimator(params: dict, d: Diffusion, a: dict, cond) -> dict[str, np.ndarray]:
    """The network's output and what its modules give on the way."""
    network = networks.build(d, a["est_x"].shape[-1])
    values = a["est_x"], cond, a["t"], a["mask"][:, 0], None
    forward = jax.jit(lambda p: network.apply({"params": p}, *values, capture_intermediates=True))
    out, captured = forward(params)

    def image(name):
        """[B, L, F, width] -> [B, width, F, L]"""
        return np.asarray(captured["intermediates"][name]["__call__"][0]).transpose(0, 3, 2, 1)

    last = len(d.widths) - 1
    return {
        "est_time_pos": np.asarray(time_embedding(a["t"], d.widths[0], d.time_scale)),
        "est_time_mlp": np.asarray(captured["intermediates"]["time_out"]["__call__"][0]),
        "est_out": torch_layout(out),
        "est_down0_resnet1": image("down0_resnet1"),
        **{f"est_down{i}": image(f"down{i}_attention") for i in range(last + 1)},
        "est_mid": image("mid_resnet2"),
        **{f"est_up{i}": image(f"up{i}_out") for i in range(last)},
    }


def _synthesis(params: dict, c: Joint, a: dict, voice, decode) -> dict[str, np.ndarray]:
    """Text to mel: the encoder, its durations, and the ODE from `syn_noise`."""
    dtype = a["mu"].dtype
    tokens = text_encoder.token_mask(a["x_lengths"], a["x"].shape[1], dtype)
    module = TextEncoderModule(c.encoder, c.symbols, a["mu"].shape[-1])
    encoded, found = text_encoder.encode(module, params["encoder"], a["x"], tokens)
    frames = np.asarray(durations(encoded.log_duration, tokens, a["syn_length_scale"], scale_last=True))
    lengths = np.maximum(np.sum(frames, 1), 1)
    longest = int(lengths.max())
    total = -(-longest // MULTIPLE) * MULTIPLE
    mask = text_encoder.token_mask(lengths, total, dtype)
    mu = expand(encoded.mean, frames, total)
    dec = decode(
        _sample, a["syn_noise"], None, text_encoder.with_voice(mu, voice=voice), mask, 1 / a["syn_temperature"]
    )
    return {
        "enc_mu_x": torch_layout(encoded.mean),
        "enc_logw": torch_layout(encoded.log_duration),
        "enc_x_mask": found["enc_x_mask"],
        "syn_enc": torch_layout(mu)[..., :longest],
        "syn_dec": torch_layout(dec * mask[..., None])[..., :longest],
        # The reference cuts the axis of tokens where it means frames.
        "syn_attn": text_encoder.alignment(frames, total, dtype)[:, :, :longest],
    }
