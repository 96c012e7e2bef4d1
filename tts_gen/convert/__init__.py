"""Official PyTorch checkpoints of the reference implementations, read into this project's parameters without PyTorch.

A port is a module with

    settings(args)                          what the reference's constructor arguments are here
    state(checkpoint) -> dict               the state dict within the checkpoint file
    params(weights, args) -> dict           Flax parameters, of any dimensions that `args` names
    recompute(params, args, arrays, dtype)  -> dict, every output of a golden folder by name, in its layout

`args` are the constructor arguments as a golden folder's config.json has them.
"""

import importlib
from types import ModuleType

PORTS = {
    "glow_tts": "tts_gen.convert.glow_tts",
    "grad_tts": "tts_gen.convert.grad_tts",
    "matcha_tts": "tts_gen.convert.matcha_tts",
    "vits_sdp": "tts_gen.convert.vits_sdp",
    "hifigan": "tts_gen.convert.hifigan",
    "hifigan_mel": "tts_gen.convert.hifigan_mel",
}


def port(name: str) -> ModuleType:
    """The port's module, imported when asked for."""
    return importlib.import_module(PORTS[name])
