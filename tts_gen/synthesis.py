"""Text to speech: front end, prosody model, acoustic model, vocoder."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from tts_gen import text
from tts_gen.batches import whole_batches
from tts_gen.config import UserError, limit
from tts_gen.corpora import espeak
from tts_gen.features.durations import round_durations, whole_frames
from tts_gen.features.embeddings import unit
from tts_gen.features.store import Features
from tts_gen.runs import JointRun, Run, check_temperature
from tts_gen.text.classes import ARPABET_VOWELS

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Controls:
    """What a caller may ask of a sentence."""

    prosody_temperature: float = 0.8
    acoustic_temperature: float = 0.667
    seed: int = 0
    speaker: str | None = None
    """None: the only speaker, or the one called "unknown" where utterances had no label"""
    style: str | None = None
    pace: float = 1.0
    """2 is twice as fast"""
    pitch: float = 0.0
    """semitones"""
    pitch_range: float = 1.0
    """factor of log-f0's distance from the sentence's mean: 0 is a monotone"""
    temperature: float = 0.667
    """of a joint run"""
    language: str = "en-us"
    """espeak-ng's voice that reads the texts, for runs whose phones are IPA"""
    phonemes: bool = False
    """whether the texts are phones, written as in a manifest's `phonemes`"""
    speaker_embedding: tuple[float, ...] = ()
    """a voice [E] of any norm, for runs trained with speaker embeddings; pitch is in the range of `speaker`, None: of
    "unknown". Empty: the voice of `speaker`"""

    def __post_init__(self) -> None:
        """Raises UserError for values with which nobody speaks."""
        temperatures = dict.fromkeys(("prosody_temperature", "acoustic_temperature", "temperature"), (0.0, 10.0))
        limit("controls", self, **temperatures, seed=(0, 2**32 - 1), pace=(0.1, 10.0), pitch=(-24.0, 24.0),
              pitch_range=(0.0, 10.0))  # fmt: skip


@dataclass(frozen=True)
class Spoken:
    """One sentence: its phonemes with generated prosody, and its mel [T, M]."""

    features: Features | None
    """None where a joint model made the mel"""
    mel: np.ndarray


def joined(parts: Sequence[Spoken]) -> Spoken:
    """One after the other: each begins and ends with a pause."""
    if len(parts) == 1:
        return parts[0]
    mel, features = np.concatenate([part.mel for part in parts]), parts[0].features
    if features is not None:
        positions = ("phoneme", "stress", "edge", "punctuation", "duration", "log_f0", "voiced", "mel")
        positions += () if features.energy is None else ("energy",)
        columns = {name: np.concatenate([getattr(part.features, name) for part in parts]) for name in positions}
        features = replace(features, **columns)
    return Spoken(features, mel)


def check_runs(given: Mapping[str, Run | JointRun]) -> None:
    """Task -> run of it. Raises UserError for one of another task, and when two cannot work together: phonemes and
    voices, mel definition, energy."""
    for task, run in given.items():
        if run.config.task != task:
            raise UserError(f"{run.path} is a run of the {run.config.task} task; give a {task} run as --{task}")
    if "prosody" not in given:
        return
    prosody, acoustic = given["prosody"], given["acoustic"]
    prosody.audio.check_equal(acoustic.audio, str(prosody.path), str(acoustic.path))
    if prosody.inventory != acoustic.inventory:
        raise UserError(f"{prosody.path} and {acoustic.path} were trained with different phonemes, speakers or styles")
    if prosody.config.energy != acoustic.config.energy:
        has, lacks = (prosody, acoustic) if prosody.config.energy else (acoustic, prosody)
        raise UserError(f"{has.path} was trained with --energy and {lacks.path} without; give two runs that are alike")


def speak(texts: Sequence[str], prosody: Run, acoustic: Run, controls: Controls = Controls()) -> list[Spoken]:
    """Mels of sentences, batched. Raises UserError for text that cannot be read (naming it), for unknown labels and for
    temperatures below 0."""
    check_runs({"prosody": prosody, "acoustic": acoustic})
    sentences = [read(sentence, prosody, controls) for sentence in texts]
    return voice(intone(sentences, prosody, controls), acoustic, controls)


def intone(sentences: Sequence[Features], prosody: Run, controls: Controls, part: int = 0) -> list[Features]:
    """Sentences that `read` made, with sampled prosody; `part`: of a longer list, each with draws of its own."""
    check_temperature(controls.prosody_temperature)
    key, _ = _keys(controls, part)
    sentences = with_embedding(sentences, prosody, controls)
    return add_prosody(sentences, prosody, key, controls.prosody_temperature, controls.pace)


def voice(sentences: Sequence[Features], acoustic: Run, controls: Controls, part: int = 0) -> list[Spoken]:
    """Mels of sentences that have prosody, whose pitch is moved as asked; `part` as for `intone`."""
    check_temperature(controls.acoustic_temperature)
    sentences = [moved(u, controls.pitch, controls.pitch_range) for u in with_embedding(sentences, acoustic, controls)]
    _, key = _keys(controls, part)
    mels = mels_of(sentences, acoustic, key, controls.acoustic_temperature)
    return [Spoken(u, mel) for u, mel in zip(sentences, mels, strict=True)]


def with_embedding(sentences: Sequence[Features], run: Run, controls: Controls) -> list[Features]:
    """Sentences with the speaker embedding that the run reads, if it reads any: the one that is asked for, or their
    speaker's. Raises UserError for one that the run cannot read."""
    asked, vectors = controls.speaker_embedding, run.speaker_embeddings
    if vectors is None and asked:
        raise UserError(
            f"{run.path} has a table of speakers and takes no speaker embedding; name one of its speakers, or give a "
            "run trained with --data.speaker-embeddings"
        )
    if vectors is None:
        return list(sentences)
    if asked and len(asked) != vectors.shape[1]:
        raise UserError(
            f"the speaker embedding has {len(asked)} values; {run.path} was trained with {vectors.shape[1]}: make it "
            "as those were made"
        )
    voice = unit(asked, "the speaker embedding") if asked else None
    return [replace(u, speaker_embedding=vectors[u.speaker] if voice is None else voice) for u in sentences]


def _keys(controls: Controls, part: int) -> jax.Array:
    """Of prosody and of mels."""
    return jax.random.split(jax.random.fold_in(jax.random.key(controls.seed), part))


def moved(spoken: Features, semitones: float, pitch_range: float = 1.0) -> Features:
    """Its log-f0 shifted, and spread about its mean by that factor."""
    if not spoken.voiced.any():
        return spoken
    spread = spoken.log_f0 - np.mean(spoken.log_f0[spoken.voiced])
    log_f0 = spoken.log_f0 + (pitch_range - 1) * spread + semitones * np.log(2) / 12
    return replace(spoken, log_f0=log_f0.astype(np.float32))


def paced(spoken: Features, pace: float) -> Features:
    """At that pace, with a mel of zeros of its length: of prosody that no model makes."""
    duration = round_durations(np.maximum(spoken.duration / pace, 0.5) + 0.5)
    mel = np.zeros((duration.sum(), spoken.mel.shape[1]), np.float32)
    return replace(spoken, duration=duration, mel=mel)


def mels_of(utterances: Sequence[Features], run: Run, key: jax.Array, temperature: float) -> list[np.ndarray]:
    """Log-mels [T, M] of utterances by their prosody. Raises UserError where the run needs energy and they have
    none."""
    if run.config.energy and any(u.energy is None for u in utterances):
        raise UserError(
            f"{run.path} needs the energy of phonemes, and this prosody has none; take prosody from a run trained with "
            "--energy, or give an acoustic run trained without"
        )
    mels: list = [None] * len(utterances)
    for i, (places, batch) in enumerate(whole_batches(utterances, run.stats, "acoustic")):
        y = np.asarray(run.sample(run.variables, batch, jax.random.fold_in(key, i), temperature))
        for row, place in enumerate(places):
            mels[place] = run.stats.denormalise_mel(y[row, : batch["frames"][row]])
    return mels


def speak_joint(
    texts: Sequence[str], run: JointRun, controls: Controls = Controls(), part: int = 0
) -> list[np.ndarray]:
    """Log-mels [T, M] of sentences by a text-to-mel model, batched; `part` as for `intone`. Raises UserError for text
    that its symbols cannot write (naming it), an unknown speaker, a run of another task, and what such a model cannot
    do."""
    check_runs({"joint": run})
    cannot = {"style": controls.style is not None, "pitch": controls.pitch != 0, "range": controls.pitch_range != 1,
              "speaker-embedding": bool(controls.speaker_embedding)}  # fmt: skip
    for name, asked in cannot.items():
        if asked:
            raise UserError(f"{run.path} is a joint run, which has no {name} to choose; leave out --{name}")
    check_temperature(controls.temperature)
    sentences = [run.front_end.encode(text) for text in texts]
    speakers = [run.front_end.speaker_id(controls.speaker)] * len(texts)
    key = jax.random.fold_in(jax.random.key(controls.seed), part)
    mels = run.sample(sentences, speakers, key, controls.temperature, controls.pace)
    for sentence, mel in zip(texts, mels, strict=True):
        if not np.isfinite(mel).all():
            raise UserError(f"text {sentence!r}: the mel of {run.path} is not finite at temperature "
                            f"{controls.temperature}; lower it")  # fmt: skip
    return mels


def labels(run: Run, controls: Controls) -> tuple[int, int]:
    """Ids of speaker and style. A speaker that is not named is the only one there is, or `unknown` for a voice of its
    own; a style, the unlabelled one."""
    speaker, named = controls.speaker, run.inventory.speakers[1:]
    if controls.speaker_embedding:
        named = ()
    if speaker is None and len(named) > 1:
        raise UserError(
            f"{run.path} has several speakers; name one with --speaker: {', '.join(run.inventory.speakers)}"
        )
    if speaker is None and named:
        speaker = named[0]
    return run.inventory.speaker_id(speaker), run.inventory.style_id(controls.style)


def read(sentence: str, run: Run, controls: Controls) -> Features:
    """Phonemes of a sentence, without prosody yet. Raises UserError for text that cannot be read, which it names, and
    for unknown labels."""
    try:
        return encode(_phonemes(sentence, run, controls), run, controls)
    except UserError as error:
        raise UserError(f"text {sentence!r}: {error}") from error


def _phonemes(sentence: str, run: Run, controls: Controls) -> list[text.Phoneme]:
    return text.parse(sentence.split()) if controls.phonemes else text.phonemes(words(sentence, run, controls))


def words(sentence: str, run: Run, controls: Controls) -> list[text.Word]:
    """By the front end whose phones the run knows: ARPAbet's, or espeak-ng's IPA."""
    if ARPABET_VOWELS & set(run.inventory.phonemes):
        return text.words(sentence)
    if controls.language.startswith("en"):
        text.words(sentence)  # refuses characters that cannot be read in English
    return espeak.words(sentence, controls.language)


def encode(phonemes: Sequence[text.Phoneme], run: Run, controls: Controls) -> Features:
    """Without prosody yet. Raises UserError for a phoneme and for labels that the run does not know."""
    encoded, (speaker, style) = run.inventory.encode(phonemes), labels(run, controls)
    n = len(encoded["phoneme"])
    return Features(
        **encoded,
        duration=np.ones(n, np.int32),
        log_f0=np.full(n, np.nan, np.float32),
        voiced=run.inventory.phone_voiced(encoded["phoneme"]),
        mel=np.zeros((n, len(run.stats.mel_mean)), np.float32),
        speaker=speaker,
        style=style,
    )


def add_prosody(
    sentences: Sequence[Features], run: Run, key: jax.Array, temperature: float, pace: float = 1.0
) -> list[Features]:
    """Sentences with sampled durations, log-f0 and energy (None of a run without), voiced where they say so, and mels
    of zeros of that length. Raises UserError for values that are not finite."""
    result: list = [None] * len(sentences)
    for i, (places, batch) in enumerate(whole_batches(sentences, run.stats, "prosody")):
        y = np.asarray(run.sample(run.variables, batch, jax.random.fold_in(key, i), temperature))
        for row, place in enumerate(places):
            u = sentences[place]
            values = y[row, : len(u.phoneme)].astype(np.float64)
            if not np.isfinite(values).all():
                raise UserError(f"{run.path}: the model's prosody is not finite at temperature {temperature}; lower it")
            duration = whole_frames(run.stats.denormalise_log_duration(values[:, 1]), pace)
            log_f0 = run.stats.denormalise_log_f0(values[:, 0], np.asarray(u.speaker))
            log_f0 = np.where(u.voiced, log_f0, np.nan).astype(np.float32)
            energy = run.stats.denormalise_energy(values[:, 2]).astype(np.float32) if run.config.energy else None
            mel = np.zeros((duration.sum(), u.mel.shape[1]), np.float32)
            result[place] = replace(u, duration=duration, log_f0=log_f0, energy=energy, mel=mel)
    return result
