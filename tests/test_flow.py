"""Flows: inverses, log-determinants and densities for every coupling, conditioner and mixing; what settings do."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st
from models import away_from_start, randomised, small_decoder
from scipy import integrate, stats

from tts_gen import draws
from tts_gen.config import UserError
from tts_gen.decoders import flow
from tts_gen.decoders.couplings import AffineCoupling
from tts_gen.decoders.dequantisation import Dequantiser
from tts_gen.decoders.flow_layers import ActNorm, inverse
from tts_gen.decoders.wavenet import WaveNet
from tts_gen.layers import DepthwiseConv, length_mask

B, L, C, D = 3, 8, 2, 6
KEY = jax.random.key(0)
KINDS = [
    {},
    {"conditioner": "dds", "dilation": 2, "sigmoid_scale": True},
    {"coupling": "spline", "dilation": 2, "squeeze": 1, "mixing": "flip", "prior": "standard"},
    {"coupling": "spline", "conditioner": "dds", "bins": 4},
    {"prior": "given", "dilation": 2},
]


def draw(seed: int, *shape: int) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class Model:
    """A small flow with randomised parameters, its methods jitted."""

    def __init__(self, channels: int = C, scale: float = 0.2, **changes):
        self.config = small_decoder("flow", **changes)
        self.module = self.config.build(channels)
        y, cond = draw(1, B, L, channels), draw(2, B, L, D)
        mask = length_mask(jnp.array([L, L, L - 2]), L)
        self.init = lambda: self.module.init(KEY, y, cond, mask, KEY, False, method="loss")
        self.variables = away_from_start(self.init, scale=scale, gain=0.5)
        self._jitted = jax.jit(self.module.apply, static_argnames=("method", "train"))

    def __call__(self, method: str, *args, **options):
        return self._jitted(self.variables, *args, **options, method=method)


@functools.cache
def model(kind: int) -> Model:
    return Model(**KINDS[kind])


kinds = pytest.mark.parametrize(
    "kind", range(len(KINDS)), ids=lambda k: "-".join(map(str, KINDS[k].values())) or "glow"
)


@kinds
@given(st.integers(0, 10**6), st.lists(st.integers(0, L), min_size=B, max_size=B))
@trials(max_examples=6)
def test_inverse_of_forward_at_any_length(kind, seed, lengths):
    """Odd lengths too: what does not fill a group of squeezed positions is left out and 0."""
    m, s = model(kind), KINDS[kind].get("squeeze", 2)
    y, cond = draw(seed, B, L, C), draw(seed + 1, B, L, D)
    mask = length_mask(jnp.array(lengths), L)
    whole = length_mask(jnp.array(lengths) // s * s, L)[..., None]
    z, log_det = m("forward_and_log_det", y, cond, mask)
    assert log_det.shape == (B, L // s)
    np.testing.assert_array_equal(z * (1 - whole), 0)
    np.testing.assert_array_equal(log_det * (1 - whole[:, ::s, 0]), 0)
    np.testing.assert_allclose(m("inverse", z, cond, mask), y * whole, atol=1e-7)
    junk = [jnp.where(mask[..., None] > 0, x, 1e3 * draw(seed + 2, *x.shape)) for x in (y, cond)]
    for a, b in zip((z, log_det), m("forward_and_log_det", *junk, mask), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-8)
    np.testing.assert_allclose(m("inverse", z, cond, mask), m("inverse", z, junk[1], mask), atol=1e-8)


@kinds
def test_log_det_is_the_jacobians(kind):
    """Of the whole map; float64 stays float64."""
    m, s = model(kind), KINDS[kind].get("squeeze", 2)
    y, cond, mask = draw(5, 1, 4, C), draw(6, 1, 4, D), jnp.ones((1, 4))
    z, log_det = m("forward_and_log_det", y, cond, mask)
    assert z.dtype == log_det.dtype == jnp.float64
    assert log_det.shape == (1, 4 // s)
    jacobian = jax.jacobian(lambda y: m("forward_and_log_det", y, cond, mask)[0])(y).reshape(4 * C, 4 * C)
    np.testing.assert_allclose(log_det.sum(), np.linalg.slogdet(jacobian)[1], atol=1e-8)


@kinds
def test_density_is_that_of_its_samples(kind):
    """y = y(z), z = mu + sigma eps: log p(y) = log N(eps) - log sigma + log |det dz/dy|; the loss is its negative per
    channel, and temperature multiplies sigma."""
    m = model(kind)
    cond, mask, eps = draw(2, B, L, D), jnp.ones((B, L)), draw(3, B, L, C)
    y, middle, far = (m("sample_from", eps, cond, mask, t) for t in (1.0, 0.0, 2.0))
    (z, log_det), (mean, _), (beyond, _) = (m("forward_and_log_det", x, cond, mask) for x in (y, middle, far))
    np.testing.assert_allclose(beyond - mean, 2 * (z - mean), atol=1e-6)
    log_std = jnp.log(jnp.abs(z - mean)) - jnp.log(jnp.abs(eps))
    truth = (stats.norm.logpdf(eps) - log_std).sum((1, 2)) + log_det.sum(1)
    value, error = m("log_prob", y, cond, mask, KEY)
    np.testing.assert_allclose(value, truth, atol=1e-6)
    assert not np.any(error)
    np.testing.assert_allclose(m("loss", y, cond, mask, KEY, train=False).sum(1) * C, -value, rtol=1e-9)


@kinds
def test_bfloat16_is_finite_and_sums_in_float32(kind):
    half = functools.partial(jax.tree.map, lambda x: x.astype(jnp.bfloat16))
    m, (y, cond, mask) = model(kind), half((draw(1, B, L, C), draw(2, B, L, D), jnp.ones((B, L))))

    @functools.partial(jax.grad, has_aux=True)
    def gradient_and_loss(variables):
        loss = m.module.apply(variables, y, cond, mask, KEY, True, method="loss")
        return loss.mean(), loss

    gradient, value = jax.jit(gradient_and_loss)(half(m.variables))
    assert value.dtype == jnp.float32
    for leaf in (value, *jax.tree.leaves(gradient)):
        assert np.isfinite(np.asarray(leaf, np.float32)).all()


@pytest.mark.parametrize("coupling", ["affine", "spline"])
def test_density_integrates_to_one(coupling):
    decoder = small_decoder("flow", groups_of=2, coupling=coupling).build(1)
    axis = np.linspace(-20, 20, 201)  # random steps stretch what they are given
    y = jnp.asarray(np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2, 1), jnp.float32)
    cond, mask = jnp.broadcast_to(draw(2, 1, 2, D), (len(y), 2, D)), jnp.ones((len(y), 2))
    init = lambda: decoder.init(KEY, y[:64], cond[:64], mask[:64], KEY, False, method="loss")  # noqa: E731
    log_prob = jax.jit(lambda v: decoder.apply(v, y, cond, mask, KEY, method="log_prob")[0])
    value = log_prob(away_from_start(init, scale=0.2, gain=0.5))
    mass = np.exp(np.asarray(value, np.float64)).reshape(201, 201)
    assert mass[[0, -1]].max() < 1e-6 and mass[:, [0, -1]].max() < 1e-6  # the grid holds it all
    assert abs(mass.sum() * 0.2**2 - 1) < 0.01


@pytest.mark.parametrize("n", [2, 4, 12])
def test_inverse_of_a_matrix(n):
    w = np.random.default_rng(n).normal(size=(n, n)).astype(np.float32)
    w[0, 0] = 0  # a pivot must be looked for
    np.testing.assert_allclose(jax.jit(inverse)(w), np.linalg.inv(w), rtol=0, atol=1e-4)


def test_actnorm_starts_by_normalising_the_first_batch():
    """In the whole flow every step's is set by what the steps before make of the batch."""
    m = model(0)
    c, mask = m.config, length_mask(jnp.array([L, L, L - 2]) // 2, L // 2)
    z, step = draw(1, B, L, C).reshape(B, L // 2, 2 * C) * mask[..., None], flow.FlowStep(m.config, 2 * C)
    cond, dropped = jnp.zeros((B, L // 2, c.width)), [1.0] * c.layers

    @jax.jit
    def normed_and_mapped(variables, z):
        normed = step.apply(variables, z, mask, method=lambda m, z, mask: m.norm.forward_and_log_det(z, mask)[0])
        return normed, step.apply(variables, z, cond, mask, dropped, method="forward_and_log_det")[0]

    steps = jax.jit(m.init)()["params"]["steps"]
    for i in range(c.steps):
        normed, z = normed_and_mapped({"params": steps[str(i)]}, z)
        valid = np.asarray(normed)[np.asarray(mask) > 0]
        np.testing.assert_allclose(valid.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(valid.std(0), 1, atol=1e-4)
    z = 5 + 3 * draw(1, B, L // 2, 2 * C)
    start = ActNorm().init(KEY, z, mask, method="forward_and_log_det")
    out, _ = ActNorm().apply(start, z, mask, method="forward_and_log_det")
    valid = np.asarray(out)[np.asarray(mask) > 0]
    np.testing.assert_allclose([valid.mean(0), valid.std(0)], [[0] * 4, [1] * 4], atol=1e-5)


def test_a_given_prior_is_the_density_and_the_spread():
    """mu and log-std of cond are those of z; its first frames' features, and no other part, condition the couplings."""
    m = model(KINDS.index({"prior": "given", "dilation": 2}))
    cond, mask, eps = draw(2, B, L, D), jnp.ones((B, L)), draw(3, B, L, C)
    mean, log_std = cond[..., :C], cond[..., C : 2 * C]
    y = m("sample_from", eps, cond, mask, 1.0)
    z, _ = m("forward_and_log_det", y, cond, mask)
    np.testing.assert_allclose(z, mean + jnp.exp(log_std) * eps, atol=1e-7)
    for same in (cond.at[:, 1::2, 2 * C :].add(1), cond.at[..., : 2 * C].add(1)):
        np.testing.assert_array_equal(z, m("forward_and_log_det", y, same, mask)[0])
    first = cond.at[:, ::2, 2 * C :].add(1)
    assert np.abs(z - m("forward_and_log_det", y, first, mask)[0]).max() > 1e-3


def test_a_given_prior_without_features_has_no_gates():
    decoder = small_decoder("flow", prior="given").build(C)
    y, cond, mask = draw(1, 1, 4, C), draw(2, 1, 4, 2 * C), jnp.ones((1, 4))
    variables = jax.eval_shape(lambda: decoder.init(KEY, y, cond, mask, KEY, False, method="loss"))
    assert set(variables["params"]) == {"steps"}
    net = WaveNet(8, 2, 3, 1, 4)
    shapes = jax.eval_shape(net.init, KEY, y, cond[..., :0], mask, [1.0, 1.0])["params"]
    assert shapes["Dense_1"]["kernel"].shape == (8, 16)  # residual and skip
    assert len(shapes) == len(jax.eval_shape(net.init, KEY, y, cond, mask, [1.0, 1.0])["params"]) - 1


def test_sigmoid_scale_bounds_the_scale_by_one():
    class Constant(WaveNet):
        def __call__(self, x, cond, mask, dropped):
            return jnp.broadcast_to(jnp.array([0.0, 50.0]), (*x.shape[:2], 2))

    y, mask = jnp.ones((1, 4, 2)), jnp.ones((1, 4))
    coupling = AffineCoupling(Constant(1, 1, 1, 1, 1), sigmoid_scale=True)
    z, log_det = coupling.apply({}, y, y, mask, [], method="forward_and_log_det")
    np.testing.assert_allclose(z, y, rtol=1e-5)
    np.testing.assert_allclose(log_det, 0, atol=1e-5)


@pytest.mark.parametrize("kernel, dilation", [(3, 1), (3, 9), (5, 2)])
def test_depthwise_convolution_against_numpy(kernel, dilation):
    layer, x = DepthwiseConv(kernel, dilation), np.asarray(draw(1, 2, 12, 3))
    variables = randomised(layer.init(KEY, x), scale=0.5)
    weight, bias = (np.asarray(variables["params"][name]) for name in ("kernel", "bias"))
    truth = np.broadcast_to(bias, x.shape).copy()
    for t in range(12):
        for k in range(kernel):
            if 0 <= (source := t + (k - kernel // 2) * dilation) < 12:
                truth[:, t] += weight[k] * x[:, source]
    np.testing.assert_allclose(layer.apply(variables, x), truth, atol=1e-5)


def test_splines_learn_two_modes_to_within_002_bits_of_the_truth():
    """y = w1 / 2 +- 1.2 + 0.3 eps with the upper mode's share sigmoid(w0): its density is known."""
    settings = {"coupling": "spline", "steps": 4, "width": 32, "layers": 1, "kernel": 1, "dropout": 0.0}
    module, steps, n = small_decoder("flow", **settings).build(1), 500, 384

    def data(key, n):
        keys = jax.random.split(key, 3)
        cond = jax.random.normal(keys[0], (n, 2, 2))
        share, centre = jax.nn.sigmoid(cond[..., :1]), 0.5 * cond[..., 1:]
        sign = jnp.where(jax.random.uniform(keys[1], share.shape) < share, 1.0, -1.0)
        y = centre + 1.2 * sign + 0.3 * jax.random.normal(keys[2], share.shape)
        modes = [jax.scipy.stats.norm.logpdf(y, centre + gap, 0.3) for gap in (1.2, -1.2)]
        truth = jnp.logaddexp(jnp.log(share) + modes[0], jnp.log1p(-share) + modes[1])
        return y, cond, jnp.ones((n, 2)), truth.sum((1, 2))

    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_decay_schedule(5e-3, steps)))

    @jax.jit
    def step(params, state, key):
        y, cond, mask, _ = data(key, n)
        loss = lambda params: module.apply(params, y, cond, mask, key, True, method="loss").mean()  # noqa: E731
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    with jax.enable_x64(False):
        params = away_from_start(
            lambda: module.init(KEY, *data(KEY, n)[:3], KEY, False, method="loss"), scale=0.0, gain=0.5
        )
        state = optimizer.init(params)
        for i in range(steps):
            params, state = step(params, state, jax.random.key(i))
        y, cond, mask, truth = data(jax.random.key(steps), 10000)
        value, _ = jax.jit(module.apply, static_argnames="method")(params, y, cond, mask, KEY, method="log_prob")
        excess = (truth - value) / (2 * np.log(2))
        assert -0.005 < excess.mean() < 0.02


def test_three_channels_are_mapped_exactly():
    m, y, cond, mask = Model(channels=3), draw(5, 1, 4, 3), draw(6, 1, 4, D), jnp.ones((1, 4))
    z, log_det = m("forward_and_log_det", y, cond, mask)
    np.testing.assert_allclose(m("inverse", z, cond, mask), y, atol=1e-7)
    jacobian = jax.jacobian(lambda y: m("forward_and_log_det", y, cond, mask)[0])(y).reshape(12, 12)
    np.testing.assert_allclose(log_det.sum(), np.linalg.slogdet(jacobian)[1], atol=1e-8)


@pytest.mark.parametrize("mixing", ["conv", "flip"])
def test_refuses_channels_that_have_no_halves(mixing):
    with pytest.raises(UserError, match="3 channels.*squeeze 1 are odd"):
        small_decoder("flow", mixing=mixing, squeeze=1).build(3)


@pytest.mark.parametrize(
    "squeezed, groups_of, group", [(4, 4, 4), (160, 4, 4), (6, 4, 6), (2, 4, 2), (12, 3, 4), (14, 4, 14)]
)
def test_groups_are_the_next_larger_that_divide(squeezed, groups_of, group):
    assert small_decoder("flow", groups_of=groups_of).group(squeezed) == group


def test_refuses_settings_that_exclude_each_other():
    with pytest.raises(UserError, match='prior "given".*conditioner "wavenet"'):
        small_decoder("flow", prior="given", conditioner="dds").build(C)


def test_dequantiser_starts_uniform_and_its_density_is_that_of_its_noise():
    n = 4000
    d, cond, mask, net = jnp.full((1, n), 3.0), jnp.zeros((1, n, D)), jnp.ones((1, n)), Dequantiser(8, 1, 1)
    apply = jax.jit(net.apply)
    variables = net.init(KEY, d[:, :4], cond[:, :4], mask[:, :4], KEY)
    u, log_q = apply(variables, d, cond, mask, KEY)
    uniform = np.asarray(draws.uniform(KEY, d.shape))[0]
    np.testing.assert_allclose(u[0], uniform, atol=1e-9)
    np.testing.assert_allclose(log_q, 0, atol=1e-9)
    u, log_q = apply(randomised(variables, scale=0.7), d, cond, mask, KEY)
    order = np.argsort(uniform)  # by increasing u too: all positions are alike
    u, q = np.asarray(u)[0, order], np.exp(np.asarray(log_q))[0, order]
    assert 0 <= u[0] and u[-1] <= 1 and (np.diff(u) >= 0).all() and np.ptp(q) > 0.5
    mass = integrate.cumulative_trapezoid(q, u, initial=0)
    np.testing.assert_allclose(mass, uniform[order] - uniform[order][0], atol=1e-3)
