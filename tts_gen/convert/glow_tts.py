"""Glow-TTS (arXiv 2005.11129): checkpoints of jaywalnut310/glow-tts (MIT licence), one speaker or many."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from tts_gen.convert import text_encoder
from tts_gen.convert.text_encoder import alignment, encode, token_mask, torch_layout
from tts_gen.convert.weights import Weights, sub_state
from tts_gen.decoders.flow import Flow, FlowModule, FlowStep
from tts_gen.text_encoder import TextEncoder, TextEncoderModule, durations, expand


class Settings(NamedTuple):
    """What the constructor's arguments are here."""

    encoder: TextEncoder
    decoder: Flow
    symbols: int
    channels: int
    speakers: int
    """0 or 1: there is no speaker vector"""
    speaker_width: int


def settings(args: dict) -> Settings:
    """From the arguments of `FlowGenerator`."""
    encoder = TextEncoder(
        width=args["hidden_channels_enc"] or args["hidden_channels"],
        filter_width=args["filter_channels"],
        heads=args["n_heads"],
        layers=args["n_layers_enc"],
        kernel=args["kernel_size"],
        dropout=args["p_dropout"],
        prenet=args["prenet"],
        position="none" if args["window_size"] is None else "relative",
        window=args["window_size"] or 0,
        block=args["block_length"],
        mean_only=args["mean_only"],
        duration_width=args["filter_channels_dp"],
        duration_kernel=args["kernel_size"],
        duration_dropout=args["p_dropout"],
        speaker_width=args["gin_channels"],
        speaker_at="durations",
    )
    decoder = Flow(
        steps=args["n_blocks_dec"],
        squeeze=args["n_sqz"],
        groups_of=args["n_split"],
        width=args["hidden_channels_dec"] or args["hidden_channels"],
        layers=args["n_block_layers"],
        kernel=args["kernel_size_dec"],
        dilation=args["dilation_rate"],
        sigmoid_scale=args["sigmoid_scale"],
        dropout=args["p_dropout_dec"],
        prior="given",
    )
    return Settings(encoder, decoder, args["n_vocab"], args["out_channels"], args["n_speakers"], args["gin_channels"])


def state(checkpoint: dict) -> dict[str, np.ndarray]:
    return sub_state(checkpoint, "model", "Glow-TTS")


def params(weights: Weights, args: dict) -> dict:
    """{"encoder", "decoder"}, and "speaker" [speakers, width] where there are several."""
    s = settings(args)
    steps = [_step(weights, s, f"decoder.flows.{3 * i}", f"decoder.flows.{3 * i + 1}", f"decoder.flows.{3 * i + 2}")
             for i in range(s.decoder.steps)]  # fmt: skip
    encoder = TextEncoderModule(s.encoder, s.symbols, s.channels)
    found = {
        "encoder": text_encoder.params(weights, encoder, "encoder.", prenet="pre"),
        "decoder": {"steps": jax.tree.map(lambda *leaves: np.stack(leaves), *steps)},
    }
    if s.speakers > 1:
        found["speaker"] = weights.take("emb_g.weight", (s.speakers, s.speaker_width))
    return found


def _step(weights: Weights, s: Settings, norm: str, conv: str, coupling: str) -> dict:
    """One step of the flow: three modules there, ActNorm, 1x1 convolution and coupling."""
    c, channels = s.decoder, s.channels * s.decoder.squeeze
    return {
        "norm": {
            "log_scale": weights.take(f"{norm}.logs", (1, channels, 1))[0, :, 0],
            "bias": weights.take(f"{norm}.bias", (1, channels, 1))[0, :, 0],
        },
        "conv": {"weight": weights.take(f"{conv}.weight", (c.groups_of, c.groups_of))},
        "coupling": {"conditioner": _wavenet(weights, s, coupling, channels)},
    }


def _wavenet(weights: Weights, s: Settings, name: str, channels: int) -> dict:
    c, last = s.decoder, s.decoder.layers - 1
    dense = [weights.dense(f"{name}.start", c.width, channels // 2, norm=True, conv=True)]
    if s.speaker_width:
        gates = 2 * c.width * c.layers
        dense.append(weights.dense(f"{name}.wn.cond_layer", gates, s.speaker_width, norm=True, conv=True))
    found = {}
    for i in range(c.layers):
        out = c.width if i == last else 2 * c.width
        dense.append(weights.dense(f"{name}.wn.res_skip_layers.{i}", out, c.width, norm=True, conv=True))
        found[f"Conv_{i}"] = weights.conv(f"{name}.wn.in_layers.{i}", 2 * c.width, c.width, c.kernel, norm=True)
    dense.append(weights.dense(f"{name}.end", channels, c.width, conv=True))
    return found | {f"Dense_{i}": layer for i, layer in enumerate(dense)}


def recompute(params: dict, args: dict, arrays: dict[str, np.ndarray], dtype=np.float32) -> dict[str, np.ndarray]:
    s = settings(args)
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), params)
    a = {name: x.astype(dtype) if x.dtype.kind == "f" else x for name, x in arrays.items()}
    found, voice = {}, None
    if s.speakers > 1:
        voice = params["speaker"][a["spk"]]
        voice /= jnp.maximum(jnp.linalg.norm(voice, axis=-1, keepdims=True), 1e-12)
        found["spk_g"] = np.asarray(voice)[..., None]
    return {
        **found,
        **_short(params, s, a["x_short"], None if voice is None else voice[: len(a["x_short"])], dtype),
        **_decoder(params, s, a, voice),
        **_synthesis(params, s, a, voice, dtype),
    }


def _encode(params: dict, s: Settings, tokens: np.ndarray, mask: np.ndarray, voice) -> tuple:
    module = TextEncoderModule(s.encoder, s.symbols, s.channels)
    return encode(module, params["encoder"], tokens, mask, voice if s.speaker_width else None)


def _short(params: dict, s: Settings, tokens: np.ndarray, voice, dtype: type) -> dict[str, np.ndarray]:
    """The encoder on a text shorter than its attention's window."""
    encoded, _ = _encode(params, s, tokens, np.ones(tokens.shape, dtype), voice)
    names = {"short_x_m": encoded.mean, "short_x_logs": encoded.log_std, "short_logw": encoded.log_duration}
    return {name: torch_layout(x) for name, x in names.items()}


def _decoder(params: dict, s: Settings, a: dict, voice) -> dict[str, np.ndarray]:
    """The flow both ways, and what the first step's three parts give."""
    frames = a["dec_y"].shape[2] // s.decoder.squeeze * s.decoder.squeeze
    y, z = (np.swapaxes(a[name], 1, 2)[:, :frames] for name in ("dec_y", "dec_z"))
    mask, cond = a["dec_mask"][:, 0, :frames], _condition(jnp.zeros_like(y), jnp.zeros_like(y), voice)
    flow = s.decoder.build(s.channels)

    def run(method: str, x):
        return jax.jit(partial(flow.apply, method=method))({"params": params["decoder"]}, x, cond, mask)

    latent, log_det = run("forward_and_log_det", y)
    found = {
        "dec_fwd_z": torch_layout(latent),
        "dec_fwd_logdet": np.asarray(jnp.sum(log_det, 1)),
        "dec_rev_y": torch_layout(run("inverse", z)),
    }
    return found | _first_step(jax.tree.map(lambda p: p[0], params["decoder"]["steps"]), flow, y, mask, voice)


def _first_step(params: dict, flow: FlowModule, y, mask, voice) -> dict[str, np.ndarray]:
    squeeze = flow.config.squeeze
    mask = mask[:, squeeze - 1 :: squeeze]
    y = y.reshape(len(y), mask.shape[1], -1) * mask[..., None]
    g = _condition(y[..., :0], y[..., :0], voice)

    @jax.jit
    def parts(params, y):
        step = FlowStep(flow.config, y.shape[-1]).bind({"params": params})
        normed = step.norm.forward_and_log_det(y, mask)
        mixed = step.conv.forward_and_log_det(normed[0], mask)
        coupled = step.coupling.forward_and_log_det(mixed[0], g, mask, [1.0] * flow.config.layers)
        return {"actnorm": normed, "invconv": mixed, "coupling": coupled}

    found = {}
    for name, (z, log_det) in parts(params, y).items():
        found[f"dec_fwd_block0_{name}"] = torch_layout(z)
        found[f"dec_fwd_block0_{name}_logdet"] = np.asarray(jnp.sum(log_det, 1))
    return found


def _condition(mean, log_std, voice):
    """What a flow whose prior is given takes: mean, log-std and, at every frame, the speaker."""
    frames = mean.shape[:2]
    return jnp.concatenate(
        [mean, log_std] + ([] if voice is None else [jnp.broadcast_to(voice[:, None], (*frames, voice.shape[-1]))]), -1
    )


def _synthesis(params: dict, s: Settings, a: dict, voice, dtype: type) -> dict[str, np.ndarray]:
    """Text to mel from `syn_noise`."""
    squeeze = s.decoder.squeeze
    tokens = token_mask(a["x_lengths"], a["x"].shape[1], dtype)
    encoded, found = _encode(params, s, a["x"], tokens, voice)
    frames = np.asarray(durations(encoded.log_duration, tokens, a["syn_length_scale"]))
    lengths = np.maximum(frames.sum(1), 1) // squeeze * squeeze
    total = int(lengths.max())
    mask = token_mask(lengths, total, dtype)
    mean, log_std = (expand(x, frames, total) * mask[..., None] for x in (encoded.mean, encoded.log_std))
    attention = alignment(frames, total, dtype) * mask[:, None, None]
    noise, cond = np.swapaxes(a["syn_noise"], 1, 2), _condition(mean, log_std, voice)
    sample = jax.jit(partial(s.decoder.build(s.channels).apply, method="sample_from"))
    y = sample({"params": params["decoder"]}, noise, cond, mask, a["syn_noise_scale"])
    return found | {
        "enc_x_m": torch_layout(encoded.mean),
        "enc_x_logs": torch_layout(encoded.log_std),
        "enc_logw": torch_layout(encoded.log_duration),
        "syn_y": torch_layout(y),
        "syn_z_m": torch_layout(mean),
        "syn_z_logs": torch_layout(log_std),
        "syn_z_mask": mask[:, None],
        "syn_attn": attention,
        "syn_logw_": np.log(1e-8 + attention[:, 0].sum(-1))[:, None] * tokens[:, None],
    }
