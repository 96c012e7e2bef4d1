"""log p of a continuous flow, which diffusion (its probability-flow ODE) and flow matching are (FFJORD, arXiv
1810.01367; Score SDE, arXiv 2011.13456, section 4.3).

    dx/dt = f(x, t),  x(t_data) = y,  x(t_prior) ~ N(0, I)
    log p(y) = log N(x(t_prior); 0, I) + integral from t_data to t_prior of tr(df/dx) dt

Solved by diffrax: Tsitouras' 5(4) pairs with adaptive steps.
"""

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from tts_gen.decoders import solvers

EXACT_UP_TO = 32
"""dimensions L C of an utterance, padding included, up to which the trace is exact: every one costs a derivative of the
network"""
PROBES = 4
"""random directions of Hutchinson's estimate beyond that"""
TOLERANCE = 1e-4
"""absolute and relative, of a step's estimated error: root mean square over an utterance's valid dimensions, and of its
log-density per dimension"""
MAX_STEPS = 1000
LEAST_STEP = 1e-7
"""of time: where the solver asks for less (of a NaN, always), it gets nowhere in MAX_STEPS of them, and ends at once"""
LEAST_SIGMA = 1e-3
"""noise in the data at which a diffusion's ODE starts: what it costs is below 1e-4 bits per dimension where the data's
standard deviation is 0.1"""


def diffusion_log_prob(schedule: solvers.Schedule, denoise, y, mask, rng, exact: bool | None = None):
    """`ode_log_prob` of the probability-flow ODE of x0_hat = denoise(x, t).

    In u = sqrt(t): sigma grows as sqrt(t), so at t = 0 dx/dt is infinite where dx/du is not.
    """

    def drift(x, u):
        return 2 * u * solvers.ode_drift(schedule, denoise, x, u**2)

    dtype = jnp.promote_types(y.dtype, jnp.float32)
    start = jnp.sqrt(schedule.time(-jnp.log(jnp.asarray(LEAST_SIGMA, dtype))))
    return ode_log_prob(drift, y, mask, rng, start, 1.0, exact)


def ode_log_prob(
    drift, y, mask, rng, t_data, t_prior, exact: bool | None = None, tolerance: float = TOLERANCE
) -> tuple[jax.Array, jax.Array]:
    """y [B, L, C], mask [B, L] -> nats [B] over valid positions and channels, and its standard error [B] over probes (0
    where the trace is exact). NaN for all where the solver did not get there in MAX_STEPS steps of LEAST_STEP or more.

    `drift(x, t)` -> dx/dt [B, L, C] with t a scalar; what it gives in padding is ignored. `exact` None: where L C is at
    most EXACT_UP_TO. One solve for the batch, in y's precision but at least float32; the utterance with the largest
    error sets its steps.
    """
    import diffrax  # half a second that nothing else needs to wait for

    dtype = jnp.promote_types(y.dtype, jnp.float32)
    m = mask.astype(dtype)[..., None]
    size = jnp.maximum(jnp.sum(m, (1, 2)) * y.shape[2], 1)
    dimensions = y.shape[1] * y.shape[2]
    exact = dimensions <= EXACT_UP_TO if exact is None else exact
    if exact:
        directions = jnp.eye(dimensions, dtype=dtype).reshape(dimensions, 1, *y.shape[1:])
    else:
        directions = jax.random.rademacher(rng, (PROBES, *y.shape), dtype)

    def drift_and_trace(t, state, _):
        def f(x):
            return drift(x, t).astype(dtype) * m

        def derivative(e):
            return jax.jvp(f, (state[0],), (jnp.broadcast_to(e, y.shape) * m,))

        value, tangents = jax.vmap(derivative, out_axes=(None, 0))(directions)
        products = jnp.sum(tangents * directions, (2, 3)) / size
        return value, jnp.sum(products, 0, keepdims=True) if exact else products

    def largest_error(scaled):
        x, trace = scaled
        largest = jnp.max(jnp.maximum(jnp.sqrt(jnp.sum(x**2, (1, 2)) / size), jnp.max(jnp.abs(trace), 0)))
        return jnp.where(jnp.isnan(largest), jnp.inf, largest)

    solution = diffrax.diffeqsolve(
        diffrax.ODETerm(drift_and_trace),
        diffrax.Tsit5(),
        jnp.asarray(t_data, dtype),
        jnp.asarray(t_prior, dtype),
        None,
        (y.astype(dtype) * m, jnp.zeros((1 if exact else PROBES, y.shape[0]), dtype)),
        stepsize_controller=diffrax.PIDController(
            tolerance, tolerance, norm=largest_error, dtmin=LEAST_STEP, force_dtmin=False
        ),
        adjoint=diffrax.ForwardMode(),  # a plain loop: nobody differentiates the likelihood backwards
        max_steps=MAX_STEPS,
        throw=False,
    )
    x, trace = (s[0] for s in solution.ys)
    arrived = jnp.where(solution.result == diffrax.RESULTS.successful, 1.0, jnp.nan).astype(dtype)
    value = jnp.sum(norm.logpdf(x) * m, (1, 2)) + size * jnp.mean(trace, 0)
    error = jnp.zeros_like(value) if exact else size * jnp.std(trace, 0, ddof=1) / PROBES**0.5
    return value * arrived, error * arrived
