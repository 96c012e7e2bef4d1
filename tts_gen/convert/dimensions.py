"""Constructor arguments of the reference implementations, read off the shapes of a checkpoint's tensors.

Official checkpoints do not hold them. What no shape tells is in PUBLISHED, the values that the authors trained with.
Sources (all MIT licence): configs/base.json of jaywalnut310/glow-tts, Grad-TTS/params.py of
huawei-noah/Speech-Backbones, configs/model and configs/data/ljspeech.yaml of shivammehta25/Matcha-TTS.
"""

import re
from collections.abc import Mapping

import numpy as np

State = Mapping[str, np.ndarray]

PUBLISHED = {
    "glow_tts": {
        "n_heads": 2, "p_dropout": 0.1, "p_dropout_dec": 0.05, "dilation_rate": 1, "sigmoid_scale": False,
        "block_length": None,
    },
    "grad_tts": {
        "n_heads": 2, "enc_dropout": 0.1, "window_size": 4, "spk_emb_dim": 64, "beta_min": 0.05, "beta_max": 20.0,
        "pe_scale": 1000,
    },
    "matcha_tts": {
        "spk_emb_dim": 64, "out_size": None, "prior_loss": True, "use_precomputed_durations": False,
        "encoder": {
            "encoder_type": "RoPE Encoder",
            "encoder_params": {"n_heads": 2, "p_dropout": 0.1},
            "duration_predictor_params": {"p_dropout": 0.1},
        },
        "decoder": {"dropout": 0.05, "num_heads": 2},
        "cfm": {"name": "CFM", "solver": "euler", "sigma_min": 1e-4},
    },
}  # fmt: skip

UNUSED = re.compile(r"dropout|encoder_type|out_size|prior_loss|precomputed|name|sigma_min|solver|spk_emb_dim")
"""arguments that no sample depends on"""


def of(name: str, state: State, given: Mapping) -> dict:
    """The arguments of port `name` that shapes tell, `given` those that are known. Raises KeyError, IndexError or
    ValueError for a tensor that all its checkpoints have, and this one has not or with another number of axes."""
    if name == "matcha_tts":
        heads = PUBLISHED[name]["decoder"] | given.get("decoder", {})
        return _matcha_tts(state, heads["num_heads"])
    return {"glow_tts": _glow_tts, "grad_tts": _grad_tts}[name](state)


def _count(state: State, pattern: str) -> int:
    """How many modules a list has: one more than the highest number that the pattern's group takes in names."""
    return 1 + max((int(m[1]) for key in state if (m := re.match(pattern, key))), default=-1)


def _text_encoder(state: State) -> dict:
    """What the three text encoders share, by Glow-TTS's names."""
    first = "encoder.encoder.ffn_layers.0.conv_1.weight"
    rows, width = state["encoder.emb.weight"].shape
    found = {
        "n_vocab": rows,
        "width": width,
        "channels": state["encoder.proj_m.weight"].shape[0],
        "filter_channels": state[first].shape[0],
        "kernel_size": state[first].shape[2],
        "filter_channels_dp": state["encoder.proj_w.conv_1.weight"].shape[0],
        "layers": _count(state, r"encoder\.encoder\.ffn_layers\.(\d+)\."),
    }
    relative = state.get("encoder.encoder.attn_layers.0.emb_rel_k")
    if relative is not None:
        found |= {
            "window_size": relative.shape[1] // 2,
            "n_heads": width // relative.shape[2],
        }  # [1, 2 w + 1, D / heads]
    return found


def _glow_tts(state: State) -> dict:
    found = {"window_size": None} | _text_encoder(state)
    width, layers, channels = (found.pop(name) for name in ("width", "layers", "channels"))
    start, inner = "decoder.flows.2.start.weight_v", r"decoder\.flows\.2\.wn\.in_layers\.(\d+)\."
    found |= {
        "out_channels": channels,
        "hidden_channels": width,
        "hidden_channels_enc": width,
        "n_layers_enc": layers,
        "prenet": "encoder.pre.proj.weight" in state,
        "mean_only": "encoder.proj_s.weight" not in state,
        "n_blocks_dec": -(-_count(state, r"decoder\.flows\.(\d+)\.") // 3),
        "n_sqz": state["decoder.flows.0.logs"].shape[1] // channels,
        "n_split": state["decoder.flows.1.weight"].shape[0],
        "hidden_channels_dec": state[start].shape[0],
        "kernel_size_dec": state["decoder.flows.2.wn.in_layers.0.weight_v"].shape[2],
        "n_block_layers": _count(state, inner),
    }
    if (table := state.get("emb_g.weight")) is not None:
        return found | {"n_speakers": table.shape[0], "gin_channels": table.shape[1]}
    return found | {"n_speakers": 0, "gin_channels": 0}


def _grad_tts(state: State) -> dict:
    found = _text_encoder(state)
    names = {"width": "n_enc_channels", "layers": "n_enc_layers", "channels": "n_feats", "kernel_size": "enc_kernel"}
    found = {names.get(name, name): value for name, value in found.items()}
    found["dec_dim"] = state["decoder.estimator.mlp.2.weight"].shape[0]
    return found | _speakers(state)


def _speakers(state: State) -> dict:
    if (table := state.get("spk_emb.weight")) is None:
        return {"n_spks": 1}
    return {"n_spks": table.shape[0], "spk_emb_dim": table.shape[1]}


def _matcha_tts(state: State, heads: int) -> dict:
    text = _text_encoder(state)
    estimator, channels = r"decoder\.estimator\.", text["channels"]
    block = "decoder.estimator.down_blocks.0.1.0"
    levels = range(_count(state, estimator + r"down_blocks\.(\d+)\."))
    inner = state[f"{block}.attn1.to_q.weight"].shape[0]
    duration = state["encoder.proj_w.conv_1.weight"].shape
    params = {
        "n_feats": channels,
        "n_channels": text["width"],
        "filter_channels": text["filter_channels"],
        "filter_channels_dp": duration[0],
        "n_layers": text["layers"],
        "kernel_size": text["kernel_size"],
        "prenet": "encoder.prenet.proj.weight" in state,
    }
    decoder = {
        "channels": [state[f"decoder.estimator.down_blocks.{i}.0.res_conv.weight"].shape[0] for i in levels],
        "attention_head_dim": inner // heads,
        "n_blocks": _count(state, estimator + r"down_blocks\.0\.1\.(\d+)\."),
        "num_mid_blocks": _count(state, estimator + r"mid_blocks\.(\d+)\."),
    }
    if f"{block}.ff.net.0.alpha" in state:
        decoder["act_fn"] = "snakebeta"
    elif state[f"{block}.ff.net.0.proj.weight"].shape[0] == 8 * decoder["channels"][0]:
        decoder["act_fn"] = "geglu"
    else:
        decoder["act_fn"] = "gelu"
    return {
        "n_vocab": text["n_vocab"],
        "n_feats": channels,
        "encoder": {
            "encoder_params": params,
            "duration_predictor_params": {"filter_channels_dp": duration[0], "kernel_size": duration[2]},
        },
        "decoder": decoder,
        **_speakers(state),
    }
