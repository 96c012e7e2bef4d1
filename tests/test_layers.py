"""Building blocks: masks, dropout, rotary positions, and that padding never reaches a valid position."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models import away_from_start

from tts_gen.layers import (
    ConvBlock,
    GroupNorm,
    TransformerBlock,
    length_mask,
    mish,
    rotary,
    time_embedding,
)

KEY = jax.random.key(0)


def test_length_mask():
    np.testing.assert_array_equal(length_mask(jnp.array([0, 2, 3]), 3), [[0, 0, 0], [1, 1, 0], [1, 1, 1]])


def test_rotary_products_depend_on_the_distance_alone():
    q, k = jax.random.normal(KEY, (2, 8))
    row = lambda x: rotary(jnp.broadcast_to(x, (1, 12, 1, 8)))[0, :, 0]  # noqa: E731
    products = np.asarray(row(q) @ row(k).T)
    for distance in (-5, 0, 3):
        diagonal = np.diagonal(products, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(row(q), axis=-1), np.linalg.norm(q), rtol=1e-5)
    assert np.ptp(products) > 0.1


def test_time_embedding_tells_near_times_apart():
    t = jnp.linspace(0, 1, 101)
    embedding = np.asarray(time_embedding(t, 16))
    assert embedding.shape == (101, 16)
    distance = np.linalg.norm(embedding[:, None] - embedding[None], axis=-1) + 10 * np.eye(101)
    assert distance.min() > 0.1


@pytest.mark.parametrize("block, dropped", [(ConvBlock(3), 1.0), (TransformerBlock(2), (1.0, 1.0))])
def test_blocks_ignore_padding(block: nn.Module, dropped):
    x, other = jax.random.normal(KEY, (2, 2, 10, 8))
    mask = length_mask(jnp.array([6, 10]), 10)
    variables = away_from_start(block.init, KEY, x, mask, dropped)
    apply = jax.jit(lambda x, mask: block.apply(variables, x, mask, dropped) * mask[..., None])
    changed = jnp.where(mask[..., None] > 0, x, 100 * other)
    np.testing.assert_allclose(apply(x, mask), apply(changed, mask), atol=1e-5)
    longer = jnp.pad(x, ((0, 0), (0, 4), (0, 0)), constant_values=7.0)
    np.testing.assert_allclose(apply(longer, jnp.pad(mask, ((0, 0), (0, 4))))[:, :10], apply(x, mask), atol=1e-5)


def test_conv_block_starts_as_the_identity():
    x = jax.random.normal(KEY, (2, 10, 8))
    y, _ = jax.jit(ConvBlock(3).init_with_output)(KEY, x, jnp.ones((2, 10)), 1.0)
    np.testing.assert_array_equal(x, y)


def test_transformer_sees_positions_beyond_the_neighbours():
    x = jax.random.normal(KEY, (1, 10, 8))
    block = TransformerBlock(2)
    variables = jax.jit(block.init)(KEY, x, jnp.ones((1, 10)), (1.0, 1.0))
    first = lambda x: block.apply(variables, x, jnp.ones((1, 10)), (1.0, 1.0))[0, 0].sum()  # noqa: E731
    influence = np.abs(jax.jit(jax.grad(first))(x)[0]).max(-1)
    assert (influence > 1e-6).all()


@pytest.mark.parametrize("positions", [(6,), (6, 3)])
def test_group_norm_counts_what_it_is_told_to(positions):
    """Each group of channels has mean 0 and variance 1 over the first 4 positions, of a row with padding or none."""
    x = 3 + 2 * jax.random.normal(KEY, (2, *positions, 8))
    counted = length_mask(jnp.array([4, 4]), 6).reshape(2, 6, *[1] * len(positions))
    module = GroupNorm(groups=2)
    variables = module.init(KEY, x, counted)
    groups = np.asarray(module.apply(variables, x, counted))[:, :4].reshape(2, -1, 2, 4)
    np.testing.assert_allclose(groups.mean((1, 3)), 0, atol=1e-5)
    np.testing.assert_allclose(groups.var((1, 3)), 1, atol=1e-4)
    scaled = {"params": {"scale": 2 * jnp.ones(8), "bias": jnp.arange(8.0)}}
    expected = 2 * module.apply(variables, x, counted) + np.arange(8)
    np.testing.assert_allclose(module.apply(scaled, x, counted), expected, atol=1e-5)
    assert np.isfinite(module.apply(variables, x, jnp.zeros_like(counted))).all()


def test_mish():
    x = np.linspace(-30, 30, 61, dtype=np.float32)
    truth = lambda x: x * np.tanh(np.log1p(np.exp(x)))  # noqa: E731
    wide = x.astype(np.float64)
    np.testing.assert_allclose(mish(x), truth(wide), rtol=1e-5, atol=1e-6)
    slope = (truth(wide + 1e-5) - truth(wide - 1e-5)) / 2e-5
    np.testing.assert_allclose(jax.vmap(jax.grad(mish))(x), slope, rtol=1e-5, atol=1e-6)
    assert jax.grad(mish)(3e38) == 1
