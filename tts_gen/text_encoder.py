"""Text encoder and duration predictor of Glow-TTS, Grad-TTS and Matcha-TTS, and the expansion of tokens to frames.

Source: Kim et al., "Glow-TTS", arXiv 2005.11129, appendix A.1; models.py and attentions.py of jaywalnut310/glow-tts,
from which the other two took theirs (all MIT licence). Relative attention: Shaw et al., arXiv 1803.02155.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from tts_gen import draws
from tts_gen.layers import rotary

PRENET_LAYERS, PRENET_KERNEL, PRENET_DROPOUT = 3, 5, 0.5
MASKED = -1e4
"""score of what is not attended to"""


@dataclass(frozen=True)
class TextEncoder:
    """Settings; the defaults are Glow-TTS's published ones.

    | | Glow-TTS | Grad-TTS | Matcha-TTS |
    |---|---|---|---|
    | position | relative (no window: none) | relative | rotary |
    | prenet | `prenet` | True | `prenet` |
    | mean_only | `mean_only` | True | True |
    | speaker_width | `gin_channels` | 0: its encoder never sees the speaker | `spk_emb_dim` if `n_spks` > 1 |
    | speaker_at | durations | - | input |
    | duration_kernel, duration_dropout | as the encoder's | as the encoder's | `duration_predictor_params` |
    """

    width: int = 192
    """D, of the embedding and the prenet"""
    filter_width: int = 768
    """of the feed-forward layers"""
    heads: int = 2
    layers: int = 6
    kernel: int = 3
    """of the feed-forward layers' convolutions; odd"""
    dropout: float = 0.1
    prenet: bool = True
    position: Literal["relative", "rotary", "none"] = "relative"
    """how attention knows positions: a learnt vector per offset up to `window`, or rotation of the first half of each
    head's channels"""
    window: int = 4
    """tokens; the farthest offset with a vector of its own (relative)"""
    block: int | None = None
    """tokens; attention reaches no farther than this (Glow-TTS's block_length), None: everywhere"""
    mean_only: bool = False
    """the prior's log-std is 0, not predicted"""
    duration_width: int = 256
    duration_kernel: int = 3
    """odd"""
    duration_dropout: float = 0.1
    speaker_width: int = 0
    """channels of the speaker vector; 0: there is none"""
    speaker_at: Literal["durations", "input"] = "durations"
    """where the speaker vector joins: the duration predictor's input, or the transformer's, which it widens"""

    @property
    def hidden(self) -> int:
        """Channels after the transformer."""
        return self.width + (self.speaker_width if self.speaker_at == "input" else 0)


class Encoded(NamedTuple):
    """What the text says about the frames; zeros at padding."""

    mean: jax.Array
    """[B, N, C], of the prior"""
    log_std: jax.Array
    """[B, N, C], of the prior"""
    log_duration: jax.Array
    """[B, N], log of frames"""
    hidden: jax.Array
    """[B, N, D], after the transformer"""


class TextEncoderModule(nn.Module):
    """Tokens [B, N] -> Encoded. No gradient passes from the durations to the rest.

    Under `mutable="intermediates"` it leaves `prenet_output` [B, N, D] and, in `attention_<i>`, `weights`
    [B, H, N, N].
    """

    config: TextEncoder
    symbols: int
    """size of the embedding's table"""
    channels: int
    """C"""

    @nn.compact
    def __call__(
        self, tokens: jax.Array, mask: jax.Array, speaker: jax.Array | None = None, rng: jax.Array | None = None
    ) -> Encoded:
        """tokens [B, N] int, mask [B, N], speaker [B, speaker_width]; `rng` None: no dropout."""
        c, m = self.config, mask[..., None]
        rngs = [None] * 5 if rng is None else draws.split(rng, 5)
        shape, n_heads = tokens.shape, (tokens.shape[0], c.heads)
        embed = nn.Embed(self.symbols, c.width, embedding_init=nn.initializers.normal(c.width**-0.5), name="embedding")
        x = embed(tokens) * c.width**0.5
        if c.prenet:
            dropped = draws.dropout_masks(rngs[0], PRENET_DROPOUT, PRENET_LAYERS, (*shape, c.width))
            x = Prenet(name="prenet")(x, mask, dropped)
        self.sow("intermediates", "prenet_output", x)
        voice = [] if speaker is None else [jnp.broadcast_to(speaker[:, None], (*shape, speaker.shape[-1]))]
        if c.speaker_at == "input":
            x, voice = jnp.concatenate([x, *voice], -1), []

        of_weights = draws.dropout_masks(rngs[1], c.dropout, c.layers, (*n_heads, shape[1], shape[1]))
        of_blocks = draws.dropout_masks(rngs[2], c.dropout, 2 * c.layers, x.shape)
        of_filters = draws.dropout_masks(rngs[3], c.dropout, c.layers, (*shape, c.filter_width))
        for i in range(c.layers):
            x = x * m
            h = Attention(c, name=f"attention_{i}")(x, mask, of_weights[i]) * of_blocks.pop()
            x = _norm(f"attention_norm_{i}")(x + h)
            h = FeedForward(c.filter_width, c.kernel, name=f"feed_forward_{i}")(x, mask, of_filters[i])
            x = _norm(f"feed_forward_norm_{i}")(x + h * of_blocks.pop())
        x = x * m

        mean = nn.Dense(self.channels, name="mean")(x) * m
        log_std = jnp.zeros_like(mean) if c.mean_only else nn.Dense(self.channels, name="log_std")(x) * m
        dropped = draws.dropout_masks(rngs[4], c.duration_dropout, 2, (*shape, c.duration_width))
        predict = DurationPredictor(c.duration_width, c.duration_kernel, name="duration")
        log_duration = predict(jnp.concatenate([jax.lax.stop_gradient(x), *voice], -1), mask, dropped)
        return Encoded(mean, log_std, log_duration, x)


def _norm(name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-4, use_fast_variance=False, name=name)


class Prenet(nn.Module):
    """x + W h, h by three times convolution, LayerNorm, ReLU: [B, N, D] -> same. Starts as the identity."""

    @nn.compact
    def __call__(self, x, mask, dropped):
        h, m = x, mask[..., None]
        for i, factor in enumerate(dropped):
            h = nn.Conv(x.shape[-1], (PRENET_KERNEL,), name=f"conv_{i}")(h * m)
            h = nn.relu(_norm(f"norm_{i}")(h)) * factor
        return (x + nn.Dense(x.shape[-1], kernel_init=nn.initializers.zeros, name="project")(h)) * m


class Attention(nn.Module):
    """Multi-head self-attention, [B, N, D] -> same. `dropped`: a factor [B, H, N, N] of the attention's weights."""

    config: TextEncoder

    @nn.compact
    def __call__(self, x, mask, dropped):
        c, length = self.config, x.shape[1]
        size = x.shape[-1] // c.heads

        def project(name):
            dense = nn.Dense(x.shape[-1], kernel_init=nn.initializers.xavier_uniform(), name=name)
            return dense(x).reshape(*x.shape[:2], c.heads, size)

        q, k, v = (project(name) for name in ("query", "key", "value"))
        if c.position == "rotary":
            q, k = (jnp.concatenate([rotary(y[..., : size // 2]), y[..., size // 2 :]], -1) for y in (q, k))
        scores = jnp.einsum("bihd,bjhd->bhij", q, k)
        if c.position == "relative":
            table = nn.initializers.normal(size**-0.5)
            of_keys, of_values = (
                self.param(name, table, (2 * c.window + 1, size)) for name in ("relative_key", "relative_value")
            )
            scores += by_position(jnp.einsum("bihd,rd->bhir", q, of_keys))
        attended = mask[:, None, :, None] * mask[:, None, None] > 0
        if c.block is not None:
            attended &= jnp.abs(jnp.arange(length)[:, None] - jnp.arange(length)) <= c.block
        weights = jax.nn.softmax(jnp.where(attended, scores * size**-0.5, MASKED))
        self.sow("intermediates", "weights", weights)
        weights = weights * dropped
        h = jnp.einsum("bhij,bjhd->bihd", weights, v)
        if c.position == "relative":
            h += jnp.einsum("bhir,rd->bihd", by_offset(weights, c.window), of_values)
        return nn.Dense(x.shape[-1], name="out")(h.reshape(x.shape))


def by_position(x: jax.Array) -> jax.Array:
    """Values per offset r - w, [..., N, 2w + 1] -> per position, [..., N, N]: out[i, j] = x[i, j - i + w], else 0."""
    *batch, length, offsets = x.shape
    window, wide = offsets // 2, length + offsets
    # Rows padded to `wide` and read again one shorter: each begins one element later than the one before.
    flat = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, length)]).reshape(*batch, length * wide)
    flat = jnp.pad(flat, [(0, 0)] * len(batch) + [(0, window)])[..., window : window + length * (wide - 1)]
    return flat.reshape(*batch, length, wide - 1)[..., :length]


def by_offset(x: jax.Array, window: int) -> jax.Array:
    """Values per position, [..., N, N] -> per offset, [..., N, 2w + 1]: out[i, r] = x[i, i + r - w], 0 outside."""
    *batch, length, _ = x.shape
    wide = length + 2 * window
    flat = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(window, window)]).reshape(*batch, length * wide)
    flat = jnp.pad(flat, [(0, 0)] * len(batch) + [(0, length)])
    return flat.reshape(*batch, length, wide + 1)[..., : 2 * window + 1]


class FeedForward(nn.Module):
    """Two convolutions with a ReLU between: [B, N, D] -> same. `dropped`: a factor [B, N, width]."""

    width: int
    kernel: int

    @nn.compact
    def __call__(self, x, mask, dropped):
        m = mask[..., None]
        h = nn.relu(nn.Conv(self.width, (self.kernel,), name="conv_0")(x * m)) * dropped
        return nn.Conv(x.shape[-1], (self.kernel,), name="conv_1")(h * m) * m


class DurationPredictor(nn.Module):
    """Log-durations from two layers of convolution, ReLU, LayerNorm: [B, N, D] -> [B, N]; 0 at padding."""

    width: int
    kernel: int

    @nn.compact
    def __call__(self, x, mask, dropped):
        """`dropped`: two factors [B, N, width]."""
        m = mask[..., None]
        for i, factor in enumerate(dropped):
            x = nn.relu(nn.Conv(self.width, (self.kernel,), name=f"conv_{i}")(x * m))
            x = _norm(f"norm_{i}")(x) * factor
        return nn.Dense(1, name="project")(x * m)[..., 0] * mask


def durations(
    log_duration: jax.Array, mask: jax.Array, length_scale: float | jax.Array, scale_last: bool = False
) -> jax.Array:
    """Whole frames of each token, int [B, N]: ceil(exp(log_duration) * length_scale), 0 at padding (Glow-TTS).

    `scale_last` reproduces Grad-TTS and Matcha-TTS: ceil(exp(log_duration)) * length_scale, which need not be whole. A
    frame then goes to the token within whose share it begins, and the part of a frame at the end is dropped.
    """
    if not scale_last:
        return jnp.ceil(jnp.exp(log_duration) * mask * length_scale).astype(jnp.int32)
    end = jnp.cumsum(jnp.ceil(jnp.exp(log_duration) * mask) * length_scale, axis=1)
    total = jnp.maximum(jnp.floor(end[:, -1:]), 1)
    end = jnp.minimum(jnp.ceil(end), total).astype(jnp.int32)
    return jnp.diff(end, axis=1, prepend=0)


def expand(h: jax.Array, frames: jax.Array, total: int) -> jax.Array:
    """Repeats each token's row over its frames: h [B, N, D], frames [B, N] int -> [B, total, D], 0 past the last."""
    end = jnp.cumsum(frames, axis=1)
    time = jnp.arange(total)
    token = jnp.sum(end[:, None] <= time[:, None], -1)
    rows = jnp.take_along_axis(h, jnp.minimum(token, h.shape[1] - 1)[..., None], axis=1)
    return rows * (time < end[:, -1:])[..., None]
