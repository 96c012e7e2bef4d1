"""The port of Grad-TTS on tiny random state dicts: every tensor finds its place, in the right orientation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tts_gen.config import UserError
from tts_gen.convert import grad_tts
from tts_gen.convert.weights import Weights

ARGS = {
    "n_vocab": 7, "n_spks": 1, "spk_emb_dim": 3, "n_enc_channels": 8, "filter_channels": 6, "filter_channels_dp": 5,
    "n_heads": 2, "n_enc_layers": 1, "enc_kernel": 3, "enc_dropout": 0.1, "window_size": 2, "n_feats": 8, "dec_dim": 8,
    "beta_min": 0.05, "beta_max": 20.0, "pe_scale": 1000,
}  # fmt: skip
SPEAKERS = ARGS | {"n_spks": 5}
OUTPUTS = {
    "enc_mu_x", "enc_logw", "enc_x_mask", "est_time_pos", "est_time_mlp", "est_out", "est_down0_resnet1", "est_down0",
    "est_down1", "est_down2", "est_mid", "est_up0", "est_up1", "fwd_xt", "fwd_z_masked", "loss_t", "rev_x",
    "rev_stoc_x", "syn_enc", "syn_dec", "syn_attn", "spk_emb", "spk_feat",
}  # fmt: skip


class Recorder(dict):
    """A state dict that has whatever is asked of it, and keeps it: what a port reads, and of what shape."""

    def __init__(self, args: dict, seed: int = 0):
        super().__init__()
        rng = np.random.default_rng(seed)

        class Reads(Weights):
            def take(reader, name, shape):
                self[name] = (0.1 * rng.standard_normal(shape)).astype(np.float32)
                return super().take(name, shape)

        self.params = grad_tts.params(Reads(self, "random"), args)


def arrays(args: dict) -> dict:
    rng = np.random.default_rng(1)
    bins, frames, tokens = args["n_feats"], 12, 4
    names = ["est_x", "mu", "x0", "rev_z", "fwd_noise", *(f"rev_stoc_noise_{i}" for i in range(4))]
    found = {n: rng.standard_normal((2, bins, frames)).astype(np.float32) for n in names}
    found["mask"] = (np.arange(frames) < np.array([[12], [7]]))[:, None].astype(np.float32)
    found |= {"t": np.float32([0.6, 0.2]), "x": rng.integers(1, args["n_vocab"], (2, tokens)).astype(np.int32)}
    found |= {"x_lengths": np.int32([4, 3]), "spk": np.int32([1, 4])}
    return found | {"syn_length_scale": np.float32(1), "syn_temperature": np.float32(1.5)}


def recompute(state: Recorder, args: dict) -> dict:
    inputs = arrays(args)
    # How many frames a random model gives the text is not known beforehand: the noise is as long as is asked for.
    total = frames_of(state.params, args, inputs)
    inputs["syn_noise"] = np.random.default_rng(2).standard_normal((2, args["n_feats"], total)).astype(np.float32)
    return grad_tts.recompute(state.params, args, inputs)


def frames_of(params: dict, args: dict, inputs: dict) -> int:
    c = grad_tts.settings(args)
    module = c.build(args["n_feats"])
    lengths = jnp.asarray(inputs["x_lengths"])
    frames = module.apply({"params": params}, inputs["x"], lengths, None, 1.0, method="encode")[2]
    return -(-int(frames.sum(1).max()) // 4) * 4


@pytest.mark.parametrize("args", [ARGS, SPEAKERS], ids=["one", "many"])
def test_every_tensor_is_read_once_and_makes_the_models_own_tree(args):
    state = Recorder(args)
    weights = Weights(dict(state), "file")
    params = grad_tts.params(weights, args)
    weights.finish()
    assert jax.tree.all(jax.tree.map(np.array_equal, params, state.params))
    module, n = grad_tts.settings(args).build(args["n_feats"]), 4

    def everything(m):
        m.encode(jnp.ones((1, n), int), jnp.full(1, n), jnp.zeros(1, int), 1.0)
        cond, mask = [jnp.zeros((1, 8, args["n_feats"]))], jnp.ones((1, 8))
        if args["n_spks"] > 1:
            cond.append(cond[0] + m.speaker_image(m.speaker_hidden(m.speaker(jnp.zeros(1, int)))))
        m.decoder.loss(cond[0], jnp.concatenate(cond, -1), mask, jax.random.key(0), False)

    native = jax.eval_shape(lambda: module.init(jax.random.key(0), method=everything))["params"]
    shapes = lambda tree: {jax.tree_util.keystr(p): x.shape for p, x in jax.tree.leaves_with_path(tree)}  # noqa: E731
    assert shapes(params) == shapes(native)


def test_missing_surplus_and_misshapen_tensors_are_named():
    state = dict(Recorder(ARGS))
    del state["decoder.estimator.mid_attn.fn.g"]
    state["decoder.estimator.final_conv.bias"] = np.zeros(3, np.float32)
    state["decoder.estimator.other"] = np.zeros(3, np.float32)
    weights = Weights(state, "grad.pt")
    grad_tts.params(weights, ARGS)
    with pytest.raises(UserError, match=r"grad\.pt.*mid_attn\.fn\.g.*final_conv\.bias.*estimator\.other"):
        weights.finish()


def test_recompute_gives_every_output():
    found = recompute(Recorder(SPEAKERS), SPEAKERS)
    assert set(found) == OUTPUTS
    assert all(np.isfinite(x).all() for x in found.values())
    assert found["est_out"].shape == (2, 8, 12) and found["est_down1"].shape == (2, 16, 4, 6)
    assert np.abs(found["est_out"][1, :, 7:]).max() == 0 and np.abs(found["est_out"]).max() > 0.01


def test_the_image_keeps_its_orientation():
    """A kernel that looks one bin up, and one that looks one frame back, move the image so."""
    for bins, frames in ((0, 1), (1, 0), (2, 1)):
        w = np.zeros((1, 1, 3, 3), np.float32)
        w[0, 0, bins, frames] = 1
        p = grad_tts.image_conv(Weights({"c.weight": w, "c.bias": np.zeros(1, np.float32)}, ""), "c", 1, 1)
        x = np.random.default_rng(0).normal(size=(1, 6, 5, 1)).astype(np.float32)  # 6 frames of 5 bins
        out = jax.lax.conv_general_dilated(
            x, jnp.asarray(p["kernel"]), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        np.testing.assert_allclose(out, padded[:, frames : frames + 6, bins : bins + 5])
