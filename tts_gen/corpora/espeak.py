"""Synthetic speech with exact phoneme times, by espeak-ng from the espeakng-loader wheel: no network, no other program.

For machines without apt, and for tests that need the truth about phonemes and durations. It is no substitute for
recorded speech: its prosody is a formula of the text, and of the pace and pitch drawn for each utterance.
"""

import ctypes
import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from tts_gen.config import UserError
from tts_gen.corpora import UNTIMED, Utterance, write_manifest
from tts_gen.corpora.building import report, track, write_wav
from tts_gen.corpora.sentences import sentences
from tts_gen.corpora.splits import near_duplicates, split
from tts_gen.text import Word

VOICES = ("en-us+m1", "en-us+m3", "en-us+m7", "en-us+f2", "en-us+f4", "en+m2", "en+f1", "en+f5")
"""speakers of the corpus: American, and British ("en"), each with a variant of the voice"""
SILENCE = 0.1
"""seconds added before and after the speech, so that every utterance begins and ends with a pause, as recordings do"""
PAUSE = "pau"
NOTICE = """\
Synthesised by espeak-ng (GPL-3.0-or-later, from the espeakng-loader package) from sentences of tts_gen. The sound
output of a program is not covered by its licence: these files may be used freely.
"""

# From espeak-ng's speak_lib.h.
_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA, _NO_EXIT, _UTF8 = 2, 1, 2, 0x8000, 1
_RATE, _PITCH, _RANGE = 1, 3, 4
_END, _WORD, _PHONEME = 0, 1, 7
_IPA, _SEPARATOR = 2, "_"  # of espeak_TextToPhonemes
_WIDE_MARKS = {ord(wide): mark + " " for wide, mark in zip("，。？！：；、", ",.?!:;,", strict=True)}


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def build(directory: Path, debs: Sequence[Path] = (), workers: int = 2, seed: int = 0, count: int = 480) -> Path:
    """Writes a corpus of `count` different sentences into `directory` and returns the path of its manifest.

    The speaker, pace, pitch and pitch range of each are drawn from the seed; its style is the kind of sentence.
    Everything is made anew on every run (a minute of speech takes a tenth of a second). espeak-ng keeps its state in
    globals, so one process does the work whatever `workers` is; `debs` must be empty.
    """
    if debs:
        raise UserError(f"corpus espeak takes no Debian packages; leave out --deb {debs[0]}")
    folder = directory / "audio"
    folder.mkdir(parents=True, exist_ok=True)
    (directory / "LICENCE.txt").write_text(NOTICE, encoding="utf-8")
    texts = sentences(count, seed)
    ids = [f"espeak-{n:04d}" for n in range(count)]
    rng = random.Random(seed)
    utterances, seconds = [], {}
    for name, (text, style) in track(zip(ids, texts), count, "synthesising"):
        voice = rng.choice(VOICES)
        rate, pitch, spread = rng.randint(130, 210), rng.randint(30, 70), rng.randint(20, 90)
        wave, sample_rate, phonemes, durations = synthesize(text, voice, rate, pitch, spread)
        path = folder / f"{name}.wav"
        write_wav(path, wave, sample_rate)
        seconds[name] = len(wave) / sample_rate
        utterances.append(
            Utterance(
                name, path, text, voice, style, licence="none", phonemes=tuple(phonemes), durations=tuple(durations)
            )
        )
    utterances = _divide(utterances, seconds, seed)
    report("espeak (synthetic speech)", utterances, seconds, [])
    write_manifest(directory / "manifest.jsonl", utterances)
    return directory / "manifest.jsonl"


def synthesize(
    text: str, voice: str = "en-us", rate: int = 175, pitch: int = 50, range: int = 50
) -> tuple[np.ndarray, int, list[str], list[float]]:
    """Speech for a text: (wave[n] float32 in -1..1, sample rate in Hz, phonemes, durations).

    rate: words a minute, 80 to 450. pitch, range: 0 to 99. Phonemes and durations are as in `Utterance`, the phones and
    stress marks espeak's IPA ("ˈɑː"); each duration runs to the start of the next phoneme (some l get none: espeak
    sounds them within the vowel), and together they fill the wave exactly. Not thread-safe. espeak-ng is not
    reproducible bit for bit: noise and phase differ between runs, and lengths by up to 2 ms within a process; once in
    tens of thousands of calls a phoneme comes without its name and is counted to the one before. Raises UserError for
    an unknown voice and for a text without a phone.
    """
    library, sample_rate, data = _library()
    _set_voice(library, data, voice)
    for parameter, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, range)):
        library.espeak_SetParameter(parameter, value, 0)
    samples = bytearray()
    events: list[_Event] = []

    def receive(wave, n: int, event) -> int:
        if n > 0:
            samples.extend(ctypes.string_at(wave, 2 * n))
        i = 0
        while event[i].type != _END:
            events.append(_Event.from_buffer_copy(event[i]))
            i += 1
        return 0

    callback = _Callback(receive)  # held here: ctypes keeps no reference
    library.espeak_SetSynthCallback(callback)
    encoded = text.encode()
    library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None)
    silence = np.zeros(round(SILENCE * sample_rate), np.float32)
    speech = np.frombuffer(bytes(samples), np.int16).astype(np.float32) / 32768
    wave = np.concatenate([silence, speech, silence])
    phonemes, starts = _phonemes(events, text, len(silence))
    if set(phonemes) <= UNTIMED | {PAUSE}:
        raise UserError(f"espeak-ng finds nothing to say in {text!r}; give at least one word")
    bounds = np.array([*starts, len(wave)])
    return wave, sample_rate, phonemes, (np.diff(bounds) / sample_rate).tolist()


def ipa(text: str, voice: str = "en-us") -> str:
    """The IPA of a text as espeak-ng writes it: phones of a word without a gap, stress marks before vowels, a space
    between words, no punctuation. Empty where there is nothing to say. Not thread-safe."""
    return _translate(text, voice, _IPA)


def words(text: str, voice: str = "en-us") -> list[Word]:
    """The words of a text in any of espeak-ng's languages ("de", "fr", "cmn"), as read aloud ("25" is two), with their
    phones in IPA. Not thread-safe. Raises UserError for an unknown voice and for a text with nothing to say."""
    found: list[Word] = []
    clauses = re.split(r"([,.?!:;])(?=[\s”’»\")]|$)", text.translate(_WIDE_MARKS))
    for clause, mark in itertools.zip_longest(clauses[::2], clauses[1::2], fillvalue=""):
        said = _translate(clause, voice, _IPA | ord(_SEPARATOR) << 8).replace("-", "").split()  # - marks a liaison
        phones = [tuple(filter(None, word.split(_SEPARATOR))) for word in said]
        found += [Word("".join(p), (p,), mark if i == len(phones) else "") for i, p in enumerate(phones, 1) if p]
    if not found:
        raise UserError(f"espeak-ng finds nothing to say in {text!r}; give at least one word")
    return found


def _translate(text: str, voice: str, mode: int) -> str:
    library, _, data = _library()
    _set_voice(library, data, voice)
    translate = library.espeak_TextToPhonemes
    translate.restype = ctypes.c_char_p
    translate.argtypes = [ctypes.POINTER(ctypes.c_char_p), ctypes.c_int, ctypes.c_int]
    rest, clauses = ctypes.c_char_p(text.encode()), []
    while rest.value:  # each call takes one clause and moves on
        clauses.append(translate(ctypes.byref(rest), _UTF8, mode).decode())
    # A word of another language is marked so: "(fr)...(en)".
    return " ".join(re.sub(r"\([a-z-]+\)", "", " ".join(clauses)).split())


def _phonemes(events: Sequence[_Event], text: str, offset: int) -> tuple[list[str], list[int]]:
    """Symbols in the manifest's notation, a pause first and last, and the first sample of each that is timed."""
    symbols, starts, word_end, new_word = [PAUSE], [0], 0, True
    for event in events:
        if event.type == _WORD:
            word_end, new_word = event.text_position - 1 + event.length, True
            if symbols[-1] not in ("|", PAUSE):
                symbols.append("|")
        elif event.type == _PHONEME:
            symbol = event.id.string.decode(errors="ignore") or PAUSE
            if symbol == PAUSE == symbols[-1]:
                continue  # espeak marks both the beginning and the end of a pause
            if symbol == PAUSE:
                symbols += [mark for mark in text[word_end : event.text_position] if mark in UNTIMED][-1:]
            elif symbols[-1] == PAUSE and not new_word:  # a hiatus, as in "piano": its time goes to the phone before
                del symbols[-1], starts[-1]
            symbols.append(symbol)
            starts.append(offset + event.sample)
            new_word = False
    return symbols, starts


@cache
def _library() -> tuple[ctypes.CDLL, int, Path]:
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = espeakng_loader.get_data_path()
    options = _PHONEME_EVENTS | _PHONEME_IPA | _NO_EXIT
    sample_rate = library.espeak_Initialize(_SYNCHRONOUS, 0, str(data).encode(), options)
    if sample_rate <= 0:
        raise UserError(f"espeak-ng does not start with its data in {data}; install espeakng-loader again")
    return library, sample_rate, Path(data)


def _set_voice(library: ctypes.CDLL, data: Path, voice: str) -> None:
    variant = voice.partition("+")[2]
    # espeak-ng itself passes over an unknown variant in silence.
    variants = sorted(path.name for path in (data / "voices" / "!v").iterdir())
    if variant and variant not in variants:
        raise UserError(f"voice {voice!r}: espeak-ng has no variant {variant!r}; it has {', '.join(variants)}")
    if library.espeak_SetVoiceByName(voice.encode()) != 0:
        languages = sorted({path.name for path in (data / "lang").rglob("*") if path.is_file()}, key=str.lower)
        raise UserError(f"espeak-ng has no voice {voice!r}; its languages are {', '.join(languages)}")


def _divide(utterances: list[Utterance], seconds: dict[str, float], seed: int) -> list[Utterance]:
    groups = near_duplicates({u.id: u.text for u in utterances})
    splits = split(
        [groups[u.id] for u in utterances], [seconds[u.id] for u in utterances], [u.style for u in utterances], seed
    )
    return [replace(u, group=groups[u.id], split=s) for u, s in zip(utterances, splits, strict=True)]
