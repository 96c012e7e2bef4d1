"""`tts-gen convert NAME CHECKPOINT RUN`: an official checkpoint of a text-to-mel model as a joint run."""

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tts_gen import runs, torch_file
from tts_gen.config import Audio, UserError, from_dict
from tts_gen.convert import dimensions, port
from tts_gen.convert.check import UNFIT
from tts_gen.convert.symbols import ARPABET, IPA
from tts_gen.convert.weights import Weights
from tts_gen.decoders.networks import Network
from tts_gen.front_end import FrontEnd
from tts_gen.joint import Joint

log = logging.getLogger(__name__)

TEXT_TO_MEL = tuple(dimensions.PUBLISHED)
ELSE = {
    "hifigan": "a vocoder: give its checkpoint to `tts-gen synthesize --vocoder FILE`, or check the port with",
    "hifigan_mel": "the mel definition: check it with",
    "vits_sdp": "a duration predictor, not a model of text to mel: check the port with",
}
AUDIO = {
    "sample_rate": ("sample_rate", "sampling_rate"),
    "n_fft": ("n_fft", "filter_length"),
    "hop": ("hop_length",),
    "fmin": ("f_min", "mel_fmin"),
    "fmax": ("f_max", "mel_fmax"),
}
"""field of Audio -> what the references' configs call it"""
AUDIO_NAMES = {name for names in AUDIO.values() for name in names} | {"win_length"}
TEXT_NAMES = {"add_blank", "cmudict_path"}


def convert(
    name: str, checkpoint: Path, run: Path, config_file: Path | None = None, symbols_file: Path | None = None
) -> None:
    """Writes the directory `run`, whole or not at all.

    Dimensions come from the tensors' shapes; what these cannot tell from `config_file` (JSON: constructor arguments,
    a golden folder's config.json with them in "args", or Glow-TTS's own with "model" and "data"), then from what the
    checkpoint itself says, then from the published defaults, which are named as assumed. `symbols_file`: one symbol a
    line, in the order of the embedding's rows. Raises UserError for a checkpoint that cannot be read, is of another
    model, or holds tensors that do not fit, for settings that do not exist, and for a `run` that is not empty.
    """
    if name not in TEXT_TO_MEL:
        raise UserError(f"{name} is {ELSE[name]} `tts-gen convert check FOLDER`; runs are made of {_list(TEXT_TO_MEL)}")
    if run.exists() and (not run.is_dir() or any(run.iterdir())):
        raise UserError(f"{run} exists and is not an empty directory; name another, or delete it")
    content = torch_file.read(checkpoint)
    given = _read_config(config_file) if config_file else {}
    try:
        state = port(name).state(content)
        args, assumed = _arguments(name, state, content, given, str(config_file))
    except UserError as error:
        raise UserError(f"{checkpoint}: {error}") from error
    weights = Weights(state, str(checkpoint))
    try:
        params = port(name).params(weights, args)
        joint, params = _own(port(name).settings(args), params)
    except UNFIT as error:
        what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UserError(f"{config_file or checkpoint}: its settings and the tensors do not fit ({what})") from error
    weights.finish()
    params = jax.tree.map(lambda x: np.asarray(x, np.float32), params)
    audio = _audio(params["encoder"]["mean"]["bias"].size, given, str(config_file))
    front_end = _front_end(name, joint, given, symbols_file)
    _try(joint, audio.n_mels, params, str(config_file or checkpoint))
    runs.save_joint(run, joint, audio, front_end, params)
    assumed |= {k: getattr(audio, k) for k, names in AUDIO.items() if not set(names) & set(given)}
    size = sum(x.size for x in jax.tree.leaves(params))
    log.info("%s: %s, %s parameters, %d symbols, %d mel bins", run, name, f"{size:,}", len(front_end.symbols),
             audio.n_mels)  # fmt: skip
    log.info(
        "assumed, as published (--config FILE says otherwise): %s", ", ".join(f"{k} {v}" for k, v in assumed.items())
    )


def _arguments(name: str, state: Mapping, content: dict, given: dict, where: str) -> tuple[dict, dict]:
    """All constructor arguments, and those of them that nothing but the published defaults tells."""
    if wrong := [key for key, value in state.items() if not isinstance(value, np.ndarray)]:
        raise UserError(f"not a state dict: {_list(wrong[:5])} are no tensors")
    try:
        seen = dimensions.of(name, state, given)
    except (KeyError, IndexError, ValueError) as error:
        raise UserError(
            f"not a checkpoint of {name}: {error} is missing, or has another number of axes (it holds "
            f"{len(state)} tensors, first {_list(list(state)[:3])})"
        ) from error
    except UNFIT as error:
        raise UserError(f"{where}: holds what is not of its kind ({type(error).__name__}: {error})") from error
    published, valid = dimensions.PUBLISHED[name], {*dimensions.PUBLISHED[name], *seen, "data_statistics"}
    if unknown := set(given) - valid - AUDIO_NAMES - TEXT_NAMES:
        raise UserError(
            f"{where}: {name} has no {_list(sorted(unknown))}; valid names are {_list(sorted(valid | AUDIO_NAMES))}"
        )
    _check_kinds(given, _merge(published, seen), where)
    own = content.get("hyper_parameters")
    own = {k: v for k, v in own.items() if k in valid} if isinstance(own, dict) and _plain(own) else {}
    told = _merge(_merge(seen, own), {k: v for k, v in given.items() if k in valid})
    flat_told, flat = _flat(told), _flat(published)
    assumed = {k: v for k, v in flat.items() if k not in flat_told and not dimensions.UNUSED.search(k)}
    return _merge(published, told), assumed


def _read_config(path: Path) -> dict:
    """Constructor arguments, and settings of mel and text, by the references' names."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as JSON ({error})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected an object, found a {type(values).__name__}")
    if wrong := [k for k in ("args", "model", "data") if not isinstance(values.get(k, {}), dict)]:
        raise UserError(f"{path}: {_list(wrong)} is not an object")
    if "args" in values:
        return values["args"]
    if not {"model", "data"} <= set(values):
        return values
    data = {k: v for k, v in values["data"].items() if k in AUDIO_NAMES | TEXT_NAMES}
    bins = {"out_channels": values["data"]["n_mel_channels"]} if "n_mel_channels" in values["data"] else {}
    return values["model"] | data | bins | {"add_blank": data.get("add_blank", False)}


def _audio(channels: int, given: dict, where: str) -> Audio:
    found = {k: given[n] for k, names in AUDIO.items() for n in names if given.get(n) is not None}
    audio = from_dict(Audio, found | {"n_mels": channels}, where)
    if given.get("win_length", audio.n_fft) != audio.n_fft:
        raise UserError(
            f"{where}: win_length is {given['win_length']}, but n_fft {audio.n_fft}; only mels whose window is as long "
            "as the FFT are known here"
        )
    return audio


def _front_end(name: str, joint: Joint, given: dict, symbols_file: Path | None) -> FrontEnd:
    """The reference's table, or that of a file; cut where the embedding has fewer rows."""
    rows, table = joint.symbols, IPA if name == "matcha_tts" else ARPABET
    if symbols_file:
        table = _read_symbols(symbols_file)
    if name == "matcha_tts":
        blank, own = 0, rows
    else:
        # Where there is a blank, its row is the last.
        blank = rows - 1 if given.get("add_blank", name == "grad_tts" or rows == len(table) + 1) else None
        own = rows if blank is None else blank
    if symbols_file and len(table) != own or own > len(table):
        raise UserError(
            f"{symbols_file or name}: {len(table)} symbols, but the checkpoint's embedding has rows for {own}"
            + (" and a blank" if blank else "") + "; give its table with --symbols FILE"
        )  # fmt: skip
    if own < len(table):
        log.warning("the embedding has rows for %d symbols, the published table %d: it is cut, and texts that need the "
                    "others cannot be said; give the right one with --symbols FILE", own, len(table))  # fmt: skip
    table = table[:own]
    spelled = not any(s.startswith("@") for s in table) or ("sampling_rate" in given and "cmudict_path" not in given)
    kind = "ipa" if name == "matcha_tts" else "letters" if spelled else "arpabet"
    speakers = tuple(map(str, range(joint.speakers.count))) if joint.speakers.count > 1 else ()
    return FrontEnd(kind, table, blank, speakers)


def _read_symbols(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from error
    return tuple(lines[:-1] if lines[-1] == "" else lines)


def _own(joint: Joint, params: dict) -> tuple[Joint, dict]:
    """A port's model as a run has it: what a checkpoint says of its mels among the settings.

    What padding does to the published code's results (`reference_masking`) is left out: for one sentence without
    padding they are the same, and here the others of a batch change nothing.
    """
    params = dict(params)
    mels = {name: float(params.pop(name)) for name in ("mel_mean", "mel_std") if name in params}
    decoder = joint.decoder
    if isinstance(decoder, Network):
        decoder = replace(decoder, reference_masking=False)
    return replace(joint, decoder=decoder, **mels), params


def _try(joint: Joint, channels: int, params: dict, where: str) -> None:
    """Raises UserError for settings that no tensor's shape contradicts, but that make no model with them."""
    module, one = joint.build(channels), np.ones(1, np.int32)

    def speak():
        key = jax.random.key(0)
        mean, log_std, frames = module.apply({"params": params}, one[None], one, one, 1.0, method="encode")
        module.apply({"params": params}, mean, log_std, frames, one, key, 1.0, 64, method="decode")

    try:
        jax.eval_shape(speak)
    except Exception as error:  # what does not fit fails anywhere in the mathematics
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{where}: its settings and tensors do not make a model ({what})") from error


def _check_kinds(given: dict, known: dict, where: str) -> None:
    """Raises UserError for a value of another kind (number, text, list, object) than the one it replaces."""
    for name, value in given.items():
        expected = known.get(name)
        if isinstance(expected, dict) and isinstance(value, dict):
            _check_kinds(value, expected, f"{where}: {name}")
        elif None not in (value, expected):
            kind = (int, float) if isinstance(expected, (int, float)) else type(expected)
            if not isinstance(value, kind):
                raise UserError(f"{where}: {name} is {value!r}, where something like {expected!r} is expected")


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_plain, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _merge(low: dict, high: dict) -> dict:
    """`high` over `low`, within nested dictionaries too."""
    both = {
        k: _merge(low[k], v) if isinstance(v, dict) and isinstance(low.get(k), dict) else v for k, v in high.items()
    }
    return low | both


def _flat(values: dict, prefix: str = "") -> dict:
    found = {}
    for key, value in values.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _list(names) -> str:
    return ", ".join(names)
