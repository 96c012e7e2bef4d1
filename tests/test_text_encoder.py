"""The text encoder that three references share: padding, positions, speakers, gradients, and tokens to frames."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import away_from_start

from tts_gen.text_encoder import TextEncoder, TextEncoderModule, by_offset, by_position, durations, expand

KEY = jax.random.key(0)
TINY = TextEncoder(
    width=8, filter_width=12, heads=2, layers=2, window=3, duration_width=6, dropout=0.2, duration_dropout=0.2
)
SYMBOLS, CHANNELS = 11, 5
TOKENS = jax.random.randint(jax.random.key(1), (2, 9), 0, SYMBOLS)
MASK = (jnp.arange(9) < jnp.array([[9], [6]])).astype(jnp.float32)
VOICE = jax.random.normal(jax.random.key(2), (2, 4))


def made(settings: TextEncoder, speaker=None) -> tuple[TextEncoderModule, dict]:
    module = TextEncoderModule(settings, SYMBOLS, CHANNELS)
    return module, away_from_start(module.init, KEY, TOKENS, MASK, speaker)


@pytest.mark.parametrize(
    "settings",
    [
        TINY,
        replace(TINY, position="rotary"),
        replace(TINY, position="none", prenet=False, block=2),
        replace(TINY, speaker_width=4, speaker_at="input", mean_only=True),
    ],
)
def test_padding_changes_nothing(settings):
    speaker = VOICE if settings.speaker_width else None
    module, params = made(settings, speaker)
    apply = jax.jit(lambda tokens, mask: module.apply(params, tokens, mask, speaker))
    plain = apply(TOKENS, MASK)
    longer = jnp.pad(MASK, ((0, 0), (0, 4)))
    garbage = jnp.where(longer > 0, jnp.pad(TOKENS, ((0, 0), (0, 4))), 7)
    assert plain.mean.shape == (2, 9, CHANNELS) and plain.log_duration.shape == (2, 9)
    for value, other in zip(plain, apply(garbage, longer), strict=True):
        assert not np.any(value[1, 6:]) and not np.any(other[:, 9:])
        np.testing.assert_allclose(other[:, :9], value, rtol=0, atol=2e-5)
    assert np.any(plain.log_std) == (not settings.mean_only)


@pytest.mark.parametrize("length, window", [(3, 4), (5, 4), (12, 4), (1, 2), (7, 0)])
def test_offsets_and_positions(length, window):
    per_offset = np.random.default_rng(0).normal(size=(2, length, 2 * window + 1)).astype(np.float32)
    per_position = np.random.default_rng(1).normal(size=(2, length, length)).astype(np.float32)
    placed, gathered = np.zeros_like(per_position), np.zeros_like(per_offset)
    for i in range(length):
        for j in range(max(0, i - window), min(length, i + window + 1)):
            placed[:, i, j] = per_offset[:, i, j - i + window]
            gathered[:, i, j - i + window] = per_position[:, i, j]
    np.testing.assert_array_equal(by_position(jnp.asarray(per_offset)), placed)
    np.testing.assert_array_equal(by_offset(jnp.asarray(per_position), window), gathered)


@pytest.mark.parametrize("position", ["relative", "rotary"])
def test_order_matters_where_positions_are_known(position):
    settings = replace(TINY, prenet=False, kernel=1, duration_kernel=1)

    def differs(settings):
        module, params = made(settings)
        apply = jax.jit(lambda tokens: module.apply(params, tokens, jnp.ones((2, 9))).mean)
        return np.abs(apply(TOKENS[:, ::-1])[:, ::-1] - apply(TOKENS)).max()

    assert differs(replace(settings, position="none")) < 1e-5 < 1e-2 < differs(replace(settings, position=position))


def test_attention_reaches_no_farther_than_its_block():
    settings = replace(TINY, layers=1, prenet=False, kernel=1, position="none", block=2)
    module, params = made(settings)
    apply = jax.jit(lambda tokens: module.apply(params, tokens, jnp.ones((2, 9))).mean)
    changed = np.abs(apply(TOKENS.at[:, 4].add(1) % SYMBOLS) - apply(TOKENS)).max((0, 2)) > 0
    np.testing.assert_array_equal(changed, [False] * 2 + [True] * 5 + [False] * 2)


@pytest.mark.parametrize("where, reached", [("durations", {"log_duration"}), ("input", set())])
def test_where_the_speaker_is_heard(where, reached):
    module, params = made(replace(TINY, speaker_width=4, speaker_at=where), VOICE)
    apply = jax.jit(lambda speaker: module.apply(params, TOKENS, MASK, speaker))
    one, other = apply(VOICE), apply(VOICE + 1)
    changed = {name for name in one._fields if np.any(getattr(one, name) != getattr(other, name))}
    assert changed == (reached or set(one._fields))


def test_durations_teach_the_encoder_nothing():
    module, params = made(TINY)
    gradient = jax.jit(jax.grad(lambda p: jnp.sum(module.apply(p, TOKENS, MASK).log_duration ** 2)))(params)["params"]
    own = gradient.pop("duration")
    assert all(np.any(leaf) for leaf in jax.tree.leaves(own))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_dropout_needs_a_key():
    module, params = made(TINY)
    apply = jax.jit(lambda rng: module.apply(params, TOKENS, MASK, None, rng).log_duration)
    plain = jax.jit(lambda: module.apply(params, TOKENS, MASK).log_duration)()
    one, again, other = apply(KEY), apply(KEY), apply(jax.random.key(5))
    np.testing.assert_array_equal(one, again)
    assert np.any(one != plain) and np.any(one != other) and not np.any(one[1, 6:])


def test_float64_stays_float64():
    with jax.enable_x64(True):
        module = TextEncoderModule(TINY, SYMBOLS, CHANNELS)
        shapes = jax.eval_shape(module.init, KEY, TOKENS, MASK)
        params = jax.tree.map(lambda p: np.zeros(p.shape, np.float64), shapes)
        shapes = jax.eval_shape(lambda: module.apply(params, TOKENS, MASK.astype(jnp.float64)))
    assert all(leaf.dtype == jnp.float64 for leaf in shapes)


def frames_of_the_path(w: np.ndarray) -> np.ndarray:
    """Durations [N] -> frames [N] as `generate_path` of the references gives them: frame t is token n's where
    cumsum[n - 1] <= t < cumsum[n]; floor(sum) frames in all, at least one."""
    end = np.cumsum(w)
    time = np.arange(max(int(end[-1]), 1))
    return np.diff((time < end[:, None]).sum(1), prepend=0)


@pytest.mark.parametrize("scale", [0.3, 1.0, 1.25, 2.0])
def test_durations(scale):
    log_duration = np.log(np.random.default_rng(0).uniform(0.2, 6, (2, 9))).astype(np.float32)
    mask = np.asarray(MASK)
    first = np.asarray(durations(log_duration, mask, scale))
    np.testing.assert_array_equal(first, np.ceil(np.exp(log_duration) * mask * scale))
    last = np.asarray(durations(log_duration, mask, scale, scale_last=True))
    for row, expected in zip(last, np.ceil(np.exp(log_duration) * mask) * scale, strict=True):
        np.testing.assert_array_equal(row, frames_of_the_path(expected))
    assert not first[1, 6:].any() and not last[1, 6:].any()


def test_expansion():
    h = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    frames = np.array([[2, 0, 3, 1], [1, 1, 0, 0]])
    out = np.asarray(jax.jit(expand, static_argnums=2)(h, frames, 7))
    for row, (tokens, counts) in enumerate(zip(h, frames, strict=True)):
        whole = np.repeat(tokens, counts, axis=0)
        np.testing.assert_array_equal(out[row, : len(whole)], whole)
        assert not out[row, len(whole) :].any()
    np.testing.assert_array_equal(expand(h, frames, 4), out[:, :4])
