"""The text encoder of Glow-TTS, Grad-TTS and Matcha-TTS: their tensors as parameters of `text_encoder`, and what their
golden folders list of it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from tts_gen.convert.weights import Weights
from tts_gen.text_encoder import PRENET_KERNEL, PRENET_LAYERS, Encoded, TextEncoderModule

GLOW_NORM = "gamma", "beta"
"""what the three call a LayerNorm's scale and shift"""


def params(weights: Weights, encoder: TextEncoderModule, prefix: str, prenet: str = "prenet") -> dict:
    """Flax parameters from the tensors below `prefix` ("encoder." in all three). Glow-TTS calls the prenet "pre"."""
    c, hidden = encoder.config, encoder.config.hidden
    dp = f"{prefix}proj_w."
    found = {
        "embedding": {"embedding": weights.take(f"{prefix}emb.weight", (encoder.symbols, c.width))},
        "mean": weights.dense(f"{prefix}proj_m", encoder.channels, hidden, conv=True),
        "duration": {
            "conv_0": weights.conv(
                f"{dp}conv_1",
                c.duration_width,
                hidden + (c.speaker_width if c.speaker_at == "durations" else 0),
                c.duration_kernel,
            ),
            "norm_0": weights.norm(f"{dp}norm_1", c.duration_width, GLOW_NORM),
            "conv_1": weights.conv(f"{dp}conv_2", c.duration_width, c.duration_width, c.duration_kernel),
            "norm_1": weights.norm(f"{dp}norm_2", c.duration_width, GLOW_NORM),
            "project": weights.dense(f"{dp}proj", 1, c.duration_width, conv=True),
        },
    }
    if not c.mean_only:
        found["log_std"] = weights.dense(f"{prefix}proj_s", encoder.channels, hidden, conv=True)
    if c.prenet:
        pre = f"{prefix}{prenet}."
        found["prenet"] = {"project": weights.dense(f"{pre}proj", c.width, c.width, conv=True)}
        for i in range(PRENET_LAYERS):
            conv = weights.conv(f"{pre}conv_layers.{i}", c.width, c.width, PRENET_KERNEL)
            norm = weights.norm(f"{pre}norm_layers.{i}", c.width, GLOW_NORM)
            found["prenet"] |= {f"conv_{i}": conv, f"norm_{i}": norm}
    for i in range(c.layers):
        found |= _layer(weights, encoder, f"{prefix}encoder.", i)
    return found


def _layer(weights: Weights, encoder: TextEncoderModule, prefix: str, i: int) -> dict:
    c, hidden = encoder.config, encoder.config.hidden
    attention, feed_forward = f"{prefix}attn_layers.{i}.", f"{prefix}ffn_layers.{i}."
    names = {"query": "conv_q", "key": "conv_k", "value": "conv_v", "out": "conv_o"}
    heads = {ours: weights.dense(attention + theirs, hidden, hidden, conv=True) for ours, theirs in names.items()}
    if c.position == "relative":
        shape = 1, 2 * c.window + 1, hidden // c.heads
        heads["relative_key"] = weights.take(f"{attention}emb_rel_k", shape)[0]
        heads["relative_value"] = weights.take(f"{attention}emb_rel_v", shape)[0]
    return {
        f"attention_{i}": heads,
        f"attention_norm_{i}": weights.norm(f"{prefix}norm_layers_1.{i}", hidden, GLOW_NORM),
        f"feed_forward_{i}": {
            "conv_0": weights.conv(f"{feed_forward}conv_1", c.filter_width, hidden, c.kernel),
            "conv_1": weights.conv(f"{feed_forward}conv_2", hidden, c.filter_width, c.kernel),
        },
        f"feed_forward_norm_{i}": weights.norm(f"{prefix}norm_layers_2.{i}", hidden, GLOW_NORM),
    }


def encode(
    encoder: TextEncoderModule, params: dict, tokens: np.ndarray, mask: np.ndarray, speaker: np.ndarray | None = None
) -> tuple[Encoded, dict[str, np.ndarray]]:
    """The encoder's result [B, N, ...] and what the folders list besides, in their layout [B, C, N]: `enc_prenet`,
    `enc_hidden`, `enc_attn_layer0` [B, H, N, N], `enc_x_mask` [B, 1, N]."""
    apply = jax.jit(partial(encoder.apply, mutable="intermediates"))
    encoded, left = apply({"params": params}, tokens, mask, speaker)
    inner = left["intermediates"]
    return encoded, {
        "enc_prenet": torch_layout(inner["prenet_output"][0]),
        "enc_hidden": torch_layout(encoded.hidden),
        "enc_attn_layer0": np.asarray(inner["attention_0"]["weights"][0]),
        "enc_x_mask": np.asarray(mask)[:, None],
    }


def torch_layout(x) -> np.ndarray:
    """[B, L, C] -> [B, C, L]; [B, L] -> [B, 1, L]."""
    return np.asarray(x)[:, None] if x.ndim == 2 else np.swapaxes(np.asarray(x), 1, 2)


def token_mask(lengths: np.ndarray, total: int, dtype: type) -> np.ndarray:
    """[B] -> [B, total]"""
    return (np.arange(total) < np.asarray(lengths)[:, None]).astype(dtype)


def alignment(frames: np.ndarray, total: int, dtype: type) -> np.ndarray:
    """Hard alignment [B, 1, N, total] of whole frames [B, N]: 1 where the token has the frame."""
    end = np.cumsum(np.asarray(frames), axis=1)[..., None]
    time = np.arange(total)
    return ((time < end) & (time >= end - np.asarray(frames)[..., None])).astype(dtype)[:, None]


def with_voice(*columns: jax.Array, voice: jax.Array | None) -> jax.Array:
    """What a decoder whose prior is given takes: [B, L, *] side by side, and the speaker's vector [B, D] at each
    position."""
    if voice is not None:
        columns += (jnp.broadcast_to(voice[:, None], (*columns[0].shape[:2], voice.shape[-1])),)
    return jnp.concatenate(columns, -1)
