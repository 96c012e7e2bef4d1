"""The stochastic duration predictor against VITS's, and what it is by itself: a density with a bound, a sampler."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import randomised

from tts_gen.config import UserError
from tts_gen.convert import vits_sdp
from tts_gen.convert.weights import Weights
from tts_gen.decoders.sdp import StochasticDurationPredictor

GOLDEN = Path(__file__).parent / "golden" / "vits_sdp"
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def golden():
    """config.json, the state dict and the arrays."""
    with np.load(GOLDEN / "state.npz") as state, np.load(GOLDEN / "io.npz") as arrays:
        return json.loads((GOLDEN / "config.json").read_text()), dict(state), dict(arrays)


def test_every_output_of_the_reference(golden):
    config, state, arrays = golden
    weights = Weights(vits_sdp.state({"model": state}), "state.npz")
    params = vits_sdp.params(weights, config["args"])
    weights.finish()
    given = {name: arrays[name] for name in (*config["inputs"], *config["noise"])}
    found = vits_sdp.recompute(params, config["args"], given)
    for name in config["outputs"]:
        np.testing.assert_allclose(found[name], arrays[name], rtol=0, atol=config["atol"][name], err_msg=name)


def test_speakers_are_read_and_heard(golden):
    """A speaker vector of 0 leaves what a checkpoint without speakers gives; another does not."""
    config, state, arrays = golden
    args, rng = config["args"] | {"n_speakers": 3, "gin_channels": 5}, np.random.default_rng(0)
    table = np.stack([np.zeros(5), *rng.normal(0, 1, (2, 5))]).astype(np.float32)
    state = state | {
        "dp.cond.weight": rng.normal(0, 1, (16, 5, 1)).astype(np.float32),
        "dp.cond.bias": np.zeros(16, np.float32),
        "emb_g.weight": table,
        "enc_p.emb.weight": np.zeros((41, 16), np.float32),
    }
    weights = Weights(vits_sdp.state({"model": state}), "a checkpoint")
    params = vits_sdp.params(weights, args)
    weights.finish()
    found = vits_sdp.recompute(params, args, arrays | {"spk": np.array([0, 2])})
    np.testing.assert_allclose(found["logw"][0], arrays["logw"][0], atol=1e-4)
    assert np.abs(found["logw"][1] - arrays["logw"][1]).max() > 1e-2
    vectors = vits_sdp.recompute(params, args, arrays | {"g": table[[0, 2], :, None]})
    np.testing.assert_allclose(vectors["nll"], found["nll"], rtol=1e-5)


def test_checkpoints_without_the_predictor_are_refused(golden):
    config, state, _ = golden
    with pytest.raises(UserError, match="no 'model'"):
        vits_sdp.state({"state_dict": {}})
    with pytest.raises(UserError, match="use_sdp is false"):
        vits_sdp.settings(config["args"] | {"use_sdp": False})
    state = {name: x for name, x in state.items() if name != "dp.proj.weight"} | {"dp.more": np.zeros(2)}
    weights = Weights(vits_sdp.state({"model": state}), "G_1.pth")
    vits_sdp.params(weights, config["args"])
    with pytest.raises(UserError, match=r"G_1.pth.*missing: dp.proj.weight.*surplus: dp.more"):
        weights.finish()


class Predictor:
    """A small one with randomised parameters, for 1000 alike phonemes: every draw is one of the same density."""

    def __init__(self, scale: float = 0.15, **changes):
        self.module = StochasticDurationPredictor(8, layers=1, couplings=2, **changes)
        self.h, self.mask = jnp.ones((1, 1000, 4)), jnp.ones((1, 1000))
        d = jnp.arange(8.0)[None] + 1
        init = jax.jit(lambda: self.module.init(KEY, d, self.h[:, :8], self.mask[:, :8], KEY, False, method="nll"))
        self.variables = randomised(init(), scale=scale)
        self.params = self.variables["params"]
        self._apply = jax.jit(self.module.apply, static_argnames=("method", "train"))

    def __call__(self, method: str, *args, **options):
        return self._apply(self.variables, *args, **options, method=method)


def test_the_bound_is_an_unbiased_weight_of_a_distribution_that_samples_follow():
    """E_q[p(d - u, nu) / q(u, nu)] = P(d) = the share of samples whose ceiling is d."""
    p = Predictor(scale=0.03, kernel=1)  # kernel 1: no phoneme sees an edge
    p.params["post_flow"]["norm"] = {"bias": jnp.zeros(2), "log_scale": jnp.full(2, 0.9)}  # tails wider than p's
    p.params["flow"]["norm"] = {"bias": jnp.array([-1.5, 0.0]), "log_scale": jnp.array([0.4, 0.2])}
    samples = np.concatenate([p("sample", p.h, p.mask, jax.random.key(i), 1.0)[0] for i in range(40)])
    frames = np.ceil(np.exp(samples))
    for d in (1.0, 2.0, 4.0):
        nll = [p("nll", jnp.full((1, 1000), d), p.h, p.mask, jax.random.key(i), train=False) for i in range(20)]
        weights = np.exp(-np.asarray(nll, np.float64)).ravel()
        share, error = np.mean(frames == d), weights.std() / len(weights) ** 0.5
        assert share > 0.02
        assert abs(weights.mean() - share) < 4 * (error + (share / len(frames)) ** 0.5)


def test_temperature_and_padding():
    p = Predictor()
    still = [p("sample", p.h, p.mask, jax.random.key(i), 0.0) for i in range(2)]
    np.testing.assert_array_equal(*still)
    low, high = (np.std(p("sample", p.h, p.mask, KEY, t)) for t in (0.4, 1.0))
    assert 1.3 * low < high
    mask, eps = p.mask.at[:, 900:].set(0), jax.random.normal(KEY, (1, 1000, 2))
    d = jnp.full((1, 1000), 3.0)
    junk = [jnp.where(mask[..., None] > 0, x, 1e3 * jax.random.normal(KEY, x.shape)) for x in (p.h, eps)]
    np.testing.assert_allclose(
        p("nll_at", d, p.h, mask, eps), p("nll_at", jnp.where(mask > 0, d, 77), junk[0], mask, junk[1]), atol=1e-4
    )
    np.testing.assert_allclose(
        p("sample_from", eps, p.h, mask, 1.0), p("sample_from", junk[1], junk[0], mask, 1.0), atol=1e-4
    )


def test_the_coupling_that_the_reference_leaves_out_of_sampling_changes_no_duration():
    """VITS drops the first coupling in reverse; it acts on the second channel alone."""
    p, eps = Predictor(), jax.random.normal(KEY, (1, 1000, 2))

    def there_and_back(m):
        cond = m.condition(p.h, None, p.mask, [1.0])
        z, _ = m.flow.forward_and_log_det(eps, cond, p.mask)
        return m.flow.inverse(z, cond, p.mask)

    np.testing.assert_allclose(p(there_and_back), eps, atol=1e-3)
    before = p("sample_from", eps, p.h, p.mask, 1.0)
    p.params["flow"]["coupling_0"] = jax.tree.map(lambda x: 2 * x, p.params["flow"]["coupling_0"])
    np.testing.assert_allclose(p("sample_from", eps, p.h, p.mask, 1.0), before, atol=1e-5)
    p.params["flow"]["coupling_1"] = jax.tree.map(lambda x: 2 * x, p.params["flow"]["coupling_1"])
    assert np.abs(p("sample_from", eps, p.h, p.mask, 1.0) - before).max() > 1e-2
