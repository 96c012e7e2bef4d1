"""Glow-TTS (arXiv 2005.11129): checkpoints of jaywalnut310/glow-tts (MIT licence), one speaker or many."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tts_gen.convert import text_encoder
from tts_gen.convert.text_encoder import alignment, encode, token_mask, torch_layout, with_voice
from tts_gen.convert.weights import Weights, sub_state
from tts_gen.decoders.flow import Flow, FlowModule, FlowStep
from tts_gen.joint import Joint, Speakers
from tts_gen.text_encoder import TextEncoder, TextEncoderModule, durations, expand


def settings(args: dict) -> Joint:
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
    several = args["n_speakers"] > 1
    speakers = Speakers(args["n_speakers"], args["gin_channels"], unit_length=True) if several else Speakers()
    return Joint(decoder, encoder, args["n_vocab"], speakers)


def state(checkpoint: dict) -> dict[str, np.ndarray]:
    return sub_state(checkpoint, "model", "Glow-TTS")


def params(weights: Weights, args: dict) -> dict:
    """{"encoder", "decoder"}, and "speaker" where there are several."""
    s, channels = settings(args), args["out_channels"]
    flows = [f"decoder.flows.{i}" for i in range(3 * s.decoder.steps)]
    steps = [_step(weights, s, channels, *flows[i : i + 3]) for i in range(0, len(flows), 3)]
    encoder = TextEncoderModule(s.encoder, s.symbols, channels)
    found = {
        "encoder": text_encoder.params(weights, encoder, "encoder.", prenet="pre"),
        "decoder": {"steps": {str(i): step for i, step in enumerate(steps)}},
    }
    if s.speakers.count > 1:
        found["speaker"] = {"embedding": weights.take("emb_g.weight", (s.speakers.count, s.speakers.width))}
    return found


def _step(weights: Weights, s: Joint, channels: int, norm: str, conv: str, coupling: str) -> dict:
    """One step of the flow: three modules there, ActNorm, 1x1 convolution and coupling."""
    c, channels = s.decoder, channels * s.decoder.squeeze
    return {
        "norm": {
            "log_scale": weights.take(f"{norm}.logs", (1, channels, 1))[0, :, 0],
            "bias": weights.take(f"{norm}.bias", (1, channels, 1))[0, :, 0],
        },
        "conv": {"weight": weights.take(f"{conv}.weight", (c.groups_of, c.groups_of))},
        "coupling": {"conditioner": _wavenet(weights, s, coupling, channels)},
    }


def _wavenet(weights: Weights, s: Joint, name: str, channels: int) -> dict:
    c, last = s.decoder, s.decoder.layers - 1
    dense = [weights.dense(f"{name}.start", c.width, channels // 2, norm=True, conv=True)]
    if s.encoder.speaker_width:
        gates = 2 * c.width * c.layers
        dense.append(weights.dense(f"{name}.wn.cond_layer", gates, s.encoder.speaker_width, norm=True, conv=True))
    found = {}
    for i in range(c.layers):
        out = c.width if i == last else 2 * c.width
        dense.append(weights.dense(f"{name}.wn.res_skip_layers.{i}", out, c.width, norm=True, conv=True))
        conv = weights.conv(f"{name}.wn.in_layers.{i}", 2 * c.width, c.width, c.kernel, norm=True)
        found[f"Conv_{i}"] = conv | {"kernel": conv["kernel"][None]}
    dense.append(weights.dense(f"{name}.end", channels, c.width, conv=True))
    return found | {f"Dense_{i}": layer for i, layer in enumerate(dense)}


def recompute(params: dict, args: dict, arrays: dict[str, np.ndarray], dtype=np.float32) -> dict[str, np.ndarray]:
    s, channels = settings(args), args["out_channels"]
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), params)
    a = {name: x.astype(dtype) if x.dtype.kind == "f" else x for name, x in arrays.items()}
    found, voice = {}, None
    if s.speakers.count > 1:
        voice = params["speaker"]["embedding"][a["spk"]]
        voice /= jnp.maximum(jnp.linalg.norm(voice, axis=-1, keepdims=True), 1e-12)
        found["spk_g"] = np.asarray(voice)[..., None]
    return {
        **found,
        **_short(params, s, channels, a["x_short"], None if voice is None else voice[: len(a["x_short"])], dtype),
        **_decoder(params, s, a, voice),
        **_synthesis(params, s, channels, a, voice, dtype),
    }


def _encode(params: dict, s: Joint, channels: int, tokens: np.ndarray, mask: np.ndarray, voice) -> tuple:
    module = TextEncoderModule(s.encoder, s.symbols, channels)
    return encode(module, params["encoder"], tokens, mask, voice if s.encoder.speaker_width else None)


def _short(params: dict, s: Joint, channels: int, tokens: np.ndarray, voice, dtype: type) -> dict[str, np.ndarray]:
    """The encoder on a text shorter than its attention's window."""
    encoded, _ = _encode(params, s, channels, tokens, np.ones(tokens.shape, dtype), voice)
    names = {"short_x_m": encoded.mean, "short_x_logs": encoded.log_std, "short_logw": encoded.log_duration}
    return {name: torch_layout(x) for name, x in names.items()}


def _decoder(params: dict, s: Joint, a: dict, voice) -> dict[str, np.ndarray]:
    """The flow both ways, and what the first step's three parts give."""
    frames = a["dec_y"].shape[2] // s.decoder.squeeze * s.decoder.squeeze
    y, z = (np.swapaxes(a[name], 1, 2)[:, :frames] for name in ("dec_y", "dec_z"))
    mask, cond = a["dec_mask"][:, 0, :frames], with_voice(jnp.zeros_like(y), jnp.zeros_like(y), voice=voice)
    flow = s.decoder.build(y.shape[-1])

    def run(method: str, x):
        return jax.jit(partial(flow.apply, method=method))({"params": params["decoder"]}, x, cond, mask)

    latent, log_det = run("forward_and_log_det", y)
    found = {
        "dec_fwd_z": torch_layout(latent),
        "dec_fwd_logdet": np.asarray(jnp.sum(log_det, 1)),
        "dec_rev_y": torch_layout(run("inverse", z)),
    }
    return found | _first_step(params["decoder"]["steps"]["0"], flow, y, mask, voice)


def _first_step(params: dict, flow: FlowModule, y, mask, voice) -> dict[str, np.ndarray]:
    squeeze = flow.config.squeeze
    mask = mask[:, squeeze - 1 :: squeeze]
    y = y.reshape(len(y), mask.shape[1], -1) * mask[..., None]
    g = with_voice(y[..., :0], y[..., :0], voice=voice)

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


def _synthesis(params: dict, s: Joint, channels: int, a: dict, voice, dtype: type) -> dict[str, np.ndarray]:
    """Text to mel from `syn_noise`."""
    squeeze = s.decoder.squeeze
    tokens = token_mask(a["x_lengths"], a["x"].shape[1], dtype)
    encoded, found = _encode(params, s, channels, a["x"], tokens, voice)
    frames = np.asarray(durations(encoded.log_duration, tokens, a["syn_length_scale"]))
    lengths = np.maximum(frames.sum(1), 1) // squeeze * squeeze
    total = int(lengths.max())
    mask = token_mask(lengths, total, dtype)
    mean, log_std = (expand(x, frames, total) * mask[..., None] for x in (encoded.mean, encoded.log_std))
    attention = alignment(frames, total, dtype) * mask[:, None, None]
    noise, cond = np.swapaxes(a["syn_noise"], 1, 2), with_voice(mean, log_std, voice=voice)
    sample = jax.jit(partial(s.decoder.build(channels).apply, method="sample_from"))
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
