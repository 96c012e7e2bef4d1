"""One utterance as it stands in a shard: a msgpack map, phonemes as symbols, so that shards need no inventory."""

import zlib
from dataclasses import dataclass, field

import msgpack
import numpy as np

from tts_gen.text import PAUSE, Phoneme


@dataclass(frozen=True, eq=False)
class Record:
    """Features of one utterance before phonemes have ids."""

    phonemes: list[Phoneme]
    duration: np.ndarray
    """[N] int32 frames, each >= 1, sum == T"""
    log_f0: np.ndarray
    """[N] float32 natural log of Hz, NaN where unvoiced"""
    mel: np.ndarray
    """[T, M] float32 log-mel"""
    contour: np.ndarray | None = None
    """[T] float32 natural log of Hz, NaN where a frame is unvoiced; what log_f0 is pooled from"""
    figures: dict[str, float] = field(default_factory=dict)
    """of the alignment (align.quality); they do not go into the shard"""

    def __post_init__(self) -> None:
        if not len(self.phonemes) == len(self.duration) == len(self.log_f0):
            raise ValueError("phonemes, duration and log_f0 differ in length")
        if self.duration.min() < 1 or self.duration.sum() != len(self.mel):
            raise ValueError(f"durations sum to {self.duration.sum()} frames, the mel has {len(self.mel)}")
        if self.contour is not None and len(self.contour) != len(self.mel):
            raise ValueError(f"the contour has {len(self.contour)} frames, the mel {len(self.mel)}")

    @property
    def is_pause(self) -> np.ndarray:
        """[N] bool."""
        return np.array([p.symbol == PAUSE for p in self.phonemes])


def pack(record: Record) -> bytes:
    """The mel as float16: its error, at most 0.004, is far below the training noise."""
    arrays = {
        "stress": np.array([p.stress for p in record.phonemes], np.int8),
        "edge": np.array([p.edge for p in record.phonemes], np.int8),
        "punctuation": np.array([p.punctuation for p in record.phonemes], np.int8),
        "duration": record.duration.astype(np.int32),
        "log_f0": record.log_f0.astype(np.float32),
        "mel": record.mel.astype(np.float16),
    }
    if record.contour is not None:
        arrays["contour"] = record.contour.astype(np.float32)
    values = {name: {"dtype": a.dtype.str, "shape": a.shape, "bytes": a.tobytes()} for name, a in arrays.items()}
    return msgpack.packb({"symbols": [p.symbol for p in record.phonemes], **values})


def unpack(payload: bytes) -> dict:
    """ "symbols": list of N strings, and the arrays of `pack` (read-only), the mel as float32."""
    values = msgpack.unpackb(payload)
    symbols = values.pop("symbols")
    arrays = {n: np.frombuffer(v["bytes"], v["dtype"]).reshape(v["shape"]) for n, v in values.items()}
    return {**arrays, "symbols": symbols, "mel": arrays["mel"].astype(np.float32)}


def checksum(payload: bytes) -> int:
    """CRC-32 of the packed record."""
    return zlib.crc32(payload)
