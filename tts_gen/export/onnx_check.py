"""An ONNX model against the original, in onnxruntime, on made-up inputs of two lengths."""

from collections.abc import Callable

import numpy as np

from tts_gen.config import UserError
from tts_gen.features.places import COLUMNS, MOST
from tts_gen.runs import Run

TOLERANCE = 1e-4
"""of the largest absolute value, or of 1 where that is smaller"""
SIZES = ((9, 3), (24, 8))
"""phonemes, and padding after them; sums are even, as the prosody task has it"""


def check(model: Callable, original: Callable, examples: list[tuple]) -> float:
    """The largest difference of two functions over `examples` of their arguments, relative as TOLERANCE is.

    Raises UserError where it is larger than that.
    """
    pairs = [(np.asarray(model(*example)), np.asarray(original(*example))) for example in examples]
    difference = max(float(np.max(np.abs(a - b)) / max(1, np.abs(b).max())) for a, b in pairs)
    if not difference <= TOLERANCE:  # NaN neither
        raise UserError(
            f"the ONNX model differs from the original by {difference:.1e} in onnxruntime, more than {TOLERANCE:.0e}; "
            "export it without --onnx, and please report this"
        )
    return difference


def sentences(run: Run) -> list[tuple]:
    """(batch, seed, temperature) of one sentence each."""
    rng = np.random.default_rng(0)
    return [(_sentence(run, rng, *size), seed, np.float32(0.7)) for seed, size in enumerate(SIZES)]


def _sentence(run: Run, rng: np.random.Generator, n: int, padding: int) -> dict[str, np.ndarray]:
    def column(high: int) -> np.ndarray:
        return _padded(rng.integers(0, high, n).astype(np.int32), n + padding)

    inventory, multiple = run.inventory, run.task.multiple
    batch = {"phoneme": column(len(inventory.phonemes))}
    batch |= {name: column(4) for name in ("stress", "edge", "punctuation")}
    voice = {"length": n, "speaker": len(inventory.speakers) - 1, "style": 0}
    batch |= {name: np.array([value], np.int32) for name, value in voice.items()}
    if run.config.encoder.positions:
        places = rng.integers(0, MOST, (n, len(COLUMNS))).astype(np.int32)
        batch["places"] = np.pad(places, ((0, padding), (0, 0)))[None]
    if run.speaker_embeddings is not None:
        batch["speaker_embedding"] = run.speaker_embeddings[-1:]
    if run.config.task == "prosody":
        return batch
    duration = rng.integers(1, 8, n).astype(np.int32)
    frames = int(duration.sum())
    phoneme = np.repeat(np.arange(n, dtype=np.int32), duration)
    position = (np.arange(frames) - (np.cumsum(duration) - duration)[phoneme]).astype(np.int32)
    prosody = {"duration": duration, "log_f0": rng.normal(size=n).astype(np.float32), "voiced": rng.random(n) < 0.6}
    if run.config.energy:
        prosody["energy"] = rng.normal(size=n).astype(np.float32)
    batch |= {name: _padded(values, n + padding) for name, values in prosody.items()}
    length = (frames // multiple + padding) * multiple
    batch |= {"frame_phoneme": _padded(phoneme, length), "frame_position": _padded(position, length)}
    return batch | {"frames": np.array([frames], np.int32)}


def windows(window: int, n_mels: int) -> list[tuple]:
    """(mel [1, T, M], mask [1, T]): a window within an utterance, and one at its end."""
    rng = np.random.default_rng(0)
    mel = rng.normal(-4, 2, (1, window, n_mels)).astype(np.float32)
    return [(mel, np.arange(window)[None] < valid) for valid in (window, window // 2)]


def _padded(values: np.ndarray, length: int) -> np.ndarray:
    """[n] -> [1, length], zeros after it."""
    return np.pad(values, (0, length - len(values)))[None]
