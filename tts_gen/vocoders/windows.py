"""Any length by one compiled program, in memory that does not grow with it, and exactly."""

from collections.abc import Iterator
from typing import Protocol

import jax
import numpy as np

from tts_gen.config import Audio


class Network(Protocol):
    """A flax module, mel[B, T, M], mask[B, T] -> wave[B, T * hop], for which frames outside the mask stand as the ends
    of an utterance do."""

    hop: int
    reach: int
    """frames on either side of a frame that can change its samples"""


class Windowed:
    """The vocoder: mel[T, M] -> wave[T * hop], float32.

    A window of fixed length slides over the mel; of each, only the samples are kept that nothing outside it can change.
    """

    def __init__(self, name: str, network: Network, params: dict, audio: Audio, window: int | None = None):
        """`audio`: definition of the mels it reads. `window`: frames at a time, more than `2 * network.reach`."""
        self.name, self.network, self.audio = name, network, audio
        self.params = jax.device_put(params)
        self.window = window or max(128, 6 * network.reach)
        self._generate = jax.jit(network.apply)

    def __call__(self, mel: np.ndarray) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.float32), *self.stream(mel)])

    def stream(self, mel: np.ndarray) -> Iterator[np.ndarray]:
        """The wave in pieces, each as soon as it is made."""
        mel, hop, reach = np.asarray(mel, np.float32), self.network.hop, self.network.reach
        kept = self.window - 2 * reach
        for start in range(0, len(mel), kept):
            part, mask = np.zeros((1, self.window, mel.shape[1]), np.float32), np.zeros((1, self.window), bool)
            before = min(start, reach)
            inside = mel[start - before : start + kept + reach]
            place = slice(reach - before, reach - before + len(inside))
            part[0, place], mask[0, place] = inside, True
            wave = np.asarray(self._generate(self.params, part, mask)[0])
            yield wave[reach * hop : (reach + min(kept, len(mel) - start)) * hop]
