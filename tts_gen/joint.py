"""The third task: text to mel in one model, as Glow-TTS, Grad-TTS and Matcha-TTS do it.

    symbols -> text encoder -> prior mean and log-std, log-duration of each symbol
            -> repeated to frames -> decoder whose prior is given -> log-mel

Sampling has two halves with whole numbers of frames between them, so that the second runs at a padded length and few
programs are compiled. Nothing here trains: parameters come from official checkpoints (tts_gen.convert).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tts_gen import config
from tts_gen.config import UserError
from tts_gen.layers import length_mask
from tts_gen.text_encoder import TextEncoder, TextEncoderModule, durations, expand

SHORTEST_TEXT, SHORTEST_MEL = 64, 128
"""symbols and frames of the shortest padded batch; each longer one is twice the last"""
MAX_FRAMES = 16384
"""of one sentence, 190 s at the usual hop: more is a model that has lost its way, or a text to be cut"""
BATCH_FRAMES = 2048


@dataclass(frozen=True)
class Speakers:
    """What a model knows of its speakers: a table of vectors."""

    count: int = 1
    """1: a single speaker, who has no vector"""
    width: int = 64
    unit_length: bool = False
    """vectors are scaled to length 1 (Glow-TTS)"""
    hidden: int = 0
    """width of the layer between the vector and the M values that a decoder sees, which takes them as one more image
    (Grad-TTS); 0: the decoder sees the vector itself"""


@dataclass(frozen=True)
class Joint:
    """Settings of a joint model."""

    decoder: config.Decoder
    """its prior is "given" """
    encoder: TextEncoder = TextEncoder()
    symbols: int = 148
    """rows of the embedding"""
    speakers: Speakers = Speakers()
    scale_last: bool = False
    """pace is applied to whole frames (Grad-TTS, Matcha-TTS), not before rounding up (Glow-TTS)"""
    mel_mean: float = 0.0
    """nats; the decoder's mel is (log-mel - mel_mean) / mel_std"""
    mel_std: float = 1.0
    task: Literal["joint"] = "joint"

    def build(self, channels: int) -> "JointModule":
        """The module for mels of that many bins M."""
        return JointModule(self, channels)


class JointModule(nn.Module):
    config: Joint
    channels: int

    def setup(self):
        c = self.config
        self.encoder = TextEncoderModule(c.encoder, c.symbols, self.channels)
        self.decoder = c.decoder.build(self.channels)
        if c.speakers.count > 1:
            self.speaker = nn.Embed(c.speakers.count, c.speakers.width)
        if c.speakers.hidden:
            self.speaker_hidden, self.speaker_image = nn.Dense(c.speakers.hidden), nn.Dense(self.channels)

    def encode(self, symbols, length, speaker, length_scale):
        """symbols [B, N], length [B], speaker [B] ids -> prior mean and log-std [B, N, M], frames of each symbol
        [B, N]."""
        mask = length_mask(length, symbols.shape[1])
        voice = self._voice(speaker) if self.config.encoder.speaker_width else None
        found = self.encoder(symbols, mask, voice)
        frames = durations(found.log_duration, mask, length_scale, self.config.scale_last)
        return found.mean, found.log_std, frames

    def decode(self, mean, log_std, frames, speaker, rng, temperature, total: int):
        """mean, log_std [B, N, M], frames [B, N], speaker [B] ids -> log-mel [B, total, M], valid frames [B]."""
        c, flow = self.config, self.config.decoder.label == "flow"
        valid = jnp.sum(frames, 1)
        if flow:  # as in Glow-TTS, which drops the last frames that fill no squeezed position
            valid = valid // c.decoder.multiple * c.decoder.multiple
        cond = [expand(mean, frames, total)] + [expand(log_std, frames, total)] * flow
        if c.speakers.count > 1:
            voice = self._voice(speaker)
            if c.speakers.hidden:
                voice = self.speaker_image(jax.nn.mish(self.speaker_hidden(voice)))
            cond.append(jnp.broadcast_to(voice[:, None], (*cond[0].shape[:2], voice.shape[-1])))
        mask = length_mask(valid, total)
        y = self.decoder.sample(jnp.concatenate(cond, -1) * mask[..., None], mask, rng, temperature)
        return y * c.mel_std + c.mel_mean, valid

    def _voice(self, speaker):
        voice = self.speaker(speaker)
        if self.config.speakers.unit_length:
            voice /= jnp.maximum(jnp.linalg.norm(voice, axis=-1, keepdims=True), 1e-12)
        return voice


def sample(
    encode: Callable, decode: Callable, sentences: Sequence[np.ndarray], speakers: Sequence[int], rng: jax.Array,
    temperature: float, length_scale: float = 1.0,
) -> list[np.ndarray]:  # fmt: skip
    """Log-mels [T, M] of sentences, each [N] symbol ids, in few batches of few shapes.

    `encode`, `decode`: the module's methods with parameters, jitted, `total` static. Raises UserError for durations
    that are not finite or absurdly long.
    """
    speaker = np.asarray(speakers, np.int32)
    lengths = np.array([len(s) for s in sentences])
    positions = _padded(lengths.max(), SHORTEST_TEXT)
    encoded: list = [None] * len(sentences)
    for places, length, rows in _batches(lengths, SHORTEST_TEXT):
        symbols = _stack([sentences[p] for p in places], length, rows)
        found = encode(symbols, _rows(lengths[places], rows), _rows(speaker[places], rows), length_scale)
        for row, place in enumerate(places):
            encoded[place] = [np.asarray(x[row, : lengths[place]]) for x in found]
    if not all(np.isfinite(e[0]).all() and np.isfinite(e[1]).all() for e in encoded):
        raise UserError("the model's text encoder gives values that are not finite; look at the checkpoint")
    frames = np.array([int(np.sum(e[2], dtype=np.int64)) for e in encoded])
    if bad := [int(n) for n, e in zip(frames, encoded, strict=True) if np.min(e[2]) < 0 or not 0 < n <= MAX_FRAMES]:
        raise UserError(
            f"the model gives a sentence {bad[0]} frames, where 1 to {MAX_FRAMES} are possible; cut the text into "
            "shorter sentences, or look at the checkpoint: its durations are not those of speech"
        )
    mels: list = [None] * len(sentences)
    for i, (places, total, rows) in enumerate(_batches(frames, SHORTEST_MEL)):
        columns = [_stack([encoded[p][k] for p in places], positions, rows) for k in range(3)]
        key = jax.random.fold_in(rng, i)
        mel, valid = decode(*columns, _rows(speaker[places], rows), key, temperature, total=total)
        for row, place in enumerate(places):
            mels[place] = np.asarray(mel[row, : int(valid[row])])
    return mels


def _batches(lengths: np.ndarray, shortest: int) -> Iterator[tuple[np.ndarray, int, int]]:
    """Places in the list, padded length and padded rows of each batch."""
    padded = np.array([_padded(n, shortest) for n in lengths])
    for length in np.unique(padded):
        members = np.flatnonzero(padded == length)
        rows = min(max(1, BATCH_FRAMES // int(length)), len(members))
        for first in range(0, len(members), rows):
            yield members[first : first + rows], int(length), rows


def _padded(length: int, shortest: int) -> int:
    while shortest < length:
        shortest *= 2
    return shortest


def _stack(rows: Sequence[np.ndarray], length: int, count: int) -> np.ndarray:
    """Rows [n, ...] padded with zeros -> [count, length, ...]."""
    out = np.zeros((count, length, *rows[0].shape[1:]), rows[0].dtype)
    for padded, row in zip(out, rows, strict=False):
        padded[: len(row)] = row
    return out


def _rows(values: np.ndarray, count: int) -> np.ndarray:
    return np.pad(values.astype(np.int32), (0, count - len(values)))
