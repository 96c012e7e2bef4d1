"""HiFi-GAN's log-mel (`meldataset.mel_spectrogram` of jik876/hifi-gan, MIT licence), which has no weights."""

import numpy as np

from tts_gen.config import Audio, UserError
from tts_gen.convert.weights import Weights
from tts_gen.features.mel import log_mel


def settings(args: dict) -> Audio:
    """From the arguments of `mel_spectrogram`. Raises UserError for frames of another kind than this project's."""
    if args["center"] or args["win_size"] != args["n_fft"]:
        raise UserError("frames that are centred, or whose window is shorter than n_fft, are not computed here")
    return Audio(
        sample_rate=args["sampling_rate"],
        n_fft=args["n_fft"],
        hop=args["hop_size"],
        n_mels=args["num_mels"],
        fmin=float(args["fmin"]),
        fmax=float(args["fmax"] or args["sampling_rate"] / 2),
    )


def state(checkpoint: dict) -> dict[str, np.ndarray]:
    return checkpoint


def params(weights: Weights, args: dict) -> dict:
    return {}


def recompute(params: dict, args: dict, arrays: dict[str, np.ndarray], dtype=np.float32) -> dict[str, np.ndarray]:
    audio = settings(args)
    waves = [name for name in arrays if name.startswith("wav_")]
    return {name.replace("wav", "mel", 1): log_mel(arrays[name], audio).T for name in waves}
