"""Matcha-TTS (arXiv 2309.03199): checkpoints of shivammehta25/Matcha-TTS (MIT licence), one speaker or many."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from tts_gen.config import UserError
from tts_gen.convert import text_encoder
from tts_gen.convert.text_encoder import torch_layout
from tts_gen.convert.weights import Weights, sub_state
from tts_gen.decoders import networks
from tts_gen.decoders.flow_matching import FlowMatching
from tts_gen.joint import Joint, Speakers
from tts_gen.layers import time_embedding
from tts_gen.text_encoder import TextEncoder, TextEncoderModule, durations, expand

STEPS = 4
"""Euler steps of a golden folder's samples"""
MULTIPLE = 4
"""frames: the reference pads to multiples of it, however few of its levels halve them"""


def settings(args: dict) -> Joint:
    """From the arguments of `MatchaTTS`. Raises UserError for blocks of a kind that its published models do not use."""
    e, durations_, d = args["encoder"]["encoder_params"], args["encoder"]["duration_predictor_params"], args["decoder"]
    for name in ("down_block_type", "mid_block_type", "up_block_type"):
        if d.get(name, "transformer") != "transformer":
            raise UserError(f"decoder.{name} is {d[name]!r}; only checkpoints with 'transformer' can be read")
    encoder = TextEncoder(
        width=e["n_channels"],
        filter_width=e["filter_channels"],
        heads=e["n_heads"],
        layers=e["n_layers"],
        kernel=e["kernel_size"],
        dropout=e["p_dropout"],
        prenet=e["prenet"],
        position="rotary",
        mean_only=True,
        duration_width=durations_["filter_channels_dp"],
        duration_kernel=durations_["kernel_size"],
        duration_dropout=durations_["p_dropout"],
        speaker_width=args["spk_emb_dim"] if args["n_spks"] > 1 else 0,
        speaker_at="input",
    )
    decoder = FlowMatching(
        network="matcha",
        widths=tuple(d["channels"]),
        heads=d["num_heads"],
        head_width=d["attention_head_dim"],
        blocks=d["n_blocks"],
        middle_blocks=d["num_mid_blocks"],
        activation=d["act_fn"],
        dropout=d["dropout"],
        prior_mean="given",
        reference_masking=True,
        sigma_min=args["cfm"].get("sigma_min", 1e-4),
        solver="euler",
        solver_steps=10,
    )
    speakers = Speakers(args["n_spks"], args["spk_emb_dim"]) if args["n_spks"] > 1 else Speakers()
    return Joint(decoder, encoder, args["n_vocab"], speakers, scale_last=True)


def state(checkpoint: dict) -> dict[str, np.ndarray]:
    """The state dict of a Lightning checkpoint. Raises UserError when there is none."""
    return sub_state(checkpoint, "state_dict", "Matcha-TTS")


def params(weights: Weights, args: dict) -> dict:
    """{"encoder", "decoder", "mel_mean" [], "mel_std" []}, and "speaker" where there are several."""
    s, channels = settings(args), args["n_feats"]
    found = {
        "encoder": text_encoder.params(weights, TextEncoderModule(s.encoder, s.symbols, channels), "encoder."),
        "decoder": {"network": _network(weights, s, channels, "decoder.estimator.")},
        "mel_mean": weights.take("mel_mean", ()),
        "mel_std": weights.take("mel_std", ()),
    }
    if s.speakers.count > 1:
        found["speaker"] = {"embedding": weights.take("spk_emb.weight", (s.speakers.count, s.speakers.width))}
    return found


def _network(weights: Weights, s: Joint, channels: int, prefix: str) -> dict:
    """Parameters of matcha.MatchaUNet."""
    d = s.decoder
    width, depth = d.widths[0], len(d.widths) - 1
    into, emb = 2 * channels + s.encoder.speaker_width, 4 * width
    found = {
        "time": time_mlp(weights, f"{prefix}time_mlp", emb, into),
        "final": _block(weights, f"{prefix}final_block", width, width),
        "out": weights.dense(f"{prefix}final_proj", channels, width, conv=True),
    }
    for i, out in enumerate(d.widths):
        name = f"{prefix}down_blocks.{i}"
        found[f"down{i}"] = level(weights, name, d, out, into)
        halve = downsample if i < depth else _convolution
        found[f"down{i}_out"] = halve(weights, f"{name}.2", out)
        into = out
    for i in range(d.middle_blocks):
        found[f"middle{i}"] = level(weights, f"{prefix}mid_blocks.{i}", d, into, into)
    for i, out in enumerate((*d.widths[-2::-1], width)):
        name = f"{prefix}up_blocks.{i}"
        found[f"up{i}"] = level(weights, name, d, out, 2 * into)
        double = upsample if i < depth else _convolution
        found[f"up{i}_out"] = double(weights, f"{name}.2", out)
        into = out
    return found


def time_mlp(weights: Weights, name: str, width: int, into: int) -> dict:
    """Parameters of matcha.TimeMLP."""
    return {
        "hidden": weights.dense(f"{name}.linear_1", width, into),
        "out": weights.dense(f"{name}.linear_2", width, width),
    }


def level(weights: Weights, name: str, d: FlowMatching, width: int, into: int) -> dict:
    """Parameters of matcha.Level, `into` channels to `width`."""
    resnet = {
        "block1": _block(weights, f"{name}.0.block1", width, into),
        "block2": _block(weights, f"{name}.0.block2", width, width),
        "time": weights.dense(f"{name}.0.mlp.1", width, 4 * d.widths[0]),
        "residual": weights.dense(f"{name}.0.res_conv", width, into, conv=True),
    }
    return {"resnet": resnet} | {
        f"transformer{i}": _transformer(weights, f"{name}.1.{i}", d, width) for i in range(d.blocks)
    }


def _block(weights: Weights, name: str, width: int, into: int) -> dict:
    return {"conv": weights.conv(f"{name}.block.0", width, into, 3), "norm": weights.norm(f"{name}.block.1", width)}


def _transformer(weights: Weights, name: str, d: FlowMatching, width: int) -> dict:
    inner, hidden = d.heads * d.head_width, 4 * width
    qkv = [weights.dense(f"{name}.attn1.to_{p}", inner, width, bias=False)["kernel"] for p in "qkv"]
    linear = weights.dense(f"{name}.ff.net.0.proj", hidden * (2 if d.activation == "geglu" else 1), width)
    snake = ("alpha", "beta") if d.activation == "snakebeta" else ()
    return {
        "norm1": weights.norm(f"{name}.norm1", width),
        "attention": {
            "qkv": {"kernel": np.concatenate(qkv, 1)},
            "out": weights.dense(f"{name}.attn1.to_out.0", width, inner),
        },
        "norm2": weights.norm(f"{name}.norm3", width),
        "hidden": {"linear": linear} | {p: weights.take(f"{name}.ff.net.0.{p}", (hidden,)) for p in snake},
        "out": weights.dense(f"{name}.ff.net.2", width, hidden),
    }


def _convolution(weights: Weights, name: str, width: int) -> dict:
    return weights.conv(name, width, width, 3)


def downsample(weights: Weights, name: str, width: int) -> dict:
    """Parameters of matcha.Downsample: the kernel as a matrix, for the odd position before a pair and then the pair."""
    conv = weights.conv(f"{name}.conv", width, width, 3)
    return {"conv": conv | {"kernel": conv["kernel"].reshape(3 * width, width)}}


def upsample(weights: Weights, name: str, width: int) -> dict:
    """Parameters of matcha.Upsample from a transposed convolution w [in, out, 4]: y[2m + k - 1] += x[m] w[..., k]."""
    w = np.moveaxis(weights.take(f"{name}.conv.weight", (width, width, 4)), -1, 0)
    bias = weights.take(f"{name}.conv.bias", (width,))
    return {"even": {"kernel": w[[3, 1]], "bias": bias}, "odd": {"kernel": w[[2, 0]], "bias": bias}}


def recompute(params: dict, args: dict, arrays: dict[str, np.ndarray], dtype=np.float32) -> dict[str, np.ndarray]:
    """Every output of a golden folder, in its layout, from its inputs and noise."""
    s, channels = settings(args), args["n_feats"]
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), params)
    a = {k: v.astype(dtype) if v.dtype == np.float32 else v for k, v in arrays.items()}
    a = {k: np.swapaxes(v, 1, 2) if v.ndim == 3 and k != "mask" else v for k, v in a.items()}
    voice = params["speaker"]["embedding"][a["spk"]] if s.speakers.count > 1 else None
    decoder = replace(s.decoder, solver_steps=STEPS).build(channels)

    run = jax.jit(lambda method, p, v: decoder.apply({"params": p}, *v, method=method), static_argnums=0)

    def decode(method, *values):
        return run(method, params["decoder"], values)

    cond, mask, t = text_encoder.with_voice(a["mu"], voice=voice), a["mask"][:, 0], a["loss_t"][:, 0, 0]
    error = decode("loss_at", a["x1"], cond, mask, t, a["loss_noise"], None)
    return {
        **_estimator(params["decoder"]["network"], s.decoder, a, cond),
        "ode_x": torch_layout(decode("sample_from", a["ode_z"], cond, mask)),
        # The reference's sum runs over padding too.
        "loss": np.asarray(jnp.sum(error) / jnp.sum(mask)),
        "loss_y": torch_layout(decode("path", a["x1"], t, a["loss_noise"])[0]),
        **_synthesis(params, s, a, voice, decode),
    }


def _estimator(params: dict, d: FlowMatching, a: dict, cond) -> dict[str, np.ndarray]:
    """The network's output and what its modules give on the way."""
    network = networks.build(d, a["est_x"].shape[-1])
    values = a["est_x"], cond, a["t"], a["mask"][:, 0], None
    out, captured = jax.jit(lambda p: network.apply({"params": p}, *values, capture_intermediates=True))(params)

    def of(*path):
        return functools.reduce(lambda modules, name: modules[name], path, captured["intermediates"])["__call__"][0]

    found = {
        "est_time_pos": np.asarray(time_embedding(a["t"], a["est_x"].shape[-1] + cond.shape[-1])),
        "est_time_mlp": np.asarray(of("time")),
        "est_mid": np.asarray(of(f"middle{d.middle_blocks - 1}")),
        "est_final_block": torch_layout(of("final")),
        "est_out": torch_layout(out),
    }
    for i in range(len(d.widths)):
        found |= {
            f"est_down{i}_resnet": torch_layout(of(f"down{i}", "resnet")),
            f"est_down{i}_attn": np.asarray(of(f"down{i}", "transformer0", "attention")),
            f"est_down{i}_snakebeta": np.asarray(of(f"down{i}", "transformer0", "hidden")),
            f"est_down{i}_transformer": np.asarray(of(f"down{i}")),
            f"est_down{i}_out": torch_layout(of(f"down{i}_out")),
            f"est_up{i}_out": torch_layout(of(f"up{i}_out")),
        }
    return found


def _synthesis(params: dict, s: Joint, a: dict, voice, decode) -> dict[str, np.ndarray]:
    """Text to mel: the encoder, its durations, and the ODE from `syn_noise`."""
    dtype = a["mu"].dtype
    tokens = text_encoder.token_mask(a["x_lengths"], a["x"].shape[1], dtype)
    module = TextEncoderModule(s.encoder, s.symbols, a["mu"].shape[-1])
    encoded, found = text_encoder.encode(module, params["encoder"], a["x"], tokens, voice)
    frames = np.asarray(durations(encoded.log_duration, tokens, a["syn_length_scale"], scale_last=True))
    lengths = np.maximum(np.sum(frames, 1), 1)
    longest = int(lengths.max())
    total = -(-longest // MULTIPLE) * MULTIPLE
    mask = text_encoder.token_mask(lengths, total, dtype)
    mu = expand(encoded.mean, frames, total)
    noise = a["syn_noise"] * a["syn_temperature"]
    dec = decode("sample_from", noise, text_encoder.with_voice(mu, voice=voice), mask)
    dec = torch_layout(dec)[..., :longest]
    return found | {
        "enc_mu_x": torch_layout(encoded.mean),
        "enc_logw": torch_layout(encoded.log_duration),
        "syn_enc": torch_layout(mu)[..., :longest],
        "syn_dec": dec,
        # The reference cuts the axis of tokens where it means frames.
        "syn_attn": text_encoder.alignment(frames, total, dtype)[:, :, :longest],
        "syn_mel": dec * np.asarray(params["mel_std"]) + np.asarray(params["mel_mean"]),
        "syn_mel_lengths": lengths.astype(np.int32),
    }
