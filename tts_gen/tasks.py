"""The two tasks: prosody (phonemes -> log-f0, duration, energy if asked) and acoustic (phonemes and prosody -> mel).

A task knows nothing of the decoder family. It owns the encoder, the targets, the masks and the masked mean. Batches are
dicts of
arrays as `batches` makes them; `length` [B] counts phonemes.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tts_gen import config, draws
from tts_gen.config import UserError
from tts_gen.encoder import Encoder, repeat_to_frames
from tts_gen.features.inventory import Inventory
from tts_gen.features.stats import Stats
from tts_gen.layers import length_mask, masked, recomputing

MEL_NOISE = 0.05
"""standard deviation, normalised units, of mels and their energy: the clip of the logarithm makes exact ties, which
would leave likelihoods unbounded"""


def loss_sums(task: nn.Module, variables, batch, rng, train: bool) -> tuple[jax.Array, jax.Array]:
    """Each row's loss summed over its valid positions, and their number, both [B]: a mean over a batch, however it is
    split, is the quotient of the sums of both."""
    with recomputing(task.config.train.remat):
        return _row_sums(*task.apply(variables, batch, rng, train, method="loss"))


def _row_sums(loss: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The one place where losses are masked: [B, L] -> [B]."""
    return jnp.sum(loss.astype(jnp.float32) * mask, 1), jnp.sum(mask, 1)


def validation_sums(task: nn.Module, variables, batch, rng) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Pairs as loss_sums gives: val_loss, and where the loss is a density's, val_bits_per_dim of the original
    features."""
    loss, mask = task.apply(variables, batch, rng, False, method="loss")
    sums, counts = _row_sums(loss, mask)
    found = {"val_loss": (sums, counts)}
    if task.config.decoder.exact:
        change, dimensions = task.change_of_variables(batch, mask)
        bits = jnp.where(counts > 0, (sums * task.channels - change) / math.log(2), 0)
        found["val_bits_per_dim"] = bits, dimensions
    return found


class Task(nn.Module):
    """What both tasks share. `multiple`: valid lengths are cropped (loss, log_prob) or padded (sample) to multiples of
    it."""

    config: config.Config
    inventory: Inventory
    stats: Stats

    channels = multiple = None

    def setup(self):
        sizes = (len(self.inventory.phonemes), len(self.inventory.speakers), len(self.inventory.styles))
        self.encoder = Encoder(self.config.encoder, *sizes)
        self.decoder = self.config.decoder.build(self.channels)

    def _encode(self, batch, rng):
        return self.encoder(batch, length_mask(batch["length"], batch["phoneme"].shape[1]), rng)

    def noisy_target(self, batch, cond, mask, rng):
        """`target`, and the nats [B, L] that a decoder's own choice of the target's noise costs: here none."""
        return self.target(batch, rng), jnp.zeros_like(mask)

    def loss(self, batch, rng, train):
        """[B, L] loss per position, mean over channels, and the mask [B, L] that says which count."""
        target_key, encoder_key, decoder_key = draws.split(rng, 3)
        cond, length = self.condition(batch, encoder_key if train else None)
        mask = length_mask(length // self.multiple * self.multiple, cond.shape[1])
        y, cost = self.noisy_target(batch, cond, mask, target_key)
        return self.decoder.loss(y, cond, mask, decoder_key, train) + cost / self.channels, mask

    def sample(self, batch, rng, temperature, guidance=None):
        """[B, L, C] in normalised units; positions after the valid length are meaningless. `guidance`: scale of
        classifier-free guidance by speaker and style; None is 0, at no cost."""
        cond, mask = self._padded_condition(batch)
        if guidance is None:
            return self.decoder.sample(cond, mask, rng, temperature)
        labels = {"speaker", "style", "speaker_embedding"} & batch.keys()
        unlabelled = batch | {name: jnp.zeros_like(batch[name]) for name in labels}
        null, _ = self._padded_condition(unlabelled)
        return self.decoder.sample(cond, mask, rng, temperature, null, guidance)

    def _padded_condition(self, batch):
        """The condition, its last position repeated to a multiple of `multiple`, and the mask of that length."""
        cond, length = self.condition(batch, None)
        last = jnp.minimum(jnp.arange(cond.shape[1])[None], length[:, None] - 1)
        cond = jnp.take_along_axis(cond, last[..., None], 1)
        return cond, length_mask(-(-length // self.multiple) * self.multiple, cond.shape[1])

    def log_prob(self, batch, rng):
        """Nats of the original features [B], its standard error [B], and the number of dimensions [B] it covers."""
        target_key, decoder_key = draws.split(rng, 2)
        cond, length = self.condition(batch, None)
        mask = length_mask(length // self.multiple * self.multiple, cond.shape[1])
        y, cost = self.noisy_target(batch, cond, mask, target_key)
        value, error = self.decoder.log_prob(y, cond, mask, decoder_key)
        change, dimensions = self.change_of_variables(batch, mask)
        return value - jnp.sum(cost * mask, 1) + change, error, dimensions

    def residual(self, batch, rng):
        """Target - sample at temperature 0, [B, L, C], and the mask [B, L]: what a regression's scale is fitted to."""
        cond, length = self.condition(batch, None)
        mask = length_mask(length // self.multiple * self.multiple, cond.shape[1])
        return self.target(batch, rng) - self.decoder.sample(cond, mask, rng, 0.0), mask


class Prosody(Task):
    """y = [log-f0, log-duration] per phoneme, normalised, and with config.energy a third channel, the energy. Batch:
    log_f0, voiced, duration, energy [B, N]; log_f0_std [B]."""

    multiple = 2

    @property
    def channels(self):
        return 3 if self.config.energy else 2

    def condition(self, batch, rng):
        return self._encode(batch, rng), batch["length"]

    def target(self, batch, rng):
        """Unvoiced phonemes have no f0: a fresh N(0, 1) draw stands in. Durations d become log(d + U(0, 1))."""
        _, duration_key = draws.split(rng, 2)
        return self._target(batch, rng, draws.uniform(duration_key, batch["duration"].shape))

    def noisy_target(self, batch, cond, mask, rng):
        """With u from the decoder where it has a `dequantise`: log p(d) >= E[log p(d + u) - log q(u)], a bound."""
        dequantise = getattr(self.decoder, "dequantise", None)
        if dequantise is None:
            return super().noisy_target(batch, cond, mask, rng)
        _, duration_key = draws.split(rng, 2)
        d = _whole_frames(batch)
        u, log_q = dequantise(d, cond, mask, duration_key)
        # change_of_variables counts E[log(d + U)]; here u is not uniform.
        return self._target(batch, rng, u), log_q + jnp.log(d + u) - _mean_log_frames(d)

    def _target(self, batch, rng, u):
        f0_key, _ = draws.split(rng, 2)
        log_f0 = jnp.where(batch["voiced"], batch["log_f0"], draws.normal(f0_key, batch["log_f0"].shape))
        frames = _whole_frames(batch) + u
        log_duration = (jnp.log(frames) - self.stats.log_duration_mean) / self.stats.log_duration_std
        energy = []
        if self.config.energy:
            noise = draws.normal(draws.fold_in(rng, 2), log_f0.shape)
            energy = [batch["energy"] + MEL_NOISE * noise]
        return jnp.stack([log_f0, log_duration, *energy], -1)

    def change_of_variables(self, batch, mask):
        """From normalised log-f0, log-duration and energy to log-f0, frames and nats; the stand-ins' known entropy is
        taken out."""
        voiced = mask * batch["voiced"]
        entropy = 0.5 * jnp.log(2 * jnp.pi * jnp.e)
        log_frames = _mean_log_frames(_whole_frames(batch))
        change = -jnp.sum(voiced, 1) * jnp.log(batch["log_f0_std"]) + entropy * jnp.sum(mask - voiced, 1)
        change -= jnp.sum(mask * (log_frames + jnp.log(self.stats.log_duration_std)), 1)
        dimensions = jnp.sum(mask + voiced, 1)
        if self.config.energy:
            change -= jnp.sum(mask, 1) * jnp.log(self.stats.energy_std)
            dimensions += jnp.sum(mask, 1)
        return change, dimensions


def _whole_frames(batch):
    return jnp.maximum(batch["duration"], 1).astype(jnp.float32)


def _mean_log_frames(d):
    """E[log(d + U)] of uniform dequantisation."""
    return (d + 1) * jnp.log(d + 1) - d * jnp.log(d) - 1


class Acoustic(Task):
    """y = normalised log-mel. Batch: mel [B, T, M], frames [B], frame_phoneme and frame_position [B, T], and the
    prosody [B, N]."""

    multiple = 4

    @property
    def channels(self):
        return len(self.stats.mel_mean)

    def setup(self):
        super().setup()
        self.prosody = nn.Dense(self.config.encoder.width)
        self.position = nn.Dense(self.config.encoder.width)

    def condition(self, batch, rng):
        """Encoder output and prosody, repeated to frames, with the position in the phoneme: [B, T, D], valid frames
        [B]."""
        duration = _whole_frames(batch)
        encoded = self._encode(batch, rng)
        prosody = self.prosody(jnp.stack(self.given(batch), -1).astype(encoded.dtype))
        h = repeat_to_frames(encoded + prosody, batch["frame_phoneme"])
        k = batch["frame_position"].astype(jnp.float32)
        d = jnp.take_along_axis(duration, batch["frame_phoneme"], 1)
        position = jnp.stack([(k + 0.5) / d, jnp.log1p(k), jnp.log1p(jnp.maximum(d - 1 - k, 0))], -1)
        mask = length_mask(batch["frames"], k.shape[1])
        return masked(h + self.position(position.astype(h.dtype)), mask), batch["frames"]

    def given(self, batch):
        """Prosody that conditions: a list of [B, N]."""
        prosody = [batch["log_f0"], batch["voiced"].astype(jnp.float32), jnp.log(_whole_frames(batch))]
        return prosody + ([batch["energy"]] if self.config.energy else [])

    def target(self, batch, rng):
        return batch["mel"] + MEL_NOISE * draws.normal(rng, batch["mel"].shape)

    def change_of_variables(self, batch, mask):
        frames = jnp.sum(mask, 1)
        return -frames * float(np.sum(np.log(self.stats.mel_std))), frames * self.channels


class Contour(Acoustic):
    """y = log-f0 of frames, normalised by speaker, given phonemes and durations: what log-f0 of phonemes is compared
    with. Batch: as the acoustic task's, and contour, contour_voiced [B, T]."""

    channels = 1

    def given(self, batch):
        return [batch["voiced"].astype(jnp.float32), jnp.log(_whole_frames(batch))]

    def target(self, batch, rng):
        """Unvoiced frames have no f0: a fresh N(0, 1) draw stands in, as in the prosody task."""
        return jnp.where(batch["contour_voiced"], batch["contour"], draws.normal(rng, batch["contour"].shape))[
            ..., None
        ]

    def change_of_variables(self, batch, mask):
        voiced, entropy = mask * batch["contour_voiced"], 0.5 * jnp.log(2 * jnp.pi * jnp.e)
        scale = jnp.log(jnp.asarray(self.stats.log_f0_std)[batch["speaker"]])
        return entropy * jnp.sum(mask - voiced, 1) - scale * jnp.sum(voiced, 1), jnp.sum(voiced, 1)


TASKS = {"prosody": Prosody, "acoustic": Acoustic, "contour": Contour}


def build(config: config.Config, inventory: Inventory, stats: Stats) -> Task:
    """The task that a config names. Raises UserError when the decoder merges more positions than lengths are multiples
    of."""
    task, merged, decoder = TASKS[config.task], config.decoder.multiple, config.decoder
    for name in ("prior", "prior_mean"):
        if getattr(decoder, name, None) == "given":
            raise UserError(f'decoder.{name} "given" is for joint models, whose condition holds it; give another')
    if config.task != "prosody" and getattr(decoder, "dequantisation", "uniform") != "uniform":
        raise UserError("decoder.dequantisation is for the prosody task: durations are whole frames, mels are not")
    if config.task == "contour" and config.energy:
        raise UserError("energy is for the prosody and the acoustic task: the contour task models f0 alone")
    if config.energy and stats.energy_mean is None:
        raise UserError(
            "energy: these features were prepared before there was energy, and have no statistics of it; give the same "
            "tts-gen prepare command again, which adds them and leaves the rest"
        )
    if task.multiple % merged:
        raise UserError(
            f"decoder: merges {merged} positions, but lengths in the {config.task} task are multiples of "
            f"{task.multiple}; give fewer widths (diffusion: 2 ** (widths - 1) positions) or a smaller squeeze (flow)"
        )
    return task(config, inventory, stats)
