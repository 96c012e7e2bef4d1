"""The encoder that every family shares."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tts_gen import config, draws
from tts_gen.layers import ConvBlock, TransformerBlock, masked

STRESSES, EDGES, PUNCTUATIONS = 4, 4, 7
"""table sizes of the features that `text.Phoneme` defines"""
PLACES = {"phrase_start": 8, "phrase_end": 8, "syllable": 8}
"""columns of `features.places` and their table sizes"""


class Encoder(nn.Module):
    """Phonemes and their stress, word edges, punctuation, speaker and style -> [B, N, D].

    Embeddings are summed, then pass a convolutional prenet and transformer blocks.
    """

    config: config.Encoder
    phonemes: int
    speakers: int
    styles: int

    @nn.compact
    def __call__(self, batch: dict[str, jax.Array], mask: jax.Array, rng: jax.Array | None) -> jax.Array:
        """`batch`: phoneme, stress, edge, punctuation [B, N]; speaker, style [B]; places [B, N, 3] where positions are
        on. `mask` [B, N]. `rng` None: no dropout, of labels neither. The dtype is that of the tables. With
        speaker_embedding [B, E] in the batch, its projection stands for the speaker's row, its bias for `unknown` where
        it is zeros."""
        c = self.config
        tables = {"phoneme": self.phonemes, "stress": STRESSES, "edge": EDGES, "punctuation": PUNCTUATIONS}
        x = sum(nn.Embed(size, c.width, name=name)(batch[name]) for name, size in tables.items())
        for column, (name, size) in enumerate(PLACES.items() if c.positions else ()):
            x += nn.Embed(size, c.width, name=name)(batch["places"][..., column])
        known = 1
        if rng is not None and c.label_dropout > 0:
            label_key, rng = draws.split(rng, 2)
            known = draws.uniform(label_key, batch["speaker"].shape) >= c.label_dropout
        if "speaker_embedding" in batch:
            vector = jnp.asarray(known)[..., None] * batch["speaker_embedding"]
            voice = nn.Dense(c.width, name="speaker")(vector.astype(x.dtype))
        else:
            voice = nn.Embed(self.speakers, c.width, name="speaker")(known * batch["speaker"])
        voice += nn.Embed(self.styles, c.width, name="style")(known * batch["style"])
        x = x + voice[:, None]
        dropped = draws.dropout_masks(rng, c.dropout, c.conv_layers + 2 * c.layers, x.shape, x.dtype)
        for _ in range(c.conv_layers):
            x = ConvBlock(c.kernel)(x, mask, dropped.pop())
        for _ in range(c.layers):
            x = TransformerBlock(c.heads)(x, mask, (dropped.pop(), dropped.pop()))
        return masked(nn.LayerNorm()(x), mask)


def repeat_to_frames(h: jax.Array, frame_phoneme: jax.Array) -> jax.Array:
    """Upsamples by repetition: h [B, N, D], frame_phoneme [B, T] (the phoneme each frame belongs to) -> [B, T, D]."""
    return jnp.take_along_axis(h, frame_phoneme[..., None], axis=1)
