"""Runs models that `tts-gen export` wrote; a copy of this file lies in each such folder, and runs all of them.

It needs numpy, and onnxruntime for folders with a model.onnx, or else jax and flatbuffers, with which jax reads its
artefacts; nothing of tts_gen. A seed means other numbers to the one than to the other.

    from load import load
    prosody, acoustic, vocoder = load("prosody"), load("acoustic"), load("vocoder")
    phonemes = "pau HH AH0 L OW1 . pau"
    mel = acoustic(phonemes, **prosody(phonemes, temperature=0.8, seed=1), temperature=0.667, seed=1)
    wave = vocoder(mel)    # float32 in -1..1, at vocoder.about["audio"]["sample_rate"]

What the package does as well (phonemes read, durations rounded, f0 drawn through unvoiced phonemes) is written here
again, since this file stands alone; tests/test_export.py holds both equal.

Shapes: B batch, N phonemes, T frames, M mel bins. Every length is padded to one of few, so that few programs are
compiled; what a model draws at a position does not depend on that.
"""

import json
from pathlib import Path

import numpy as np

PAUSE, BOUNDARY = "pau", "|"
SHORTEST_TEXT, SHORTEST_MEL = 32, 256
"""padded lengths start here and double"""
LONGEST = 258
"""frames of a phoneme, three seconds at the usual hop"""


def load(folder=None):
    """The model of a folder (None: of this file's own): Prosody, Acoustic or Vocoder."""
    folder = Path(folder or Path(__file__).parent)
    about = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    kind = {"prosody": Prosody, "acoustic": Acoustic, "vocoder": Vocoder}[about["task"]]
    return kind(folder, about)


class Model:
    def __init__(self, folder, about):
        self.about = about
        self._call = onnx(folder, about) if (folder / "model.onnx").is_file() else _stable_hlo(folder)

    def sample(self, *inputs):
        """The artefact itself: arrays with leading axis B (1 in ONNX), then the seed and the temperature where there is
        noise."""
        return np.asarray(self._call(*inputs))


def _stable_hlo(folder):
    import jax
    from jax import export

    exported = export.deserialize(bytearray((folder / "sample.jax_export").read_bytes()))
    parameters, call = jax.device_put(np.load(folder / "parameters.npy")), jax.jit(exported.call)
    return lambda *inputs: call(parameters, *inputs)


def onnx(folder, about):
    """What `Model.sample` is of a folder's model.onnx."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    providers = onnxruntime.get_available_providers()
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers)
    names = [x.name for x in session.get_inputs()]

    def vocoder(mel, mask):
        return session.run(None, {"mel": mel, "mask": mask})[0]

    def speech(batch, seed, temperature):
        given = batch | noise(about["noise"], batch, seed) | {"temperature": temperature}
        return session.run(None, {name: np.asarray(given[name]) for name in names})[0]

    return vocoder if about["task"] == "vocoder" else speech


def noise(sources, batch, seed):
    """Arrays that the ONNX model of a batch takes its noise from: noise_0, ... [B, L / merged, merged, width], with one
    more axis of solver steps in front where each draws. A position's numbers do not depend on the batch's length."""
    rows, positions = batch["frame_phoneme" if "frame_phoneme" in batch else "phoneme"].shape

    def drawn(i, kind, steps, merged, width):
        def one(step, row):
            rng = np.random.default_rng([int(seed), i, step, row])
            draw = {"normal": rng.standard_normal, "gumbel": lambda size: rng.gumbel(size=size)}[kind]
            return draw((positions, width)).reshape(positions // merged, merged, width)

        of_steps = [[one(step, row) for row in range(rows)] for step in range(steps or 1)]
        return np.array(of_steps if steps else of_steps[0], np.float32)

    return {f"noise_{i}": drawn(i, **source) for i, source in enumerate(sources)}


class Speech(Model):
    """What prosody and acoustic models share: phonemes and voices to arrays."""

    def __init__(self, folder, about):
        super().__init__(folder, about)
        self._stats = {name: np.array(value, np.float32) for name, value in about["stats"].items()}
        self._voices = np.load(folder / "speaker_embeddings.npy") if about.get("speaker_embedding") else None

    def _draw(self, batch, seed, temperature):
        """[L, C] in normalised units."""
        if not 0 <= temperature < float("inf"):
            raise ValueError(
                f"temperature {temperature}: give 0 (no noise), 1 (the model's own) or what lies around it"
            )
        y = self.sample(batch, np.uint32(seed), np.float32(temperature))[0]
        if not np.isfinite(y[: batch["frames" if "frames" in batch else "length"][0]]).all():
            raise ValueError(f"the model's output is not finite at temperature {temperature}; lower it")
        return y

    def _text(self, phonemes, speaker, style, voice):
        """Batch of one sentence; `voice`: None, or a speaker embedding."""
        speaker = self.about["inventory"]["speakers"][0] if speaker is None and voice is not None else speaker
        columns = np.array(self._parse(phonemes.split() if isinstance(phonemes, str) else phonemes), np.int32)
        length = _padded(len(columns), SHORTEST_TEXT)
        names = ("phoneme", "stress", "edge", "punctuation")
        batch = {name: _row(column, length) for name, column in zip(names, columns.T)}
        if self.about["positions"]:
            batch["places"] = np.pad(places(columns), ((0, length - len(columns)), (0, 0)))[None]
        labels = {"speaker": self._id("speakers", speaker), "style": self._id("styles", style)}
        batch |= {k: np.array([v], np.int32) for k, v in (labels | {"length": len(columns)}).items()}
        return batch | self._embedded(labels["speaker"], voice)

    def _embedded(self, speaker, voice):
        """What a model of speaker embeddings reads: the voice given, scaled to length 1, or its speaker's."""
        if self._voices is None:
            if voice is not None:
                raise ValueError("the model has a table of speakers and takes no speaker embedding")
            return {}
        if voice is None:
            return {"speaker_embedding": self._voices[speaker][None]}
        voice, width = np.asarray(voice, np.float64), self._voices.shape[1]
        if voice.shape != (width,) or not np.isfinite(voice).all() or not voice.any():
            raise ValueError(f"the speaker embedding has shape {voice.shape}; give {width} finite values, not all 0")
        return {"speaker_embedding": (voice / np.linalg.norm(voice)).astype(np.float32)[None]}

    def _parse(self, symbols):
        """(phoneme, stress, edge, punctuation) of each phoneme, written as in a manifest's field phonemes."""
        columns, word, marks, pause = [], [], self.about["punctuation"], self._id("phonemes", PAUSE)
        for symbol in [*symbols, BOUNDARY]:
            if symbol not in (BOUNDARY, PAUSE, *marks):
                word.append(self._stressed(symbol))
                continue
            mark, last = marks.index(symbol) if symbol in marks else 0, len(word) - 1
            columns += [(*phone, (i == 0) + 2 * (i == last), mark) for i, phone in enumerate(word)]
            columns += [(pause, 0, 0, 0)] * (symbol == PAUSE)
            word = []
        if all(column[0] == pause for column in columns):
            raise ValueError(f"no phone in {' '.join(symbols)!r}; give at least one")
        return columns

    def _stressed(self, symbol):
        """Id and stress (0 none, 1 unstressed vowel, 2 primary, 3 secondary) of AH0, or of IPA with its marks."""
        known, vowels = self.about["inventory"]["phonemes"], self.about["vowels"]
        if symbol[-1:] in tuple("012") and symbol[:-1] in known and vowels[known.index(symbol[:-1])]:
            return known.index(symbol[:-1]), int(symbol[-1]) + 1
        bare = symbol.replace("ˈ", "").replace("ˌ", "")
        phone = self._id("phonemes", bare)
        return phone, int(vowels[phone]) if bare == symbol else 2 if "ˈ" in symbol else 3

    def _id(self, kind, name):
        names = self.about["inventory"][kind]
        if name is None:  # the only speaker there is; of styles, the unlabelled
            if kind == "speakers" and len(names) > 2:
                raise ValueError(f"name a speaker of {', '.join(names)}")
            return len(names) - 1 if kind == "speakers" else 0
        if name not in names:
            raise ValueError(f"{name!r} is none of the model's {kind}: {', '.join(names)}")
        return names.index(name)


class Prosody(Speech):
    def __call__(self, phonemes, speaker=None, style=None, temperature=0.8, seed=0, speaker_embedding=None):
        """Phonemes -> log_f0 [N] (natural log of Hz, NaN where unvoiced), duration [N] in whole frames, and of a model
        that has it energy [N] in nats."""
        batch = self._text(phonemes, speaker, style, speaker_embedding)
        n, s = batch["length"][0], self._stats
        y = self._draw(batch, seed, temperature)[:n].astype(np.float64)
        voiced = np.array(self.about["inventory"]["voiced"])[batch["phoneme"][0, :n]]
        log_f0 = y[:, 0] * s["log_f0_std"][batch["speaker"]] + s["log_f0_mean"][batch["speaker"]]
        frames = np.exp(
            np.clip(y[:, 1] * s["log_duration_std"] + s["log_duration_mean"], np.log(1e-3), np.log(LONGEST))
        )
        prosody = {"log_f0": np.where(voiced, log_f0, np.nan).astype(np.float32), "duration": whole(frames)}
        if self.about["energy"]:
            prosody["energy"] = (y[:, 2] * s["energy_std"] + s["energy_mean"]).astype(np.float32)
        return prosody


class Acoustic(Speech):
    def __call__(
        self, phonemes, log_f0, duration, speaker=None, style=None, temperature=0.667, seed=0, energy=None,
        speaker_embedding=None,
    ):  # fmt: skip
        """Phonemes, log_f0 [N] (NaN where unvoiced), duration [N] in frames and, of a model that needs it, energy [N]
        in nats -> mel [T, M], natural logarithm."""
        batch = self._text(phonemes, speaker, style, speaker_embedding)
        n, positions = batch["length"][0], batch["phoneme"].shape[1]
        log_f0, duration = np.asarray(log_f0, np.float32), np.asarray(duration, np.int32)
        if log_f0.shape != (n,) or duration.shape != (n,) or duration.min() < 1:
            raise ValueError(f"the text has {n} phonemes; give a log_f0 and a duration of at least 1 frame for each")
        if (energy is not None) != self.about["energy"] or np.shape(energy) not in ((), (n,)):
            raise ValueError(f"the model {'needs the' if self.about['energy'] else 'takes no'} energy of {n} phonemes")
        frames, voiced, s = int(duration.sum()), ~np.isnan(log_f0), self._stats
        log_f0 = (log_f0 - s["log_f0_mean"][batch["speaker"]]) / s["log_f0_std"][batch["speaker"]]
        if voiced.any():  # through unvoiced phonemes, between their neighbours
            log_f0 = np.interp(np.arange(n), np.flatnonzero(voiced), log_f0[voiced]).astype(np.float32)
        else:
            log_f0 = np.zeros(n, np.float32)
        phoneme, length = np.repeat(np.arange(n, dtype=np.int32), duration), _padded(frames, SHORTEST_MEL)
        position = (np.arange(frames) - (np.cumsum(duration) - duration)[phoneme]).astype(np.int32)
        batch |= {
            name: _row(x, positions) for name, x in (("duration", duration), ("log_f0", log_f0), ("voiced", voiced))
        }
        if self.about["energy"]:
            level = (np.asarray(energy, np.float32) - s["energy_mean"]) / s["energy_std"]
            batch["energy"] = _row(level.astype(np.float32), positions)
        batch |= {"frame_phoneme": _row(phoneme, length), "frame_position": _row(position, length)}
        batch["frames"] = np.array([frames], np.int32)
        return self._draw(batch, seed, temperature)[:frames] * s["mel_std"] + s["mel_mean"]


class Vocoder(Model):
    def __call__(self, mel):
        """mel [T, M] as about["audio"] defines it -> wave [T * hop] in -1..1."""
        return np.concatenate([np.zeros(0, np.float32), *self.stream(mel)])

    def stream(self, mel):
        """The wave in pieces. Of each window over the mel those samples are kept that nothing outside it can change, so
        one program serves every length, exactly, and in memory that does not grow with it."""
        mel, audio, reach, window = np.asarray(mel, np.float32), *(self.about[k] for k in ("audio", "reach", "window"))
        if mel.ndim != 2 or mel.shape[1] != audio["n_mels"]:
            raise ValueError(f"the mel has shape {mel.shape}; give [T, {audio['n_mels']}]")
        kept, hop = window - 2 * reach, audio["hop"]
        for start in range(0, len(mel), kept):
            part, mask = np.zeros((1, window, mel.shape[1]), np.float32), np.zeros((1, window), bool)
            before = min(start, reach)
            inside = mel[start - before : start + kept + reach]
            place = slice(reach - before, reach - before + len(inside))
            part[0, place], mask[0, place] = inside, True
            yield self.sample(part, mask)[0, reach * hop : (reach + min(kept, len(mel) - start)) * hop]


def whole(frames):
    """Dequantised durations d + U(0, 1) as whole frames, at least 1 each: floors, and then a frame more or less where
    the fraction is nearest to it, until the total is that of frames - 1/2."""
    result, fraction = np.maximum(np.floor(frames), 1).astype(np.int32), frames - np.floor(frames)
    total = max(round(float((frames - 0.5).sum())), len(frames))
    while missing := total - int(result.sum()):
        if missing > 0:
            nearest = np.argsort(-fraction, kind="stable")
        else:
            nearest = np.argsort(np.where(result > 1, fraction, np.inf), kind="stable")[: (result > 1).sum()]
        result[nearest[: abs(missing)]] += np.sign(missing)
    return result


def places(columns):
    """[N, 4] of Speech._parse -> [N, 3]: 1 + the words of the phrase before a phoneme's own, 1 + those after it, the
    vowels of the word so far; 0 in pauses. A phrase ends at a pause and at punctuation."""
    words, phrase = [], []
    for i, (phoneme, _, edge, mark) in enumerate(columns):
        if phoneme and edge & 1:
            phrase.append([])
        if phoneme:
            phrase[-1].append(i)
        if phrase and (phoneme == 0 or (mark and edge & 2) or i == len(columns) - 1):
            words += [(word, n + 1, len(phrase) - n) for n, word in enumerate(phrase)]
            phrase = []
    found = np.zeros((len(columns), 3), np.int32)
    for word, start, end in words:
        found[word] = np.stack([np.full(len(word), start), np.full(len(word), end),
                                np.cumsum(columns[word, 1] > 0)], 1)  # fmt: skip
    return np.minimum(found, 7)


def _padded(length, shortest):
    while shortest < length:
        shortest *= 2
    return shortest


def _row(values, length):
    """[n] -> [1, length], zeros after it."""
    return np.pad(values, (0, length - len(values)))[None]
