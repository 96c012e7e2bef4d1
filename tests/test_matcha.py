"""Matcha's network: what its layers compute, that padding changes nothing unless asked to, and the port's tensors."""

from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import away_from_start
from scipy import special

from tts_gen.config import UserError
from tts_gen.convert import matcha_tts
from tts_gen.convert.weights import Weights
from tts_gen.decoders import networks
from tts_gen.decoders.flow_matching import FlowMatching
from tts_gen.decoders.matcha import Activation, Attention, Downsample, Level, TimeMLP, Upsample, snakebeta
from tts_gen.layers import length_mask

GOLDEN = Path(__file__).parent / "golden" / "matcha_tts"
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
TINY = FlowMatching(network="matcha", widths=(8, 16), heads=2, head_width=4, dropout=0.2)
LENGTHS = jnp.array([4, 8, 12])


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


class Model:
    """A small network with randomised parameters, called as f(x, cond, t, mask, rng=None)."""

    def __init__(self, **changes):
        self.network = networks.build(replace(TINY, **changes), 3)
        self.init = lambda *args: self.network.init(KEY, *args, None)
        example = jnp.zeros((2, 4, 3)), jnp.zeros((2, 4, 5)), jnp.zeros(2), jnp.ones((2, 4))
        self.variables = away_from_start(self.init, *example, scale=0.2)
        self.apply = jax.jit(self.network.apply)

    def __call__(self, x, cond, t, mask, rng=None):
        return self.apply(self.variables, x, cond, t, mask, rng)


@pytest.fixture(scope="module")
def model():
    return Model()


@pytest.fixture(scope="module")
def example():
    """x, cond, t, mask."""
    return normal(3, 12, 3), normal(3, 12, 5), np.array([0.1, 0.5, 0.9], np.float32), length_mask(LENGTHS, 12)


def padded(x, cond, t, mask):
    """The same with rows of 20."""
    wider = ((0, 0), (0, 8), (0, 0))
    return jnp.pad(x, wider), jnp.pad(cond, wider), t, length_mask(LENGTHS, 20)


def test_padding_changes_nothing(model, example):
    x, cond, t, mask = example
    out = model(*example)
    m = mask[..., None]
    other = model(jnp.where(m > 0, x, 50.0), jnp.where(m > 0, cond, -50.0), t, mask)
    longer = model(*(jnp.pad(v, ((0, 0), (0, 8), (0, 0))[: v.ndim]) for v in (x, cond)), t, length_mask(LENGTHS, 20))
    np.testing.assert_allclose(out, other, atol=1e-5)
    np.testing.assert_allclose(out, longer[:, :12], atol=1e-5)
    assert not np.any(np.asarray(out)[np.asarray(mask) == 0])
    assert np.isfinite(model(x, cond, t, jnp.zeros_like(mask))).all()


def test_reference_masking_lets_padding_in(model, example):
    """As in the reference: where nothing is padded the results agree, elsewhere they depend on the padding."""
    quirk = Model(reference_masking=True)
    native, theirs = (f(*example) for f in (model, quirk))
    np.testing.assert_allclose(native[2], theirs[2], atol=1e-5)
    assert np.abs(native[0] - theirs[0])[:4].max() > 0.01
    assert np.abs(quirk(*padded(*example))[2, :12] - theirs[2]).max() > 0.01  # even with nothing padded at first


def test_reference_attention_adds_one_to_valid_scores():
    x, mask = normal(1, 3, 8), jnp.array([[1.0, 1.0, 0.0]])
    module = Attention(heads=1, head_width=4, reference_masking=True)
    params = module.init(KEY, x, mask)["params"]
    q, k, v = np.split(x[0] @ params["qkv"]["kernel"], 3, -1)
    weights = special.softmax(q @ k.T / 2 + np.array([1, 1, 0]), -1)
    truth = weights @ v @ params["out"]["kernel"] + params["out"]["bias"]
    np.testing.assert_allclose(module.apply({"params": params}, x, mask)[0], truth, atol=1e-5)


def test_gradients_reach_every_parameter(example):
    model = Model(middle_blocks=1)
    loss = lambda v: jnp.sum(model.network.apply(v, *example, KEY) ** 2)  # noqa: E731
    for path, leaf in jax.tree.leaves_with_path(jax.jit(jax.grad(loss))(model.variables)):
        assert np.isfinite(leaf).all() and np.any(leaf), jax.tree_util.keystr(path)


@pytest.mark.parametrize("widths", [(8,), (8, 16, 24, 8)])
def test_any_number_of_levels(widths):
    network = networks.build(replace(TINY, widths=widths, blocks=2), 3)
    x, cond, t, mask = jnp.zeros((2, 16, 3)), jnp.zeros((2, 16, 5)), jnp.zeros(2), jnp.ones((2, 16))
    out, variables = jax.eval_shape(lambda: network.init_with_output(KEY, x, cond, t, mask, KEY))
    assert out.shape == x.shape
    assert {f"{part}{i}_out" for part in ("down", "up") for i in range(len(widths))} < set(variables["params"])


def test_dropout_is_drawn_from_the_key(model, example):
    one, same, other = (model(*example, jax.random.key(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01 and np.abs(one - model(*example)).max() > 0.01


def test_starts_at_zero(model, example):
    assert not np.any(model.apply(jax.jit(model.init)(*example), *example, None))


def transposed_convolution(x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """PyTorch's ConvTranspose1d(stride=2, padding=1): x [B, L, in], w [in, out, 4]."""
    out = np.zeros((len(x), 2 * x.shape[1] + 2, w.shape[1]))
    for i in range(x.shape[1]):
        for k in range(4):
            out[:, 2 * i + k] += x[:, i] @ w[:, :, k]
    return out[:, 1:-1] + bias


def strided_convolution(x: np.ndarray, w: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """PyTorch's Conv1d(stride=2, padding=1): x [B, L, in], w [out, in, 3]."""
    padded = np.pad(x, ((0, 0), (1, 1), (0, 0)))
    places = range(0, x.shape[1], 2)
    return np.stack([np.einsum("bki,oik->bo", padded[:, i : i + 3], w) for i in places], 1) + bias


@pytest.mark.parametrize(
    "module, convert, shape, truth",
    [
        (Upsample(), matcha_tts.upsample, (6, 6, 4), transposed_convolution),
        (Downsample(), matcha_tts.downsample, (6, 6, 3), strided_convolution),
    ],
)
def test_resampling_is_the_references(module, convert, shape, truth):
    x, state = normal(2, 8, 6), {"a.conv.weight": normal(*shape), "a.conv.bias": normal(6)}
    weights = Weights(state, "state")
    params = convert(weights, "a", 6)
    weights.finish()
    out = module.apply({"params": params}, x)
    np.testing.assert_allclose(out, truth(x, state["a.conv.weight"], state["a.conv.bias"]), atol=1e-5)


def test_snakebeta():
    x, alpha, beta = normal(5, 4), normal(4), normal(4)
    truth = x + np.sin(x * np.exp(alpha)) ** 2 / np.exp(beta)
    np.testing.assert_allclose(snakebeta(x, alpha, beta), truth, rtol=1e-5, atol=1e-6)


def test_activations_are_diffusers():
    x = normal(5, 4)
    cdf = special.ndtr
    formulas = {
        "gelu": lambda h: h * cdf(h),
        "gelu-approximate": lambda h: h * (1 + np.tanh((2 / np.pi) ** 0.5 * (h + 0.044715 * h**3))) / 2,
        "geglu": lambda h: h[:, :6] * h[:, 6:] * cdf(h[:, 6:]),
        "geglu-approximate": lambda h: h / (1 + np.exp(-1.702 * h)),
    }
    for kind, formula in formulas.items():
        params = Activation(6, kind).init(KEY, x)["params"]
        out = Activation(6, kind).apply({"params": params}, x)
        np.testing.assert_allclose(out, formula(x @ np.asarray(params["linear"]["kernel"])), atol=1e-5)


# The port

ARGS = {
    "n_vocab": 9, "n_spks": 1, "spk_emb_dim": 6, "n_feats": 4,
    "encoder": {
        "encoder_type": "RoPE Encoder",
        "encoder_params": {
            "n_feats": 4, "n_channels": 8, "filter_channels": 10, "filter_channels_dp": 7, "n_heads": 2, "n_layers": 1,
            "kernel_size": 3, "p_dropout": 0.1, "prenet": True,
        },
        "duration_predictor_params": {"filter_channels_dp": 7, "kernel_size": 3, "p_dropout": 0.1},
    },
    "decoder": {
        "channels": [8, 16, 24], "dropout": 0.05, "attention_head_dim": 4, "n_blocks": 2, "num_mid_blocks": 1,
        "num_heads": 2, "act_fn": "snakebeta",
    },
    "cfm": {"name": "CFM", "solver": "euler", "sigma_min": 1e-4},
    "data_statistics": {"mel_mean": -5.5, "mel_std": 2.0},
    "out_size": None, "prior_loss": True, "use_precomputed_durations": False,
}  # fmt: skip


def recorded(args: dict) -> dict[str, np.ndarray]:
    """The state dict that the port asks for."""
    state: dict[str, np.ndarray] = {}

    class Any(Weights):
        def take(self, name, shape):
            state[name] = normal(*shape)
            return super().take(name, shape)

    matcha_tts.params(Any(state, "state"), args)
    return state


def shapes(tree) -> dict:
    return {jax.tree_util.keystr(path): np.shape(leaf) for path, leaf in jax.tree.leaves_with_path(tree)}


@pytest.mark.parametrize("changes", [{}, {"n_spks": 3}, {"act_fn": "geglu"}])
def test_port_makes_the_networks_parameters(changes):
    """Of three levels and two transformers each, with and without speakers; nothing is left over."""
    args = {**ARGS, "n_spks": changes.get("n_spks", 1)}
    args["decoder"] = {**ARGS["decoder"], "act_fn": changes.get("act_fn", "snakebeta")}
    weights = Weights(recorded(args), "state")
    params = matcha_tts.params(weights, args)
    weights.finish()
    settings = matcha_tts.settings(args)
    voice = settings.speakers.width if settings.speakers.count > 1 else 0
    y, cond, mask = jnp.zeros((2, 8, 4)), jnp.zeros((2, 8, 4 + voice)), jnp.ones((2, 8))
    decoder = settings.decoder.build(4)
    expected = jax.eval_shape(lambda: decoder.init(KEY, y, cond, mask, KEY, False, method="loss"))["params"]
    assert shapes(params["decoder"]) == shapes(expected)


def test_port_names_what_does_not_fit():
    state = recorded(ARGS)
    state["decoder.estimator.surplus"] = state.pop("decoder.estimator.down_blocks.0.0.res_conv.bias")
    state["mel_mean"] = normal(2)
    weights = Weights(state, "some.ckpt")
    matcha_tts.params(weights, ARGS)
    with pytest.raises(UserError, match=r"some.ckpt: .*missing: .*res_conv.bias.*mel_mean \[2\].*surplus: .*surplus"):
        weights.finish()
    with pytest.raises(UserError, match="decoder.mid_block_type is 'conformer'"):
        matcha_tts.settings({**ARGS, "decoder": {**ARGS["decoder"], "mid_block_type": "conformer"}})
    with pytest.raises(UserError, match="no 'state_dict'"):
        matcha_tts.state({"weights": {}})


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "level.npz") as arrays:
        return dict(arrays)


def test_first_level_against_the_reference(golden):
    """The time's embedding and the first level, with padding that the reference does not mask out."""
    weights = Weights({name.removeprefix("state/"): v for name, v in golden.items() if "/" in name}, "level.npz")
    d = FlowMatching(network="matcha", widths=(32, 32), heads=2, head_width=16, reference_masking=True)
    time = matcha_tts.time_mlp(weights, "time_mlp", 128, 40)
    params = matcha_tts.level(weights, "down_blocks.0", d, 32, 40)
    weights.finish()
    emb = TimeMLP(128).apply({"params": time}, golden["est_time_pos"])
    np.testing.assert_allclose(emb, golden["est_time_mlp"], atol=1e-5)
    x = np.concatenate([golden["est_x"], golden["mu"]], 1).swapaxes(1, 2)
    level = Level(32, d.heads, d.head_width, 1, "snakebeta", True)
    run = jax.jit(lambda p: level.apply({"params": p}, x, emb, golden["mask"][:, 0], iter([1.0, 1.0]),
                                        capture_intermediates=True))  # fmt: skip
    out, captured = run(params)
    inner = captured["intermediates"]
    resnet = inner["resnet"]["__call__"][0].swapaxes(1, 2)
    attention, hidden = (inner["transformer0"][name]["__call__"][0] for name in ("attention", "hidden"))
    np.testing.assert_allclose(resnet, golden["est_down0_resnet"], atol=5e-5)
    np.testing.assert_allclose(attention, golden["est_down0_attn"], atol=5e-5)
    np.testing.assert_allclose(hidden, golden["est_down0_snakebeta"], atol=5e-5)
    np.testing.assert_allclose(out, golden["est_down0_transformer"], atol=5e-5)
