"""The `tts-gen` command, and the doors behind train.py and eval.py. Everything heavy is imported by the subcommand that
needs it.

Exit codes: 0 done; 1 failed, message on standard error; 2 wrong usage; 75 stopped by a signal after saving, start again
to go on.
"""

import argparse
import logging
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tts_gen import convert
from tts_gen.config import Stopped, UserError

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 75
SOLVERS = ("euler", "midpoint", "heun", "sde", "dpm++2m", "grad_euler", "grad_sde")
"""of all families; which are a family's own, its settings say"""
GUIDANCE = (
    "scale of classifier-free guidance by speaker and style, 0 is off; for runs trained with --encoder.label-dropout"
)


def guarded(command: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str]], int]:
    """Turns what a command raises into a message for people and an exit code."""

    def run(arguments: Sequence[str]) -> int:
        logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
        logging.getLogger("tts_gen").setLevel(logging.INFO)
        try:
            command(arguments)
        except UserError as error:
            print(f"error: {error}", file=sys.stderr)
            return FAILED
        except Stopped as stopped:
            print(stopped, file=sys.stderr)
            return STOPPED
        except OSError as error:
            print(f"error: {error}", file=sys.stderr)
            return FAILED
        except KeyboardInterrupt:
            print("interrupted; start again to go on", file=sys.stderr)
            return STOPPED
        return DONE

    return run


def use_compile_cache() -> None:
    """Keeps compiled programs in a folder, so that only the first run of a model waits for the compiler."""
    import jax

    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tts_gen" / "jax"
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(default)))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def train(arguments: Sequence[str]) -> int:
    return guarded(_train)(arguments)


def _train(arguments: Sequence[str]) -> None:
    from typing import Annotated

    import tyro

    from tts_gen import runs
    from tts_gen.config import Config, read_config_file

    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            "usage: train.py CONFIG --workdir DIR [--FIELD VALUE ...]\n\n"
            "CONFIG is a Python file that defines `config` (see configs/); train.py CONFIG --help lists its fields."
        )
        if not arguments:
            raise SystemExit(USAGE)
        return
    config = read_config_file(arguments[0])

    def job(workdir: Path, config: Annotated[Config, tyro.conf.arg(name="")] = config) -> tuple[Path, Config]:
        """Trains a model in `workdir`, or goes on there.

        Args:
            workdir: directory of the run: checkpoints, metrics.jsonl, TensorBoard logs
            config: the model and its training
        """
        return workdir, config

    workdir, config = tyro.cli(job, args=_split_commas(arguments[1:]), prog=f"train.py {arguments[0]}")
    if not config.data.features:
        raise UserError(
            "data.features is empty: give the feature store, --data.features DIR (made by `tts-gen prepare`)"
        )
    use_compile_cache()
    runs.train(config, workdir)


def _split_commas(arguments: Sequence[str]) -> list[str]:
    """`--buckets 24,64` as `--buckets 24 64`: lists may be given either way."""
    out: list[str] = []
    for argument in arguments:
        numbers = argument.split(",")
        listed = len(numbers) > 1 and all(n.strip().lstrip("-").replace(".", "", 1).isdigit() for n in numbers)
        out += [n.strip() for n in numbers] if listed else [argument]
    return out


def evaluate(arguments: Sequence[str]) -> int:
    return guarded(_evaluate)(arguments)


def _evaluate(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        prog="eval.py", description="Samples runs of either task at several temperatures and compares them.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )  # fmt: skip
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories")
    parser.add_argument("--out", type=Path, required=True, help="summary.json, report.html, samples/ go here")
    parser.add_argument("--features", type=Path, help="feature store, if not the one the first run was trained on")
    parser.add_argument("--temperatures", type=_temperatures, default=(0.0, 0.333, 0.667, 0.8, 1.0, 1.2))
    parser.add_argument("--mel-temperatures", type=_temperatures, help="for mels, if fewer than --temperatures")
    parser.add_argument("--samples", type=_count, default=8, metavar="K", help="prosody samples of each utterance")
    parser.add_argument("--split", default="test", help="what is reported; temperatures are always chosen on val")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--solver", choices=SOLVERS, help="diffusion, flow matching: another solver of theirs")
    parser.add_argument("--solver-steps", type=_count, help="diffusion, flow matching: another number of steps")
    parser.add_argument("--guidance", type=_not_negative, default=0.0, metavar="W", help=GUIDANCE)
    costs = "costs hundreds of network evaluations and derivatives a batch, minutes (prosody) to hours (mels) on CPU"
    parser.add_argument(
        "--ode-likelihood", action="store_true", help=f"diffusion, flow matching: bits per dimension too; {costs}"
    )
    parser.add_argument("--speech", type=Path, help="folder of synthesised wavs to show in the report")
    parser.add_argument(
        "--vocoder", default="none", help="auto, hifigan, griffin_lim, a checkpoint: makes mels audible"
    )
    parser.add_argument("--banner", help="a warning to show on top of the report")
    options = parser.parse_args(arguments)

    from tts_gen import vocoders
    from tts_gen.evaluation import compare, headline, page

    use_compile_cache()
    given = {"solver": options.solver, "solver_steps": options.solver_steps}
    comparison = compare.open_comparison(
        options.runs,
        options.out,
        options.temperatures,
        options.samples,
        options.split,
        options.seed,
        features=options.features,
        solver={name: value for name, value in given.items() if value is not None},
        ode_likelihood=options.ode_likelihood,
        mel_temperatures=options.mel_temperatures,
        guidance=options.guidance,
    )
    rows, chosen = compare.compare(comparison)
    vocoder = None if options.vocoder == "none" else vocoders.load(options.vocoder, comparison.store.audio)
    speech = [(str(p.relative_to(options.speech).with_suffix("")), p) for p in _wavs(options.speech)]
    command = " ".join(["python eval.py", *map(shlex.quote, arguments)])
    report = page.write_page(comparison, rows, chosen, [command], options.banner, speech, vocoder)
    for task in ("prosody", "acoustic", "joint"):
        if comparison.of_task(task):
            headline.print_tables(page.headline_tables(comparison, rows, chosen, task))
    print(f"rows    {options.out / 'summary.json'}\nreport  {report}")


def _wavs(folder: Path | None) -> list[Path]:
    """Sentences beside one another: sorted by file name, then by the folder of their family."""
    return sorted(folder.rglob("*.wav"), key=lambda p: (p.name, p)) if folder else []


def _number(text: str, low: float, strict: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not low <= value < float("inf") or (strict and value == low):
        raise argparse.ArgumentTypeError(f"{text} is out of range, {'more than' if strict else 'at least'} {low:g}")
    return value


def _not_negative(text: str) -> float:
    return _number(text, 0.0)


def _positive(text: str) -> float:
    return _number(text, 0.0, strict=True)


def _temperatures(text: str) -> tuple[float, ...]:
    """A comma list, sorted, each once."""
    return tuple(sorted({_not_negative(part) for part in text.split(",")}))


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def _corpus(options: argparse.Namespace) -> None:
    from tts_gen.corpora import CORPORA

    extra = {"debs": options.deb} if options.deb else {}
    print(CORPORA[options.name](options.directory, workers=options.workers, seed=options.seed, **extra))


def _prepare(options: argparse.Namespace) -> None:
    from tts_gen.features.prepare import prepare

    report = prepare(options.manifest, options.directory, workers=options.workers, f0_method=options.f0)
    if not report.kept:
        raise UserError(f"{options.manifest}: no utterance could be kept; {options.directory / 'drops.jsonl'} says why")
    print(
        f"next: python train.py configs/prosody_flow.py --workdir runs/prosody_flow --data.features {options.directory}"
    )


def _synthesize(options: argparse.Namespace) -> None:
    from tts_gen import runs, synthesis, vocoders

    use_compile_cache()
    pair = [path for path in (options.prosody, options.acoustic) if path]
    if len(pair) != (0 if options.joint else 2):
        options.error("give --prosody RUN and --acoustic RUN, or --joint RUN")
    single = options.text is not None
    if single and options.out.is_dir():
        raise UserError(f"--out {options.out} is a folder; name a wav file")
    texts = [options.text] if single else _lines(options.file)
    if not texts:
        raise UserError(f"{options.file}: holds no text; give one sentence a line")
    loaded = [runs.load(path, guidance=options.guidance) for path in pair or [options.joint]]
    controls = synthesis.Controls(
        options.prosody_temperature, options.acoustic_temperature, options.seed, options.speaker, options.style,
        options.pace, options.pitch, options.temperature,
    )  # fmt: skip
    if options.joint:
        mels = synthesis.speak_joint(texts, *loaded, controls)
    else:
        mels = [sentence.mel for sentence in synthesis.speak(texts, *loaded, controls)]
    audio = loaded[-1].audio
    vocoder = vocoders.load(options.vocoder, audio)
    for i, mel in enumerate(mels):
        path = options.out if single else options.out / f"{i + 1:04d}.wav"
        vocoders.write_wav(path, vocoder(mel), audio.sample_rate)
        print(f"{path}  {len(mel) * audio.frame_seconds:.2f} s  {texts[i]}")


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    return [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _convert(options: argparse.Namespace) -> None:
    from tts_gen.convert.to_run import convert

    convert(options.kind, options.checkpoint, options.run, options.config, options.symbols)
    print(f'next: tts-gen synthesize "Hello there." --joint {options.run} --out hello.wav')


def _check_ports(options: argparse.Namespace) -> None:
    from tts_gen.convert.check import check

    use_compile_cache()
    check(options.folders)


def _demo(options: argparse.Namespace) -> None:
    from tts_gen.demo import demo

    demo(options.out, options.corpus)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tts-gen", description="How should prosody and speech be generated: by regression, flows or diffusion?",
        epilog="Training and evaluation: python train.py CONFIG --workdir DIR, python eval.py RUN... --out DIR.",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, function: Callable[[argparse.Namespace], None], summary: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        sub.set_defaults(function=function)
        return sub

    sub = command("corpus", _corpus, "get a corpus of speech and write its manifest")
    names = "asterisk: one speaker, 24 min; queen: 4.4 h of acted speech; espeak: synthetic, needs no download"
    sub.add_argument("name", choices=("asterisk", "queen", "espeak"), help=names)
    sub.add_argument("directory", type=Path, metavar="DIR")
    sub.add_argument("--deb", type=Path, action="append", help="a .deb file to read instead of downloading it (repeat)")
    sub.add_argument("--workers", type=_count, default=2)
    sub.add_argument("--seed", type=int, default=0, help="of the split into train, val and test")

    sub = command("prepare", _prepare, "features from a manifest: aligned phonemes, f0, mels, statistics")
    sub.add_argument("manifest", type=Path, metavar="MANIFEST")
    sub.add_argument("directory", type=Path, metavar="DIR")
    sub.add_argument("--workers", type=_count, default=2)
    sub.add_argument("--f0", choices=("dio", "pyin"), default="dio", help="pitch tracker: WORLD's, or librosa's pYIN")

    sub = command("synthesize", _synthesize, "text to speech with a prosody run and an acoustic run, or a joint run")
    sub.set_defaults(error=sub.error)
    what = sub.add_mutually_exclusive_group(required=True)
    what.add_argument("text", nargs="?", help="a sentence")
    what.add_argument("--file", type=Path, help="text file, one sentence a line; --out is then a folder")
    sub.add_argument("--prosody", type=Path, metavar="RUN")
    sub.add_argument("--acoustic", type=Path, metavar="RUN")
    sub.add_argument("--joint", type=Path, metavar="RUN", help="made by `convert`; stands for the other two")
    sub.add_argument("--out", type=Path, required=True, help="wav file, or folder with --file")
    sub.add_argument("--prosody-temperature", type=_not_negative, default=0.8)
    sub.add_argument("--acoustic-temperature", type=_not_negative, default=0.667)
    sub.add_argument("--temperature", type=_not_negative, default=0.667, help="of a joint run")
    sub.add_argument("--guidance", type=_not_negative, default=0.0, metavar="W", help=GUIDANCE)
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--speaker", help="needed when the runs know several")
    sub.add_argument("--style", help="the unlabelled utterances' by default")
    sub.add_argument("--pace", type=_positive, default=1.0, help="2 is twice as fast")
    sub.add_argument("--pitch", type=float, default=0.0, help="shift in semitones")
    sub.add_argument("--vocoder", default="auto", help="auto, hifigan, griffin_lim, or a HiFi-GAN checkpoint file")

    sub = commands.add_parser("convert", help="official PyTorch checkpoints, read without PyTorch")
    kinds = sub.add_subparsers(dest="kind", required=True, metavar="WHAT")
    help_check = "recomputes a reference implementation's outputs from its checkpoint and compares"
    sub = kinds.add_parser("check", help=help_check, description=help_check)
    sub.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="config.json, io.npz and checkpoints")
    sub.set_defaults(function=_check_ports)
    for name in convert.PORTS:
        made = f"{name} checkpoint: a joint run of it, where it makes mels from text"
        sub = kinds.add_parser(name, help=made, description=made)
        sub.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="as the reference saved it")
        sub.add_argument("run", type=Path, metavar="RUN", help="directory to make")
        sub.add_argument("--config", type=Path, metavar="FILE", help="JSON: its constructor's arguments, or its config")
        sub.add_argument("--symbols", type=Path, metavar="FILE", help="its symbol table, one a line, if not the usual")
        sub.set_defaults(function=_convert)

    sub = command("demo", _demo, "everything: corpus, features, six models, evaluation, three sentences, report")
    sub.add_argument("--out", type=Path, default=Path("runs/demo"))
    sub.add_argument("--corpus", choices=("asterisk", "espeak"), default="asterisk")
    return parser


def main() -> int:
    options = _parser().parse_args()
    return guarded(lambda _: options.function(options))(())


if __name__ == "__main__":
    sys.exit(main())
