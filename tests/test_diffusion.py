"""Diffusion's settings: prior means, what the network predicts, schedules; and its 2-D network."""

from dataclasses import replace
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import pytest
from models import away_from_start, randomised

from tts_gen import config
from tts_gen.config import UserError
from tts_gen.convert import grad_tts
from tts_gen.convert.weights import Weights
from tts_gen.decoders import networks, unet2d
from tts_gen.decoders.diffusion import Diffusion
from tts_gen.decoders.solvers import LinearSchedule
from tts_gen.layers import length_mask

B, L, C, D = 2, 16, 8, 6
LENGTHS = jnp.array([8, 13])
KEY = jax.random.key(0)
SMALL = Diffusion(network="unet2d", widths=(8, 16), heads=2, head_width=4, solver_steps=4)


def draw(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# The process


class Gaussian(nn.Module):
    """Stands for a network: the exact answer where y ~ N(mean, S^2) and the prior's mean is mu."""

    predict: str
    mean: float = 0.7
    deviation: float = 0.5
    mu: float = 0.0

    def __call__(self, x, cond, t, mask, rng):
        alpha, sigma = (s[:, None, None] for s in LinearSchedule().alpha_sigma(t))
        centre = self.mu + alpha * (self.mean - self.mu)
        score = -(x - centre) / (alpha**2 * self.deviation**2 + sigma**2)
        eps = -sigma * score
        return score if self.predict == "score" else (eps - sigma * (x - self.mu)) / alpha


@pytest.mark.parametrize("mu", [0.0, -1.5])
@pytest.mark.parametrize("predict", ["v", "score"])
def test_samples_and_density_with_the_exact_network(predict, mu, monkeypatch):
    """Whatever the network predicts and wherever the prior's mean is, samples and densities are the data's."""
    settings = Diffusion(prior_mean="given", predict=predict)
    monkeypatch.setattr(networks, "build", lambda *_: Gaussian(predict, mu=mu))
    decoder, mask = settings.build(C), jnp.ones((200, 4))
    cond = jnp.full((200, 4, C), mu)
    x = np.asarray(decoder.apply({}, cond, mask, KEY, 1.0, method="sample"))
    error = 0.5 / x.size**0.5
    assert abs(x.mean() - 0.7) < 4 * error + 0.003
    assert abs(x.std() - 0.5) < 4 * error + 0.005
    y = x[:8]
    value, _ = decoder.apply({}, y, cond[:8], mask[:8], KEY, method="log_prob")
    truth = np.sum(-0.5 * ((y - 0.7) / 0.5) ** 2 - np.log(0.5) - 0.5 * np.log(2 * np.pi), (1, 2))
    np.testing.assert_allclose(value / y[0].size, truth / y[0].size, atol=0.01)


def test_loss_is_least_at_the_exact_network(monkeypatch):
    """Of v, E|v - v_hat|^2; of the score, E|sigma score + eps|^2, both against the expectation in closed form."""
    y = 0.7 + 0.5 * draw(1, 4000, 4, C)
    mask, t, eps = jnp.ones((4000, 4)), jnp.full(4000, 0.3), draw(2, 4000, 4, C)
    alpha, sigma = LinearSchedule().alpha_sigma(jnp.float32(0.3))
    total = alpha**2 * 0.25 + sigma**2
    residual = {"v": 0.25 / total, "score": alpha**2 * 0.25 / total}  # variances of v and of eps given x_t
    for predict, least in residual.items():
        monkeypatch.setattr(networks, "build", lambda *_: Gaussian(predict))  # noqa: B023
        decoder = Diffusion(predict=predict).build(C)
        loss = decoder.apply({}, y, t, eps, jnp.zeros((4000, 4, 1)), mask, None, method="loss_at")
        np.testing.assert_allclose(loss.mean(), least, rtol=0.02)


def test_noise_gathers_around_the_given_mean():
    """x_t = alpha y + (1 - alpha) mu + sigma eps (Grad-TTS, equation 4 at unit covariance)."""
    decoder = Diffusion(prior_mean="given", widths=(8, 8)).build(C)
    y, mu, mask = draw(1, B, L, C), draw(2, B, L, C), length_mask(LENGTHS, L)
    t, eps = jnp.array([0.2, 0.9]), draw(3, B, L, C)
    x = decoder.apply({}, y, t, eps, mu, mask, method="noised")
    alpha, sigma = (np.asarray(s)[:, None, None] for s in LinearSchedule().alpha_sigma(t))
    truth = (alpha * y + (1 - alpha) * mu + sigma * eps) * mask[..., None]
    np.testing.assert_allclose(x, truth, atol=1e-6)


class Linear(nn.Module):
    """Stands for a network that has parameters."""

    @nn.compact
    def __call__(self, x, cond, t, mask, rng):
        return nn.Dense(C)(jnp.concatenate([x, cond], -1)) * (0.5 + t[:, None, None])


@pytest.fixture
def linear(monkeypatch):
    """(decoder, its variables, cond, mask) for a prior mean, around a linear network."""
    monkeypatch.setattr(networks, "build", lambda *_: Linear())

    def make(prior_mean):
        decoder, cond, mask = Diffusion(prior_mean=prior_mean).build(C), draw(2, B, L, D), length_mask(LENGTHS, L)
        variables = decoder.init(KEY, draw(1, B, L, C), cond, mask, KEY, False, method="loss")
        return decoder, randomised(variables, scale=0.2), cond, mask

    return make


def test_predicted_mean_is_trained_along(linear):
    """Its loss is the diffusion's and the prior's (Grad-TTS, section 3.4), and sampling starts around it."""
    decoder, variables, cond, mask = linear("predicted")
    prior, m = variables["params"]["prior"], mask[..., None]
    mu = (cond @ prior["kernel"] + prior["bias"]) * m
    y, t, eps = draw(1, B, L, C), jnp.array([0.2, 0.9]), draw(3, B, L, C)
    loss = decoder.apply(variables, y, t, eps, cond, mask, None, method="loss_at")
    alpha, sigma = (np.asarray(s)[:, None, None] for s in LinearSchedule().alpha_sigma(t))
    x = (alpha * y + (1 - alpha) * mu + sigma * eps) * m
    out = Linear().apply({"params": variables["params"]["network"]}, x, cond, t, mask, None)
    truth = (out - (alpha * eps - sigma * (y - mu))) ** 2 + 0.5 * ((y - mu) ** 2 + np.log(2 * np.pi))
    np.testing.assert_allclose(loss * mask, truth.mean(-1) * mask, rtol=1e-4, atol=1e-5)
    gradient = jax.grad(lambda v: jnp.mean(decoder.apply(v, y, t, eps, cond, mask, None, method="loss_at")))(variables)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))


@pytest.mark.parametrize("prior_mean", ["zero", "predicted"])
def test_guidance_goes_from_the_null_condition_beyond_the_condition(prior_mean, linear):
    """w (f(cond) - f(null)) is added to f(cond): nothing at 0, and at -1 the null condition alone is left."""
    decoder, variables, cond, mask = linear(prior_mean)
    null = draw(4, B, L, D)

    @jax.jit
    def sample(cond, *guidance):
        return decoder.apply(variables, cond, mask, KEY, 1.0, *guidance, method="sample") * mask[..., None]

    plain, of_null = sample(cond), sample(null)
    np.testing.assert_allclose(sample(cond, null, 0.0), plain, atol=1e-4)
    assert np.abs(sample(cond, null, 1.0) - plain).max() > 0.1
    if prior_mean == "zero":  # else noise starts around the condition's mean
        np.testing.assert_allclose(sample(cond, null, -1.0), of_null, atol=1e-4)


def test_settings_that_do_not_exist_are_listed():
    for name, known in (
        ("predict", "v, score"),
        ("schedule", "linear, cosine"),
        ("solver", "euler, midpoint, heun, sde"),
    ):
        with pytest.raises(UserError, match=f"'other' is not one of {known}"):
            config.from_dict(Diffusion, {name: "other"}, "config.json")


# The 2-D network


def network(**changes):
    settings = replace(SMALL, **changes)
    cond = draw(2, B, L, C if settings.prior_mean == "given" else D)
    module = networks.build(settings, C)
    t, mask = jnp.array([0.2, 0.7]), length_mask(LENGTHS, L)
    init = lambda: module.init(KEY, draw(1, B, L, C), cond, t, mask, None)  # noqa: E731
    return module, away_from_start(init, scale=0.2), cond


@pytest.mark.parametrize("prior_mean", ["zero", "given"])
def test_padding_changes_nothing(prior_mean):
    """Neither what stands there nor how much there is; one length is odd, so that the coarse mask is not the fine one
    folded."""
    module, variables, cond = network(prior_mean=prior_mean, widths=(8, 16, 24))
    x, t, mask = draw(1, B, L, C), jnp.array([0.2, 0.7]), length_mask(LENGTHS, L)
    m = np.asarray(mask)[..., None]
    apply = jax.jit(lambda x, cond, mask: module.apply(variables, x, cond, t, mask, None))
    out = apply(x, cond, mask)
    assert out.shape == (B, L, C) and np.abs(out).max() > 0.1
    garbage = apply(np.where(m > 0, x, 50), np.where(m > 0, cond, -50), mask)
    np.testing.assert_allclose(garbage * m, out * m, atol=1e-4)
    longer = [np.pad(a, ((0, 0), (0, 12), (0, 0))) for a in (x, cond)]
    out2 = apply(*longer, length_mask(LENGTHS, L + 12))
    np.testing.assert_allclose(out2[:, :L] * m, out * m, atol=1e-4)


def test_reference_masking_lets_padding_in():
    """As the published code does: the same row has another result in a longer batch; without padding it has the
    same."""
    module, variables, cond = network()
    reference = networks.build(replace(SMALL, reference_masking=True), C)
    x, t = draw(1, B, L, C), jnp.array([0.2, 0.7])
    both = jax.jit(lambda *args: [m.apply(variables, *args, None) for m in (module, reference)])
    short = length_mask(jnp.array([8, 8]), L)
    right, alone = both(x[:, :8], cond[:, :8], t, short[:, :8])
    np.testing.assert_allclose(alone, right, atol=1e-5)
    in_batch, shifted = both(x, cond, t, short)
    np.testing.assert_allclose(in_batch[:, :8], right, atol=1e-5)
    assert np.abs(shifted[:, :8] - right).max() > 0.01


def test_attention_is_softmax_of_keys_over_positions():
    """The folded form against the reference's own, query, key and value made one by one."""
    module, variables, cond = network()
    p = jax.tree.map(np.asarray, variables["params"]["down1_attention"])
    x, mask = draw(5, B, 8, 4, 16), np.asarray(length_mask(LENGTHS // 2, 8))[..., None, None]
    out = unet2d.LinearAttention(2, 4).apply({"params": p}, x, jnp.asarray(mask))
    q, k, v = (np.einsum("blfc,chd->bhdlf", x, p[name]).reshape(B, 2, 4, -1) for name in ("query", "key", "value"))
    k = np.where(np.broadcast_to(mask, (B, 8, 4, 1)).reshape(B, 1, 1, -1) > 0, k, -np.inf)
    weights = np.exp(k - k.max(-1, keepdims=True))
    context = np.einsum("bhdn,bhen->bhde", weights / weights.sum(-1, keepdims=True), v)
    h = np.einsum("bhde,bhdn->bhen", context, q).reshape(B, 2, 4, 8, 4)
    truth = x + p["gate"] * (np.einsum("bhelf,hec->blfc", h, p["out"]) + p["bias"])
    np.testing.assert_allclose(out, truth, atol=1e-5)


def test_gradients_reach_every_parameter_and_survive_an_empty_row():
    module, variables, cond = network()
    x, t, mask = draw(1, B, L, C), jnp.array([0.2, 0.7]), length_mask(jnp.array([0, 13]), L)
    gradient = jax.jit(jax.grad(lambda v: jnp.sum(module.apply(v, x, cond, t, mask, KEY) ** 2)))(variables)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.any(leaf), jax.tree_util.keystr(path)


def test_given_images_must_fit():
    module = networks.build(replace(SMALL, prior_mean="given"), C)
    with pytest.raises(UserError, match="one or two images of 8 channels.*this one has 11"):
        module.init(KEY, draw(1, B, L, C), draw(2, B, L, C + 3), jnp.zeros(B), jnp.ones((B, L)), None)


def test_compiler_options_change_no_gradient():
    decoder = SMALL.build(C)
    args = draw(1, B, L, C), draw(2, B, L, D), length_mask(LENGTHS, L), KEY, True
    variables = away_from_start(lambda: decoder.init(KEY, *args, method="loss"))
    gradient = jax.grad(lambda v: decoder.apply(v, *args, method="loss").mean())
    if not jaxlib.__version__.startswith("0.10."):
        pytest.skip("there are none for this jaxlib")
    assert SMALL.compiler_options and not replace(SMALL, network="unet").compiler_options
    with_options = jax.jit(gradient, compiler_options=SMALL.compiler_options)(variables)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), with_options, jax.jit(gradient)(variables))


def test_channels_must_halve():
    module = networks.build(replace(SMALL, widths=(8, 8, 8)), 6)
    with pytest.raises(UserError, match="halves the channels, 6, to 4 parts"):
        module.init(KEY, draw(1, B, L, 6), draw(2, B, L, D), jnp.zeros(B), jnp.ones((B, L)), None)


def test_upsampling_is_the_transposed_convolution():
    """torch's ConvTranspose2d(4, stride 2, padding 1), here in scatter form: every pixel adds its 4x4 patch."""
    height, width, channels = 3, 5, 4
    x, w, bias = draw(1, 1, height, width, channels), draw(2, channels, channels, 4, 4), draw(3, channels)
    truth = np.zeros((2 * height + 2, 2 * width + 2, channels), np.float32)
    for i in range(height):
        for j in range(width):  # w: [in, out, bins, frames], frames are the image's first axis
            truth[2 * i : 2 * i + 4, 2 * j : 2 * j + 4] += np.einsum("c,cdkl->lkd", x[0, i, j], w)
    weights = Weights({"up.weight": w, "up.bias": bias}, "test")
    params = grad_tts.upsample(weights, "up", channels)
    weights.finish()
    out = unet2d.Upsample().apply({"params": params}, x)
    np.testing.assert_allclose(out[0], truth[1:-1, 1:-1] + bias, atol=1e-5)
