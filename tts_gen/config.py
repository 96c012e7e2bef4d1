"""Settings of a run: frozen dataclasses, checked by name, saved as JSON.

A config file (`configs/*.py`) holds one value, `config = Config(...)`. Every field can be overridden on the command
line (`--train.steps 100`); a name that does not exist is an error that lists those that do.
"""

import dataclasses
import importlib.util
import math
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path


class UserError(Exception):
    """A mistake in what the user gave. The message names the file, the field, the value and what to do; no traceback is
    shown."""


class Stopped(Exception):
    """A signal asked for an end; what was done is saved and the same command goes on from it."""


def limit(where: str, settings: object, **limits: tuple[float, float]) -> None:
    """Raises UserError naming the first field of `settings` that its type does not allow, or that lies outside its
    limits (lowest, highest)."""
    for name, (low, high) in limits.items():
        value = getattr(settings, name)
        if not isinstance(value, (int, float)):  # `_check` tells
            continue
        if not low <= value <= high or value == math.inf:
            allowed = f"at least {low:g}" if high == math.inf else f"{low:g} to {high:g}"
            raise UserError(f"{where}.{name} is {value}; give {allowed}")
    _check(settings, where)


COUNT, SHARE = (1, math.inf), (0.0, 0.99)
"""limits of what there must be some of, and of dropout, which may not take all"""


@dataclass(frozen=True)
class Audio:
    """Definition of the log-mel features. Saved with features and checkpoints, compared wherever two meet.

    The default is what HiFi-GAN, Glow-TTS, Grad-TTS and Matcha-TTS use: Slaney mel filters, natural logarithm of the
    magnitude
    clipped at 1e-5, no centring (a wave of n samples has n // hop frames).
    """

    sample_rate: int = 22050
    """Hz"""
    n_fft: int = 1024
    """samples, also the length of the Hann window"""
    hop: int = 256
    """samples from frame to frame"""
    n_mels: int = 80
    """mel bins, M"""
    fmin: float = 0.0
    """Hz, lower edge of the lowest mel filter"""
    fmax: float = 8000.0
    """Hz, upper edge of the highest mel filter"""

    def __post_init__(self):
        limit("audio", self, **dict.fromkeys(("sample_rate", "n_fft", "hop", "n_mels"), COUNT))

    @property
    def frame_seconds(self) -> float:
        return self.hop / self.sample_rate

    def check_equal(self, other: "Audio", here: str, there: str) -> None:
        """Raises UserError naming the first field that differs between `here` (self) and `there` (other)."""
        for f in dataclasses.fields(self):
            a, b = getattr(self, f.name), getattr(other, f.name)
            if a != b:
                raise UserError(
                    f"mel definitions differ: {f.name} is {a} in {here} but {b} in {there}; "
                    f"prepare the features again with {f.name}={b}, or use a run trained with {f.name}={a}"
                )


@dataclass(frozen=True)
class Data:
    """What a training step reads."""

    features: str = ""
    """feature store written by `tts-gen prepare` or `tts-gen mix`: a folder, or an address such as gs://bucket/store"""
    buckets: tuple[int, ...] = (24, 64, 128)
    """lengths that batches are padded to: phonemes (prosody), or the one crop length in frames (acoustic)"""
    batch_size: int = 1024
    """positions in a batch over all devices, padding included; a bucket of length L holds batch_size // L sequences"""
    row_multiple: int = 8
    """sequences in a batch are a multiple of it, so that the same batch divides over 1, 2, 4 or 8 devices; a batch for
    more of them needs a larger one"""
    context: int = 8
    """acoustic: phonemes kept before and after a crop for the encoder to see"""
    max_phonemes: int = 64
    """acoustic: phonemes that a crop and its context may hold"""
    utterances: int = 0
    """train on that many utterances of the training split, drawn by train.seed, a smaller number's among a larger's; 0:
    on all. Statistics and inventory stay those of the whole split"""
    speaker_embeddings: str = ""
    """.npz file of a vector for each speaker or utterance, which stands for the table of speakers
    (features/embeddings.py); empty: the table"""

    def __post_init__(self):
        limit("data", self, row_multiple=COUNT, context=(0, math.inf), max_phonemes=COUNT, utterances=(0, math.inf))
        if not self.buckets or any(isinstance(b, int) and b < 1 for b in self.buckets):
            raise UserError(f"data.buckets is {self.buckets or 'empty'}; give lengths, such as 24,64,128")


@dataclass(frozen=True)
class Encoder:
    """The encoder, alike in every family."""

    width: int = 128
    """D"""
    conv_layers: int = 2
    """convolutions before the transformer blocks"""
    kernel: int = 5
    """positions that a convolution sees"""
    layers: int = 2
    """transformer blocks"""
    heads: int = 2
    """of attention"""
    dropout: float = 0.1
    """of what each block adds"""
    label_dropout: float = 0.0
    """probability that an utterance's speaker and style count as unknown in a training step: what guidance needs"""
    positions: bool = False
    """whether it is told where a phoneme stands: its word in the phrase, its syllable in the word"""

    def __post_init__(self):
        limit("encoder", self, width=COUNT, kernel=COUNT, heads=COUNT, conv_layers=(0, math.inf), layers=(0, math.inf))
        limit("encoder", self, dropout=SHARE, label_dropout=SHARE)
        if self.width % (2 * self.heads):
            raise UserError(f"encoder.width {self.width} is not a multiple of twice encoder.heads {self.heads}")


@dataclass(frozen=True)
class Decoder:
    """Settings of a decoder family. Each family's file has a subclass; `decoders.DECODERS` lists them."""

    @property
    def label(self) -> str:
        """The family's name in rows and reports."""
        raise NotImplementedError

    @property
    def generative(self) -> bool:
        """Whether `sample` draws: there is noise that a temperature scales."""
        return True

    @property
    def exact(self) -> bool:
        """Whether `loss` is -log p / C, a density's (or a bound of it)."""
        return False

    @property
    def guided(self) -> bool:
        """Whether `sample` takes classifier-free guidance."""
        return True

    @property
    def evaluations(self) -> int:
        """Of the network in one `sample`."""
        return 1

    @property
    def multiple(self) -> int:
        """Neighbouring positions that the decoder merges: lengths must be multiples of it."""
        return 1

    @property
    def compiler_options(self) -> dict[str, str]:
        """XLA's, for a training step on the devices that are there."""
        return {}


@dataclass(frozen=True)
class Train:
    """The training loop."""

    steps: int = 1000
    """where to stop; more can be asked for later, the run goes on"""
    init_from: str = ""
    """another run, whose parameters this one starts from (fine-tuning). The ways to start, in this order: the newest
    checkpoint in the workdir; init_from; from nothing. Phonemes, speakers and styles that it does not know get new
    rows"""
    frozen: tuple[str, ...] = ()
    """parameters that stay as they start, by the beginning of their path: encoder, encoder/speaker, decoder"""
    optimizer: typing.Literal["adamw", "gan_adamw", "nadamw", "radam", "adabelief", "lion", "rmsprop", "sgd"] = "adamw"
    """optax's, each with decoupled weight decay"""
    learning_rate: float = 1e-3
    """peak, after a linear warm-up"""
    warmup: int = 50
    """steps"""
    decay: typing.Literal["cosine", "linear", "constant", "rsqrt"] = "cosine"
    """of the learning rate after the warm-up: to a twentieth (cosine, linear), not at all, or as 1 / sqrt(step)"""
    decay_steps: int = 1000
    """step at which cosine and linear end; not `steps`, so that stopping early or going on changes no step that both
    runs take"""
    weight_decay: float = 1e-2
    decay_on: typing.Literal["kernels", "all"] = "kernels"
    """what weight decay acts on: kernels of dense layers and convolutions, or also biases, norms and embeddings"""
    clip: float = 1.0
    """largest global norm of the gradient"""
    ema: float = 0.99
    """decay of the parameters' running mean, which is what is evaluated; shorter memory in the first steps"""
    seed: int = 0
    precision: typing.Literal["float32", "bfloat16"] = "float32"
    """of the networks' arithmetic; parameters, their gradients' sums, statistics and likelihoods are float32 always"""
    accumulate: int = 1
    """parts that a batch is taken in, one after the other: less memory, the same step"""
    remat: bool = False
    """compute layers again in the backward pass instead of keeping what is inside them: less memory, about a third more
    time"""
    fsdp: int = 1
    """devices that share one copy of the parameters, their mean and the optimiser's moments; 1: each holds all"""
    log_every: int = 10
    """steps"""
    save_every: int = 100
    """steps between validations, each followed by a checkpoint"""
    keep_latest: int = 2
    """newest checkpoints kept"""
    keep_best: int = 1
    """checkpoints kept with the lowest best_metric; the lowest is what is evaluated"""
    best_metric: str = "val_loss"
    """one of the validation's figures in metrics.jsonl: val_loss, val_bits_per_dim (flow, gaussian, mdn)"""
    checkpoints: str = ""
    """folder or address (gs://bucket/run, which needs gcsfs) for the checkpoints of this run alone; in the workdir if
    empty"""
    sample_every: int = 1000
    """steps between samples of held-out utterances: their spread and pictures go to TensorBoard; 0: none"""
    max_skipped: int = 20
    """steps in a row with a non-finite loss or gradient before the run stops"""
    step_limit: float = 300.0
    """seconds for a step after which stacks, and which process is late, are logged"""
    measure_peak: bool = False
    """time a matrix product first, so that speed is given in % of it; known accelerators need no measurement"""

    def __post_init__(self):
        names = ("steps", "accumulate", "fsdp", "log_every", "save_every", "keep_latest", "keep_best", "max_skipped",
                 "decay_steps")  # fmt: skip
        limit("train", self, **dict.fromkeys(names, COUNT), clip=(1e-12, math.inf), step_limit=(1.0, math.inf))
        none_is_fine = ("learning_rate", "weight_decay", "sample_every")
        limit("train", self, **dict.fromkeys(none_is_fine, (0, math.inf)), warmup=(0, 10**9))
        limit("train", self, ema=(0.0, 1.0), seed=(0, 2**32 - 1))


@dataclass(frozen=True)
class Config:
    """One run: a task, a decoder family, and everything that a comparison holds equal."""

    task: typing.Literal["prosody", "acoustic", "contour"] = "prosody"
    """log-f0 and duration of phonemes; mel-spectrograms; or log-f0 of frames, to compare with that of phonemes"""
    data: Data = field(default_factory=Data)
    encoder: Encoder = field(default_factory=Encoder)
    decoder: Decoder = field(default_factory=Decoder)
    train: Train = field(default_factory=Train)
    energy: bool = False
    """prosody: model the energy of phonemes too; acoustic: be given it, so that both runs of a pair need the same"""


def read_config_file(path: str | Path) -> Config:
    """The `config` of a Python file. Raises UserError when the file, or a `config` in it, does not exist, and for a
    value that its field does not take."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such config file; see configs/ for those that exist")
    spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # a misspelt field, for one, but the file may hold any Python
        raise UserError(f"{path}: {type(error).__name__}: {error}") from error
    if not isinstance(getattr(module, "config", None), Config):
        raise UserError(f"{path}: defines no `config = Config(...)`")
    _check(module.config, str(path))
    return module.config


def _check(value: typing.Any, where: str) -> None:
    """Raises UserError for a field of a dataclass, or of one within it, that its type does not allow."""
    hints = typing.get_type_hints(type(value))
    for f in dataclasses.fields(value):
        held = getattr(value, f.name)
        if dataclasses.is_dataclass(held):
            _check(held, f"{where}: {f.name}")
        else:
            _convert(hints[f.name], held, f"{where}: {f.name}")


def from_dict(cls: type, values: dict, where: str) -> typing.Any:
    """Dataclass `cls` from JSON values. Raises UserError for unknown names (listing the valid ones) and for missing
    ones."""
    hints = typing.get_type_hints(cls)
    valid = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(valid))
    if unknown:
        raise UserError(f"{where}: {cls.__name__} has no {', '.join(unknown)}; valid names are {', '.join(valid)}")
    required = {
        n for n, f in valid.items() if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(values)):
        raise UserError(f"{where}: {cls.__name__} lacks {', '.join(missing)}")
    return cls(**{name: _convert(hints[name], value, f"{where}: {name}") for name, value in values.items()})


def _convert(hint: typing.Any, value: typing.Any, where: str) -> typing.Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise UserError(f"{where}: expected an object, found {value!r}")
        return from_dict(hint, value, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise UserError(f"{where}: expected a list, found {value!r}")
        inner = typing.get_args(hint)[0]
        return tuple(_convert(inner, v, where) for v in value)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _convert(next(a for a in typing.get_args(hint) if a is not type(None)), value, where)
    if origin is typing.Literal:
        if value not in typing.get_args(hint):
            raise UserError(f"{where}: {value!r} is not one of {', '.join(map(str, typing.get_args(hint)))}")
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1000:
        return float(value)
    if isinstance(hint, type) and (
        not isinstance(value, hint)
        or (isinstance(value, float) and not math.isfinite(value))
        or (isinstance(value, bool) and hint is not bool)
    ):
        raise UserError(f"{where}: expected {hint.__name__}, found {repr(value)[:80]}")
    return value
