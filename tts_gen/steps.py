"""A training step and the state that it changes. It sees a loss function; nothing of speech.

Everything random derives from (seed, purpose, step) and the place of an utterance in the global batch.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tts_gen import config, flat, optimizers, parallel
from tts_gen.draws import Rows

INIT, STEP, VALIDATION = range(3)
"""purposes of random keys"""


class State(NamedTuple):
    """All that a step changes. Parameters are one vector [P]: compiling clipping, Adam and EMA for each of a model's
    hundred leaves takes XLA longer than compiling the model, and one vector splits evenly over any number of devices.
    """

    step: jax.Array
    params: jax.Array
    ema: jax.Array
    """running mean of params: what is evaluated"""
    optimizer: optax.OptState
    skipped: jax.Array
    """steps in a row whose loss or gradient was not finite"""


def key(seed: int, purpose: int, step: int | jax.Array = 0) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), purpose), step)


def split_batch(batch: dict[str, jax.Array]) -> tuple[dict[str, jax.Array], jax.Array, jax.Array]:
    """The model's part of a batch that `parallel.global_batch` made, `row` [B] and `stop` [B]."""
    rest = {name: value for name, value in batch.items() if name not in ("row", "stop")}
    return rest, batch["row"], batch["stop"]


def make_step(loss_fn: Callable, layout: flat.Layout, c: config.Train, mesh: Mesh) -> Callable:
    """`step(state, batch) -> (state, metrics)`.

    `loss_fn(params, batch, rng, train)` -> [B] sums of an utterance's loss, [B] what they are sums over. The step's
    loss is the quotient of their sums over the global batch, however it is split: over devices, or into c.accumulate
    parts taken one after the other.
    """
    optimizer = optimizers.make(c, layout)
    dtype = jnp.dtype(c.precision)
    whole, split = parallel.replicated(mesh), NamedSharding(mesh, PartitionSpec(parallel.FSDP))

    def gradient(params, batch, rng):
        def total(params):
            sums, counts = loss_fn(params, batch, rng, True)
            return jnp.sum(sums), (sums, counts)

        (_, (sums, counts)), grad = jax.value_and_grad(total, has_aux=True)(params)
        # The barrier keeps XLA from fusing each leaf's gradient with the update of the vector.
        grad = jax.lax.optimization_barrier(flat.flatten(grad))
        return jax.lax.with_sharding_constraint(grad.astype(jnp.float32), split), sums, counts

    def step(state: State, batch):
        batch, row, stop = split_batch(batch)
        rng = key(c.seed, STEP, state.step)
        params = jax.lax.with_sharding_constraint(state.params.astype(dtype), whole)
        params = flat.unflatten(params, layout)

        def part(batch_and_row):
            batch, rows = batch_and_row
            return gradient(params, batch, Rows(rng, rows, row.size))

        grad, sums, counts = _in_parts(part, (batch, row), c.accumulate)
        total = jnp.maximum(jnp.sum(counts), 1)
        loss, grad = jnp.sum(sums) / total, grad / total
        norm = optax.tree.norm(grad)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updates, optimizer_state = optimizer.update(grad, state.optimizer, state.params, step=state.step)
        params = state.params + updates
        decay = jnp.minimum(c.ema, (1.0 + state.step) / (10.0 + state.step))
        new = (params, decay * state.ema + (1 - decay) * params, optimizer_state)
        kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, (state.params, state.ema, state.optimizer))
        state = State(state.step + 1, *kept, jnp.where(finite, 0, state.skipped + 1))
        metrics = {"loss": loss, "gradient_norm": norm, "skipped": state.skipped, "stop": jnp.any(stop)}
        return state, metrics | {"bad_rows": jnp.zeros_like(stop).at[row].set(~jnp.isfinite(sums))}

    return step


def _in_parts(part: Callable, batch: Any, parts: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Gradients summed over the parts of a batch, and the rows' sums and counts [B] in the order of the batch.

    Part i holds the rows i, i + parts, ...: each device's rows stay on it.
    """
    if parts == 1:
        return part(batch)
    split = jax.tree.map(lambda x: x.reshape(x.shape[0] // parts, parts, *x.shape[1:]).swapaxes(0, 1), batch)

    def add(total, piece):
        grad, sums, counts = part(piece)
        return total + grad, (sums, counts)

    first = jax.eval_shape(part, jax.tree.map(lambda x: x[0], split))[0]
    # Unrolled on CPU, where XLA runs convolutions in a loop fifteen times slower.
    unroll = parts if jax.default_backend() == "cpu" else 1
    grad, rows = jax.lax.scan(add, jnp.zeros(first.shape, first.dtype), split, unroll=unroll)
    return grad, *(x.swapaxes(0, 1).reshape(-1) for x in rows)


def make_init(init_params: Callable, layout: flat.Layout, c: config.Train) -> Callable:
    """`init(batch) -> State`; `init_params(rng, batch) -> params`. The EMA starts as a copy, after data-dependent
    layers, which see the global batch."""
    optimizer = optimizers.make(c, layout)

    def init(batch):
        params = flat.flatten(init_params(key(c.seed, INIT), split_batch(batch)[0]))
        zero = jnp.zeros((), jnp.int32)
        return State(zero, params, params.copy(), optimizer.init(params), zero)

    return init


def make_validation(validate: Callable, layout: flat.Layout) -> Callable:
    """`(ema, rng, batch) -> name -> [2]`: sums over the global batch of the pairs that `validate(params, batch, rng)`
    gives for each row, name -> ([B], [B]). The mean of a quantity is the quotient of the two."""

    def step(ema, rng, batch):
        batch, row, _ = split_batch(batch)
        found = validate(flat.unflatten(ema, layout), batch, Rows(rng, row, row.size))
        return {name: jnp.stack([jnp.sum(a), jnp.sum(b)]) for name, (a, b) in found.items()}

    return step
