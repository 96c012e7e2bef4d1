"""`tts-gen synthesize`: its options, and the texts and files that they ask for."""

import argparse
import hashlib
import sys
from contextlib import ExitStack
from pathlib import Path

from tts_gen import command
from tts_gen.config import UserError

KINDS = ("textgrid", "mel", "picture")
"""what `files` writes beside a wav"""
STDOUT = Path("-")


def add(commands: argparse._SubParsersAction) -> None:
    summary = "text to speech with a prosody run and an acoustic run, or a joint run"
    sub = command.subcommand(commands, "synthesize", _synthesize, summary)
    sub.set_defaults(error=sub.error)
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("text", nargs="?", help="a sentence, or a longer text")
    lines = "text file, or - for standard input, a text a line; --out is then a folder, and started again it goes on"
    what.add_argument("--file", metavar="FILE", help=lines)
    what.add_argument("--from-prosody", type=Path, metavar="FILE", help="prosody that --save-prosody wrote, edited")
    runs = sub.add_argument_group("models")
    runs.add_argument("--prosody", type=Path, metavar="RUN", help="not needed where the prosody is given")
    runs.add_argument("--acoustic", type=Path, metavar="RUN")
    runs.add_argument("--joint", type=Path, metavar="RUN", help="made by `convert`; stands for the other two")
    runs.add_argument("--vocoder", default="auto", help="auto, hifigan, griffin_lim, or a HiFi-GAN or Vocos file")
    how = sub.add_argument_group("how it is spoken")
    how.add_argument("--prosody-temperature", type=command.not_negative, help="default: 0.8")
    how.add_argument("--acoustic-temperature", type=command.not_negative, help="default: 0.667")
    how.add_argument("--temperature", type=command.not_negative, help="of a joint run; default: 0.667")
    how.add_argument("--guidance", type=command.not_negative, default=0.0, metavar="W", help=command.GUIDANCE)
    how.add_argument("--seed", type=command.whole, default=0)
    how.add_argument("--takes", type=command.count, default=1, help="with the seeds that follow, as OUT_1.wav, ...")
    how.add_argument("--speaker", help="needed when the runs know several")
    voice = "a voice, new or not, for runs trained with speaker embeddings; --speaker then gives the range of pitch"
    how.add_argument("--speaker-embedding", type=Path, metavar="FILE.npy", help=voice)
    how.add_argument("--style", help="the unlabelled utterances' by default")
    how.add_argument("--pace", type=command.positive, default=1.0, help="2 is twice as fast")
    how.add_argument("--pitch", type=float, default=0.0, help="shift in semitones")
    spread = "of pitch: 0 is a monotone, 2 twice as lively"
    how.add_argument("--range", type=command.not_negative, default=1.0, help=spread)
    like = "recording of the text, in English, whose durations and pitch are taken"
    how.add_argument("--like", type=Path, metavar="WAV", help=like)
    how.add_argument("--language", default="en-us", help="espeak-ng voice that reads for runs on IPA phones")
    phones = "the text is phones, as in a manifest's field phonemes: 'pau HH AH0 L OW1 . pau'"
    how.add_argument("--phonemes", action="store_true", help=phones)
    marks = "the text has <break time>, <prosody rate pitch>, <phoneme ph>: docs/SPEECH.md"
    how.add_argument("--ssml", action="store_true", help=marks)
    made = sub.add_argument_group("what is made")
    made.add_argument("--out", type=Path, required=True, help="wav file, - for standard output, or folder with --file")
    saved = "file, or folder with --file, for phonemes, durations in ms and f0 in Hz, to be edited for --from-prosody"
    made.add_argument("--save-prosody", type=Path, metavar="FILE", help=saved)
    kinds = f"beside each wav: {', '.join(KINDS)} (repeat)"
    made.add_argument("--also", action="append", choices=KINDS, default=[], help=kinds)


def _synthesize(options: argparse.Namespace) -> None:
    _check(options)
    texts = _texts(options)
    command.use_compile_cache()

    from tts_gen import vocoders
    from tts_gen.features.files import locked
    from tts_gen.speech import files, sources, speaking

    source = sources.joint(options) if options.joint else sources.pair(options)
    vocoder = vocoders.load(options.vocoder, source.audio)
    failed: dict[int, str] = {}
    if options.out == STDOUT:
        spoken = speaking.speak(texts, source, 0, set(), failed, whole=False)
        files.stream((vocoder(part.mel) for _, part in spoken), source.audio.sample_rate, sys.stdout.buffer)
        if failed:
            raise UserError(failed[0])
        return
    with ExitStack() as stack:
        if options.file:
            options.out.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(options.out))
            _remember(options, texts, source.runs | {"vocoder": vocoder.name})
        for take in range(options.takes):
            wavs, prosodies = (_paths(path, options, len(texts), take) for path in (options.out, options.save_prosody))
            done = {i for i, wav in enumerate(wavs) if options.file and wav.exists()}
            for i, spoken in speaking.speak(texts, source, take, done, failed):
                files.write(spoken, wavs[i], prosodies[i], options.also, source, vocoder)
                print(f"{wavs[i]}  {len(spoken.mel) * source.audio.frame_seconds:.2f} s  {texts[i]}", flush=True)
    if failed and not options.file:
        raise UserError(failed[0])
    if failed:
        told = [f"line {i + 1}: {error}" for i, error in sorted(failed.items())]
        raise UserError("\n".join([f"{len(failed)} of {len(texts)} lines could not be spoken:", *told]))


def _check(options: argparse.Namespace) -> None:
    if options.joint and (options.prosody_temperature, options.acoustic_temperature) != (None, None):
        options.error("--joint RUN has one --temperature, no --prosody-temperature and --acoustic-temperature")
    if options.temperature is not None and not options.joint:
        options.error("--temperature is of a --joint run; others have --prosody-temperature and --acoustic-temperature")
    given = options.from_prosody or options.like
    others = (options.prosody, options.acoustic, given, options.save_prosody, options.also)
    if options.joint and any(others):
        options.error("--joint RUN makes mels of text at once: it goes without --prosody, --acoustic, --like, "
                      "--from-prosody, --save-prosody and --also")  # fmt: skip
    if not options.joint and not (options.acoustic and (options.prosody or given)):
        options.error("give --prosody RUN and --acoustic RUN, or --joint RUN")
    if options.prosody and given:
        options.error(f"--prosody {options.prosody}: the prosody comes from {given}; leave one out")
    if options.ssml and (not options.prosody or options.phonemes):
        options.error("--ssml is for texts that a --prosody run reads, and goes without --phonemes")
    if options.like and (options.text is None or options.phonemes):
        options.error("--like goes with one text in English, that of the recording")
    if options.from_prosody and (options.speaker or options.style or options.phonemes):
        options.error("--from-prosody goes without --speaker, --style and --phonemes: they stand in the file")
    if options.out == STDOUT and (options.file or options.takes > 1 or options.save_prosody or options.also):
        options.error("--out - is the sound of one text: it goes without --file, --takes, --save-prosody and --also")
    if not options.file and options.out != STDOUT and (options.out.is_dir() or options.out.suffix.lower() != ".wav"):
        raise UserError(f"--out {options.out}: name a file that ends in .wav")
    if options.save_prosody and not options.file and options.save_prosody.suffix.lower() != ".json":
        raise UserError(f"--save-prosody {options.save_prosody}: name a file that ends in .json")


def _texts(options: argparse.Namespace) -> list[str]:
    if not options.file:
        return [options.text if options.from_prosody is None else str(options.from_prosody)]
    if options.file != "-" and not Path(options.file).is_file():
        raise UserError(f"{options.file}: no such file")
    written = sys.stdin.buffer.read() if options.file == "-" else Path(options.file).read_bytes()
    try:
        texts = [line.strip() for line in written.decode("utf-8-sig").split("\n") if line.strip()]
    except UnicodeDecodeError as error:
        raise UserError(f"{options.file}: not UTF-8 ({error}); save it as UTF-8") from error
    if not texts:
        raise UserError(f"{options.file}: holds no text; give one a line")
    return texts


def _paths(path: Path | None, options: argparse.Namespace, texts: int, take: int) -> list[Path | None]:
    """A file for each text: `path`, or in that folder; None for none."""
    if path is None:
        return [None] * texts
    mark = f"_{take + 1}" if options.takes > 1 else ""
    if not options.file:
        return [path.with_name(f"{path.stem}{mark}{path.suffix}")]
    end = ".wav" if path is options.out else ".json"
    return [path / f"{i + 1:04d}{mark}{end}" for i in range(texts)]


UNTOLD = ("out", "file", "function", "error", "command", "rest")
"""options that change no line"""


def _remember(options: argparse.Namespace, texts: list[str], made_with: dict[str, str]) -> None:
    """What the folder's wavs are made with. Raises UserError where those that are there were made otherwise."""
    from tts_gen.features.files import read_json, write_json

    asked = {name: str(value) for name, value in vars(options).items() if name not in UNTOLD} | made_with
    asked["texts"] = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    path = options.out / "settings.json"
    before = read_json(path) if path.exists() else None
    if before is not None and not isinstance(before, dict):
        raise UserError(f"{path} is damaged; give another folder, or empty it")
    if before is None and any(options.out.glob("*.wav")):
        raise UserError(f"{options.out} holds wavs of something else; give another folder, or empty it")
    for name in asked if before is not None else ():
        if before.get(name) != asked[name] and name == "texts":
            raise UserError(f"{path}: the lines were others; give another folder, or empty it")
        if before.get(name) != asked[name]:
            raise UserError(
                f"{path}: {name} was {before.get(name)}, and is {asked[name]} now; give another folder, or empty it"
            )
    write_json(path, asked)
