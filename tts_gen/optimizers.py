"""The optimiser: by name from optax, on the flat vector of parameters; its schedule is a function of the step alone."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import optax

from tts_gen import flat
from tts_gen.config import Train, UserError

METHODS = {
    "adamw": lambda: optax.scale_by_adam(b2=0.98),
    "gan_adamw": lambda: optax.scale_by_adam(b1=0.8, b2=0.99),  # HiFi-GAN's, for an opponent that moves too
    "nadamw": lambda: optax.scale_by_adam(b2=0.98, nesterov=True),
    "radam": lambda: optax.scale_by_radam(b2=0.98),
    "adabelief": lambda: optax.scale_by_belief(b2=0.98),
    "lion": optax.scale_by_lion,
    "rmsprop": optax.scale_by_rms,
    "sgd": lambda: optax.trace(0.9),
}
"""What works on each parameter by itself; methods that look at a whole matrix (Adafactor, LAMB, Muon) do not know one
in a vector."""


def schedule(c: Train) -> optax.Schedule:
    """Learning rate at a step: a linear warm-up, then `c.decay` over `c.decay_steps`, whatever the number of steps
    run."""
    end = max(c.decay_steps, c.warmup + 1)
    if c.decay == "cosine":
        return optax.warmup_cosine_decay_schedule(0.0, c.learning_rate, c.warmup, end, c.learning_rate / 20)
    after = {
        "linear": optax.linear_schedule(c.learning_rate, c.learning_rate / 20, end - c.warmup),
        "constant": optax.constant_schedule(c.learning_rate),
        # As the Transformer's (arXiv 1706.03762): the peak times sqrt(warmup / step).
        "rsqrt": lambda n: c.learning_rate * jnp.sqrt(max(c.warmup, 1) / (jnp.maximum(n, 0) + max(c.warmup, 1))),
    }[c.decay]
    return optax.join_schedules([optax.linear_schedule(0.0, c.learning_rate, c.warmup), after], [c.warmup])


def make(c: Train, layout: flat.Layout) -> optax.GradientTransformationExtraArgs:
    """Clipping, `c.optimizer`, decoupled weight decay, learning rate; frozen parameters do not move.
    `update(gradient, state, params, step=step)`. Raises UserError for a frozen name that the model does not have."""
    kernels = flat.kernels(layout)

    def decay(params):
        """1 where a parameter is decayed: kernels, which come first, or all."""
        return jnp.arange(params.size) < kernels if c.decay_on == "kernels" else 1.0

    decayed = optax.stateless(lambda updates, params: updates + c.weight_decay * decay(params) * params)
    steps = [optax.clip_by_global_norm(c.clip), METHODS[c.optimizer](), decayed]
    steps.append(_scaled_by(schedule(c)))
    if c.frozen:
        lengths, moving = zip(*_moving(c, layout), strict=True)
        lengths, moving = np.array(lengths), np.array(moving, np.float32)

        def still(updates: Any, params: Any) -> Any:
            kept = jnp.repeat(moving, lengths, total_repeat_length=int(lengths.sum()))
            return updates * jnp.pad(kept, (0, updates.size - kept.size))

        # Before clipping, so that frozen parameters do not count in the norm, and last, against their decay.
        steps = [optax.stateless(still), *steps, optax.stateless(still)]
    return optax.chain(*steps)


def _scaled_by(rate: optax.Schedule) -> optax.GradientTransformationExtraArgs:
    """By minus the rate at `step`. optax's own counts updates, and lags behind where steps are skipped."""
    update = lambda updates, state, params=None, *, step, **_: (-rate(step) * updates, state)  # noqa: E731
    return optax.GradientTransformationExtraArgs(lambda _: optax.EmptyState(), update)


def _moving(c: Train, layout: flat.Layout) -> list[tuple[int, bool]]:
    """Size of each leaf and whether it moves."""
    names = ["/".join(path) for path, _ in layout]
    under = lambda name, tree: name == tree or name.startswith(f"{tree}/")  # noqa: E731
    for tree in c.frozen:
        if not any(under(name, tree) for name in names):
            tops = sorted({"/".join(path[:depth]) for path, _ in layout for depth in (1, 2) if len(path) > depth})
            raise UserError(f"train.frozen: the model has no parameters {tree!r}; it has {', '.join(tops)}")
    if all(any(under(name, tree) for tree in c.frozen) for name in names):
        raise UserError(f"train.frozen {', '.join(c.frozen)} is the whole model: nothing is left to train")
    sizes = [int(np.prod(shape)) for _, shape in layout]
    return [(n, not any(under(name, t) for t in c.frozen)) for n, name in zip(sizes, names, strict=True)]
