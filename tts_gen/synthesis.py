"""Text to speech: front end, prosody model, acoustic model, vocoder."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np

from tts_gen import text
from tts_gen.batches import whole_batches
from tts_gen.config import UserError
from tts_gen.corpora import espeak
from tts_gen.features.durations import whole_frames
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
    temperature: float = 0.667
    """of a joint run"""
    language: str = "en-us"
    """espeak-ng's voice that reads the texts, for runs whose phones are IPA"""
    phonemes: bool = False
    """whether the texts are phones, written as in a manifest's `phonemes`"""


@dataclass(frozen=True)
class Spoken:
    """One sentence: its phonemes with generated prosody, and its mel [T, M]."""

    features: Features
    mel: np.ndarray


def check_pair(prosody: Run, acoustic: Run) -> None:
    """Raises UserError when the runs cannot work together: tasks, phonemes and voices, mel definition."""
    for run, task in ((prosody, "prosody"), (acoustic, "acoustic")):
        if run.config.task != task:
            raise UserError(f"{run.path} is a run of the {run.config.task} task; give a {task} run as --{task}")
    prosody.audio.check_equal(acoustic.audio, str(prosody.path), str(acoustic.path))
    if prosody.inventory != acoustic.inventory:
        raise UserError(f"{prosody.path} and {acoustic.path} were trained with different phonemes, speakers or styles")


def speak(texts: Sequence[str], prosody: Run, acoustic: Run, controls: Controls = Controls()) -> list[Spoken]:
    """Mels of sentences, batched. Raises UserError for text that cannot be read (naming it), for unknown labels and for
    temperatures below 0."""
    check_pair(prosody, acoustic)
    for temperature in (controls.prosody_temperature, controls.acoustic_temperature):
        check_temperature(temperature)
    for run in (prosody, acoustic):
        if not run.config.decoder.generative:
            log.info("%s is a regression: one answer, whatever the temperature", run.path)
    speaker, style = _voice(prosody, controls)
    sentences = [_read(t, prosody, speaker, style, controls) for t in texts]
    prosody_key, acoustic_key = jax.random.split(jax.random.key(controls.seed))
    spoken = add_prosody(sentences, prosody, prosody_key, controls.prosody_temperature, controls.pace, controls.pitch)
    mels = mels_of(spoken, acoustic, acoustic_key, controls.acoustic_temperature)
    return [Spoken(f, mel) for f, mel in zip(spoken, mels, strict=True)]


def mels_of(utterances: Sequence[Features], run: Run, key: jax.Array, temperature: float) -> list[np.ndarray]:
    """Log-mels [T, M] of utterances by their prosody."""
    mels: list = [None] * len(utterances)
    for i, (places, batch) in enumerate(whole_batches(utterances, run.stats, "acoustic")):
        y = np.asarray(run.sample(run.variables, batch, jax.random.fold_in(key, i), temperature))
        for row, place in enumerate(places):
            mels[place] = run.stats.denormalise_mel(y[row, : batch["frames"][row]])
    return mels


def speak_joint(texts: Sequence[str], run: JointRun, controls: Controls = Controls()) -> list[np.ndarray]:
    """Log-mels [T, M] of sentences by a text-to-mel model, batched. Raises UserError for text that its symbols cannot
    write (naming it), an unknown speaker, a run of another task, and what such a model cannot do."""
    if run.config.task != "joint":
        raise UserError(f"{run.path} is a run of the {run.config.task} task; give a joint run as --joint")
    for name, asked in (("style", controls.style is not None), ("pitch", controls.pitch != 0)):
        if asked:
            raise UserError(f"{run.path} is a joint run, which has no {name} to choose; leave out --{name}")
    check_temperature(controls.temperature)
    sentences = [run.front_end.encode(text) for text in texts]
    speakers = [run.front_end.speaker_id(controls.speaker)] * len(texts)
    mels = run.sample(sentences, speakers, jax.random.key(controls.seed), controls.temperature, controls.pace)
    for sentence, mel in zip(texts, mels, strict=True):
        if not np.isfinite(mel).all():
            raise UserError(f"text {sentence!r}: the mel of {run.path} is not finite at temperature "
                            f"{controls.temperature}; lower it")  # fmt: skip
    return mels


def _voice(run: Run, controls: Controls) -> tuple[int, int]:
    """Ids of speaker and style. A speaker that is not named is the only one there is; a style, the unlabelled one."""
    speaker, named = controls.speaker, run.inventory.speakers[1:]
    if speaker is None and len(named) > 1:
        raise UserError(
            f"{run.path} has several speakers; name one with --speaker: {', '.join(run.inventory.speakers)}"
        )
    if speaker is None and named:
        speaker = named[0]
    return run.inventory.speaker_id(speaker), run.inventory.style_id(controls.style)


def _read(sentence: str, run: Run, speaker: int, style: int, controls: Controls) -> Features:
    """Phonemes of a sentence, without prosody yet."""
    try:
        encoded = run.inventory.encode(_phonemes(sentence, run, controls))
    except UserError as error:
        raise UserError(f"text {sentence!r}: {error}") from error
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


def _phonemes(sentence: str, run: Run, controls: Controls) -> list[text.Phoneme]:
    """As given, or by the front end whose phones the run knows: ARPAbet's, or espeak-ng's IPA."""
    if controls.phonemes:
        return text.parse(sentence.split())
    if ARPABET_VOWELS & set(run.inventory.phonemes):
        return text.phonemes(text.words(sentence))
    if controls.language.startswith("en"):
        text.words(sentence)  # refuses characters that cannot be read in English
    return text.phonemes(espeak.words(sentence, controls.language))


def add_prosody(
    sentences: Sequence[Features], run: Run, key: jax.Array, temperature: float, pace: float = 1.0, pitch: float = 0.0
) -> list[Features]:
    """Sentences with sampled durations and log-f0, voiced where they say so, and mels of zeros of that length. Raises
    UserError for values that are not finite."""
    result: list = [None] * len(sentences)
    for i, (places, batch) in enumerate(whole_batches(sentences, run.stats, "prosody")):
        y = np.asarray(run.sample(run.variables, batch, jax.random.fold_in(key, i), temperature))
        for row, place in enumerate(places):
            u = sentences[place]
            values = y[row, : len(u.phoneme)].astype(np.float64)
            if not np.isfinite(values).all():
                raise UserError(f"{run.path}: the model's prosody is not finite at temperature {temperature}; lower it")
            duration = whole_frames(run.stats.denormalise_log_duration(values[:, 1]), pace)
            log_f0 = run.stats.denormalise_log_f0(values[:, 0], np.asarray(u.speaker)) + pitch * np.log(2) / 12
            log_f0 = np.where(u.voiced, log_f0, np.nan).astype(np.float32)
            mel = np.zeros((duration.sum(), u.mel.shape[1]), np.float32)
            result[place] = replace(u, duration=duration, log_f0=log_f0, mel=mel)
    return result
