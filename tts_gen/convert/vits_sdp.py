"""VITS (arXiv 2106.06103): the stochastic duration predictor in checkpoints of jaywalnut310/vits (MIT licence).

Its text encoder, decoder and alignment are no part of this project. Where it has speakers, a golden folder names them
by number, `spk` [B], or gives their vectors, `g` [B, gin_channels, 1].
"""

import jax
import jax.numpy as jnp
import numpy as np

from tts_gen.config import UserError
from tts_gen.convert.weights import Weights
from tts_gen.decoders import splines
from tts_gen.decoders.sdp import SplineFlow, StochasticDurationPredictor

SPEAKERS = "emb_g.weight"


def settings(args: dict) -> StochasticDurationPredictor:
    """From the arguments of `SynthesizerTrn`, which fixes all of the predictor but its width. Raises UserError where
    the checkpoint has the deterministic predictor."""
    if not args.get("use_sdp", True):
        raise UserError("use_sdp is false: the checkpoint has no stochastic duration predictor")
    return StochasticDurationPredictor(args["hidden_channels"])


def state(checkpoint: dict) -> dict[str, np.ndarray]:
    """The predictor's tensors, and the table of speakers. Raises UserError when there are none."""
    model = checkpoint.get("model")
    if not isinstance(model, dict):
        raise UserError("the checkpoint holds no 'model', as those of VITS do")
    return {name: value for name, value in model.items() if name.startswith("dp.") or name == SPEAKERS}


def params(weights: Weights, args: dict) -> dict:
    """{"predictor"}, and "speaker" [speakers, gin_channels] where there are several."""
    model, speaker_width = settings(args), args["gin_channels"]
    width = model.width
    predictor = {
        name: weights.dense(f"dp.{name}", width, width, conv=True) for name in ("pre", "proj", "post_proj")
    } | {
        "post_pre": weights.dense("dp.post_pre", width, 1, conv=True),
        "convs": _convs(weights, "dp.convs", model),
        "post_convs": _convs(weights, "dp.post_convs", model),
        "flow": _flow(weights, "dp.flows", model),
        "post_flow": _flow(weights, "dp.post_flows", model),
    }
    if speaker_width:
        predictor["speaker"] = weights.dense("dp.cond", width, speaker_width, conv=True)
    if args["n_speakers"] > 1:
        return {"predictor": predictor, "speaker": weights.take(SPEAKERS, (args["n_speakers"], speaker_width))}
    return {"predictor": predictor}


def _convs(weights: Weights, prefix: str, model: StochasticDurationPredictor) -> dict:
    found, width = {}, model.width
    for i in range(model.layers):
        depthwise = weights.conv(f"{prefix}.convs_sep.{i}", width, 1, model.kernel)
        found |= {
            f"DepthwiseConv_{i}": depthwise | {"kernel": depthwise["kernel"][:, 0]},
            f"LayerNorm_{2 * i}": weights.norm(f"{prefix}.norms_1.{i}", width, ("gamma", "beta")),
            f"Dense_{i}": weights.dense(f"{prefix}.convs_1x1.{i}", width, width, conv=True),
            f"LayerNorm_{2 * i + 1}": weights.norm(f"{prefix}.norms_2.{i}", width, ("gamma", "beta")),
        }
    return found


def _flow(weights: Weights, prefix: str, model: StochasticDurationPredictor) -> dict:
    shift, log_scale = (weights.take(f"{prefix}.0.{name}", (2, 1))[:, 0] for name in ("m", "logs"))
    found = {"norm": {"bias": shift, "log_scale": log_scale}}
    for i in range(model.couplings):
        name = f"{prefix}.{2 * i + 1}"
        out = weights.dense(f"{name}.proj", splines.parameters(model.bins), model.width, conv=True)
        # The reference divides sizes by sqrt(width), and its derivatives are not 1 where the network gives 0.
        scale, offset = np.ones_like(out["bias"]), np.zeros_like(out["bias"])
        scale[: 2 * model.bins] /= np.sqrt(model.width)
        offset[2 * model.bins :] = splines.UNIT_DERIVATIVE
        found[f"coupling_{i}"] = {
            "conditioner": {
                "Dense_0": weights.dense(f"{name}.pre", model.width, 1, conv=True),
                "DilatedSeparable_0": _convs(weights, f"{name}.convs", model),
                "Dense_1": {"kernel": out["kernel"] * scale, "bias": out["bias"] * scale - offset},
            }
        }
    return found


def recompute(params: dict, args: dict, arrays: dict[str, np.ndarray], dtype=np.float32) -> dict[str, np.ndarray]:
    """Every output of a golden folder, in its layout, from its inputs and noise."""
    model = settings(args)
    params = jax.tree.map(lambda p: jnp.asarray(p, dtype), params)
    a = {name: jnp.asarray(x, dtype) for name, x in arrays.items() if name != "spk"}
    h, post_noise, rev_noise = (a[name].swapaxes(1, 2) for name in ("h", "post_noise", "rev_noise"))
    w, mask, temperature = a["w"][:, 0], a["mask"][:, 0], a["noise_scale"]
    g = None
    if args["gin_channels"]:
        g = a["g"].swapaxes(1, 2) if "g" in a else params["speaker"][arrays["spk"]][:, None]
    dropped = [1.0] * model.layers

    def outputs(m: StochasticDurationPredictor) -> dict:
        cond, post_h = m.condition(h, g, mask, dropped), m.posterior_condition(w, mask, dropped)
        u, nu, _ = m.posterior(post_noise, cond + post_h, mask)
        y = jnp.stack([jnp.log(jnp.maximum(w - u, 1e-5)), nu], -1) * mask[..., None]
        stages = {
            "post": _stages(m.post_flow, post_noise * mask[..., None], cond + post_h, mask),
            "fwd": _stages(m.flow, y, cond, mask),
        }
        swapped = (temperature * rev_noise * mask[..., None])[..., ::-1]
        return {
            "nll": jnp.sum(m.nll_at(w, h, mask, post_noise, g), 1),
            "cond_convs": m.convs(m.pre(h) if g is None else m.pre(h) + m.speaker(g), mask, dropped),
            "cond": cond,
            "post_h": post_h,
            "rev_after_flow7": m.flow.coupling[-1].inverse(swapped, cond, mask, dropped),
            "logw": m.sample_from(rev_noise, h, mask, temperature, g)[..., None],
            "logw_scale0": m.sample_from(rev_noise, h, mask, 0.0, g)[..., None],
        } | {f"{flow}_{name}": x for flow, of_flow in stages.items() for name, x in of_flow.items()}

    # Not jitted: on arrays this small, compiling would cost more than all else.
    found = model.apply({"params": params["predictor"]}, method=outputs)
    return {name: np.asarray(x.swapaxes(1, 2) if x.ndim == 3 else x) for name, x in found.items()}


def _stages(flow: SplineFlow, y, cond, mask) -> dict:
    """After the reference's flows 0 (affine), 1 (first coupling) and 8 (last swap), with log-determinants per row."""
    affine, change_0 = flow.norm.forward_and_log_det(y, mask)
    first, change_1 = flow.coupling[0].forward_and_log_det(affine, cond, mask, [1.0] * flow.layers)
    return {
        "flow0": affine,
        "flow0_logdet": jnp.sum(change_0, 1),
        "flow1": first,
        "flow1_logdet": jnp.sum(change_1, 1),
        "flow8": flow.forward_and_log_det(y, cond, mask)[0],
    }
