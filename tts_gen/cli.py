"""The `tts-gen` command. Everything heavy is imported by the subcommand that needs it."""

import argparse
import functools
import sys
from pathlib import Path

from tts_gen import command, convert
from tts_gen.config import UserError
from tts_gen.corpora import command as corpora
from tts_gen.evaluation.listening import command as listening
from tts_gen.export import command as export
from tts_gen.speech import command as speech
from tts_gen.studio import command as studio
from tts_gen.vocoder_training import command as vocoder


def _align(options: argparse.Namespace) -> None:
    from tts_gen.features.alignments import align_manifest

    report = align_manifest(options.manifest, options.directory, options.workers, options.min_score)
    if not report.kept:
        raise UserError(f"{options.manifest}: none could be aligned; {options.directory / 'drops.jsonl'} says why")
    print(f"worst first: {options.directory / 'alignment.csv'}")
    print(f"next: tts-gen prepare {options.directory / 'manifest.jsonl'} DIR")


def _dictionary(options: argparse.Namespace) -> None:
    from tts_gen.corpora.dictionary import write_dictionary

    print(f"{options.file}: {write_dictionary(options.manifest, options.file)} words")


def _prepare(options: argparse.Namespace) -> None:
    from tts_gen.features.prepare import prepare

    report = prepare(
        options.manifest, options.directory, workers=options.workers, f0_method=options.f0,
        min_score=options.min_score, alignments=options.alignments, loudness=options.loudness, trim=options.trim,
    )  # fmt: skip
    if not report.kept:
        raise UserError(f"{options.manifest}: no utterance could be kept; {options.directory / 'drops.jsonl'} says why")
    print(
        f"next: python train.py configs/prosody_flow.py --workdir runs/prosody_flow --data.features {options.directory}"
    )


def _mix(options: argparse.Namespace) -> None:
    from tts_gen.features.mix import mix, parse

    mix(options.directory, parse(options.stores))
    print(f"next: python train.py configs/prosody_flow.py --workdir runs/mixed --data.features {options.directory}")


def _inspect(options: argparse.Namespace) -> None:
    from tts_gen.inspection.page import inspect

    print(inspect(options.directory, options.out))


def _embed(options: argparse.Namespace) -> None:
    from tts_gen.evaluation.embed import embed

    print(embed(options.source, options.out, options.workers))


def _metrics(options: argparse.Namespace) -> None:
    from tts_gen.evaluation import measure

    rows = measure.measure(
        options.reference, options.generated, options.json, options.f0, options.normalised, options.frame_seconds,
        options.seed,
    )  # fmt: skip
    measure.show(rows)
    if options.json:
        print(f"rows    {options.json}")


def _convert(options: argparse.Namespace) -> None:
    from tts_gen.convert.to_run import convert

    convert(options.kind, options.checkpoint, options.run, options.config, options.symbols)
    print(f'next: tts-gen synthesize "Hello there." --joint {options.run} --out hello.wav')


def _check_ports(options: argparse.Namespace) -> None:
    from tts_gen.convert.check import check

    command.use_compile_cache()
    check(options.folders)


def _proxies(options: argparse.Namespace) -> None:
    from tts_gen.evaluation import perceptual, rows
    from tts_gen.features.files import locked

    names = [folder.resolve().name for folder in options.folders]
    if len(set(names)) < len(names):
        raise UserError(f"systems are told apart by their folder's name, and two are the same: {', '.join(names)}")
    texts, groups = perceptual.read_texts(options.texts)
    waves = dict(zip(names, map(perceptual.WavFolder, options.folders), strict=True))
    identities = {
        name: {"family": name, "run": str(folder)} for name, folder in zip(names, options.folders, strict=True)
    }
    options.out.mkdir(parents=True, exist_ok=True)
    with locked(options.out):
        ledger = perceptual.Ledger(options.out / "proxies.jsonl")
        found = perceptual.score(waves, texts, options.reference, groups, ledger, identities)
    rows.write(found, options.out / "summary.json")
    print(perceptual.table(found, options.reference), end="")


def _demo(options: argparse.Namespace) -> None:
    from tts_gen.demo import demo

    demo(options.out, options.corpus)


def _sweep(options: argparse.Namespace) -> None:
    from tts_gen import sweep

    sys.path.insert(0, "")  # config files import one another from the project's folder, as beside train.py
    points = sweep.read_grid(options.config, options.directory, options.over, options.rest)
    if options.list:
        for index, point in enumerate(points):
            print(f"{index}  {point.run.name}  {point.command}")
    elif options.table:
        print(sweep.write_tables(points, options.directory))
    elif options.index is None:
        sweep.run(points, points, options.directory)
    elif 0 <= options.index < len(points):
        sweep.run(points, [points[options.index]], options.directory)
    else:
        raise UserError(f"--index {options.index}: the grid has {len(points)} points, 0 to {len(points) - 1}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tts-gen", description="How should prosody and speech be generated: by regression, flows or diffusion?",
        epilog="Training and evaluation: python train.py CONFIG --workdir DIR, python eval.py RUN... --out DIR.",
    )  # fmt: skip
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    subcommand = functools.partial(command.subcommand, commands)

    corpora.add(commands)

    sub = subcommand("align", _align, "phone times by the built-in aligner (English), as TextGrids")
    sub.add_argument("manifest", type=Path, metavar="MANIFEST")
    sub.add_argument("directory", type=Path, metavar="DIR", help="gets textgrids, manifest.jsonl, alignment.csv")
    sub.add_argument("--workers", type=command.count, default=2)
    lowest = "lowest score of an alignment to keep, in robust standard deviations from the speaker's median"
    sub.add_argument("--min-score", type=float, default=-4.0, metavar="Z", help=lowest)

    sub = subcommand("dictionary", _dictionary, "pronunciations of a corpus's words in espeak-ng's IPA, any language")
    sub.add_argument("manifest", type=Path, metavar="MANIFEST", help="its field language names espeak-ng's voice")
    sub.add_argument("file", type=Path, metavar="FILE", help="to write, for an aligner such as MFA to be trained with")

    sub = subcommand("prepare", _prepare, "features from a manifest: aligned phonemes, f0, mels, statistics")
    sub.add_argument("manifest", type=Path, metavar="MANIFEST")
    sub.add_argument("directory", type=Path, metavar="DIR")
    sub.add_argument("--workers", type=command.count, default=2)
    sub.add_argument("--f0", choices=("dio", "pyin"), default="dio", help="pitch tracker: WORLD's, or librosa's pYIN")
    sub.add_argument("--min-score", type=float, metavar="Z", help=f"{lowest}; no limit if not given")
    given = "folder of TextGrids or .lab files named as the audio, or one .ctm file, to take all phone times from"
    sub.add_argument("--alignments", type=Path, metavar="PATH", help=given)
    sub.add_argument("--loudness", type=float, metavar="LKFS", help="bring recordings to one loudness, such as -23")
    longest = "shorten pauses at both ends to that much, by the alignment, such as 0.15"
    sub.add_argument("--trim", type=command.positive, metavar="SECONDS", help=longest)

    sub = subcommand("mix", _mix, "several prepared corpora as one, which training draws from by weight")
    sub.add_argument("directory", metavar="DIR", help="a feature store like any, for --data.features")
    weights = "a prepared corpus; training draws each of its utterances WEIGHT times as often as one of weight 1"
    sub.add_argument("stores", nargs="+", metavar="STORE[=WEIGHT]", help=weights)

    sub = subcommand(
        "inspect", _inspect, "what a prepared corpus holds, and which utterances look wrong: one HTML page"
    )
    sub.add_argument("directory", metavar="DIR")
    sub.add_argument("--out", type=Path, metavar="PAGE", help="DIR/inspect.html if not given")

    sub = subcommand("embed", _embed, "speaker embeddings for --data.speaker-embeddings, by resemblyzer's encoder")
    sub.add_argument("source", type=Path, metavar="SOURCE", help="prepared corpus, or one recording")
    sub.add_argument("out", type=Path, metavar="FILE", help="to write: .npz of a corpus, .npy of a recording")
    sub.add_argument("--workers", type=command.count, default=2)

    speech.add(commands)

    studio.add(commands)

    sub = subcommand("metrics", _metrics, "anyone's prosody or speech against a reference: spread, order, distance")
    sub.epilog = (
        "Two .npz files hold flat arrays, a value a phoneme: log_f0 (natural log of Hz), duration (frames); REF also "
        "voiced and utterance (integer ids), and if you like pause, group, speaker, style, phone_class; GEN may hold K "
        "samples, [K, n]. Of two folders, wav files of equal names are compared."
    )
    sub.add_argument("reference", type=Path, metavar="REF", help=".npz file, or folder of wav files")
    sub.add_argument("generated", type=Path, metavar="GEN", help="likewise")
    sub.add_argument("--json", type=Path, metavar="OUT", help="file to write the rows to, as eval.py's summary.json")
    sub.add_argument("--f0", choices=("dio", "pyin"), default="dio", help="of wavs: WORLD's tracker, or librosa's pYIN")
    sub.add_argument("--normalised", action="store_true", help="log_f0 is in the speakers' standard deviations already")
    sub.add_argument("--frame-seconds", type=command.positive, metavar="S", help="of a frame, 256 / 22050 if not given")
    sub.add_argument("--seed", type=command.whole, default=0, help="of intervals and halves")

    sub = commands.add_parser("convert", help="official PyTorch checkpoints, read without PyTorch")
    kinds = sub.add_subparsers(dest="kind", required=True, metavar="WHAT")
    help_check = "recomputes a reference implementation's outputs from its checkpoint and compares"
    sub = kinds.add_parser("check", help=help_check, description=help_check)
    sub.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="config.json, io.npz and checkpoints")
    sub.set_defaults(function=_check_ports)
    for name in convert.PORTS:
        joint = name in ("glow_tts", "grad_tts", "matcha_tts")
        made = "checkpoint -> joint run, text to mel" if joint else "makes no mels from text: for `check` alone"
        sub = kinds.add_parser(name, help=made, description=made)
        sub.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="as the reference saved it")
        sub.add_argument("run", type=Path, metavar="RUN", help="directory to make")
        sub.add_argument("--config", type=Path, metavar="FILE", help="JSON: its constructor's arguments, or its config")
        sub.add_argument("--symbols", type=Path, metavar="FILE", help="its symbol table, one a line, if not the usual")
        sub.set_defaults(function=_convert)

    export.add(commands)

    vocoder.add(commands)

    sub = subcommand("sweep", _sweep, "a grid of runs that differ in some fields of a config, and a table of results")
    sub.epilog = (
        "Options of train.py may follow and hold for all runs: --data.features STORE --train.steps 300. The same "
        "command again goes on where it stopped; a run that fails does not end the others."
    )
    sub.add_argument("config", metavar="CONFIG", help="as for train.py, whose --help after CONFIG lists the fields")
    sub.add_argument("directory", type=Path, metavar="DIR", help="gets a run directory a point, results.csv, .md")
    over = "a field and its values (repeat); for values with commas put semicolons between: 'data.buckets=24,64;32,128'"
    sub.add_argument("--over", action="append", required=True, metavar="FIELD=VALUE,VALUE,...", help=over)
    what = sub.add_mutually_exclusive_group()
    array = "run one point only, counted from 0: in a job array, $SLURM_ARRAY_TASK_ID or $JOB_COMPLETION_INDEX"
    what.add_argument("--index", type=int, metavar="I", help=array)
    what.add_argument("--list", action="store_true", help="print index, name and command of every point, run nothing")
    what.add_argument("--table", action="store_true", help="write and print the results there are, run nothing")

    sub = subcommand("proxies", _proxies, "folders of wavs: DistillMOS, DNSMOS, word error rate, speaker similarity")
    sub.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a system's wavs, of equal names")
    sub.add_argument("--texts", type=Path, required=True, metavar="FILE", help="manifest.jsonl, or lines `id|text`")
    reference = "the folder whose speakers the others are compared with, shown first: the recordings"
    sub.add_argument("--reference", required=True, metavar="NAME", help=reference)
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="gets summary.json, and proxies.jsonl")

    listening.add(commands)

    sub = subcommand("demo", _demo, "everything: corpus, features, six models, evaluation, three sentences, report")
    sub.add_argument("--out", type=Path, default=Path("runs/demo"))
    sub.add_argument("--corpus", choices=("asterisk", "espeak"), default="asterisk")
    return parser


def main() -> int:
    parser = _parser()
    options, options.rest = parser.parse_known_args()
    if options.rest and options.function is not _sweep:
        parser.error(f"unrecognized arguments: {' '.join(options.rest)}")
    return command.guarded(lambda _: options.function(options))(())


if __name__ == "__main__":
    sys.exit(main())
