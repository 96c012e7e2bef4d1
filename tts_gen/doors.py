"""The doors behind train.py and eval.py. What is heavy is imported once the arguments are known to be right."""

import argparse
import functools
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tts_gen import command
from tts_gen.config import Config, UserError, read_config_file
from tts_gen.evaluation.studies import STUDIES, add_options


def train(arguments: Sequence[str]) -> int:
    return command.guarded(_train)(arguments)


def _train(arguments: Sequence[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(
            "usage: train.py CONFIG --workdir DIR [--FIELD VALUE ...]\n\n"
            "CONFIG is a Python file that defines `config` (see configs/); train.py CONFIG --help lists its fields."
        )
        if not arguments:
            raise SystemExit(command.USAGE)
        return
    asked = read_training(arguments)

    from tts_gen import fit, parallel

    @functools.cache
    def monitor():
        """Imported when it is first needed: a second that the first step does not wait for."""
        from tts_gen.evaluation.monitor import Monitor

        return Monitor(asked.config)

    command.use_compile_cache()
    with parallel.processes(asked.coordinator, asked.processes, asked.process):
        fit.train(asked.config, asked.workdir, lambda *args: monitor()(*args))


class Training(NamedTuple):
    """What arguments of train.py ask for."""

    workdir: Path
    config: Config
    coordinator: str
    processes: int
    process: int


def read_training(arguments: Sequence[str]) -> Training:
    """Of arguments of train.py, CONFIG first.

    Raises UserError, and SystemExit where an option or its value is wrong, which tyro has told by then.
    """
    from typing import Annotated

    import tyro

    config = read_config_file(arguments[0])

    def job(
        workdir: Path,
        config: Annotated[Config, tyro.conf.arg(name="")] = config,
        coordinator: str = "",
        processes: int = 0,
        process: int = -1,
    ) -> Training:
        """Trains a model in `workdir`, or goes on there.

        Args:
            workdir: directory of the run: checkpoints, metrics.jsonl, TensorBoard logs; one that all processes share
            config: the model and its training
            coordinator: of several processes: HOST:PORT of the first, or "auto" where jax can ask (TPU pods); under
                srun and mpirun, and with JAX_COORDINATOR_ADDRESS set, it need not be given
            processes: how many there are, with HOST:PORT
            process: which of them this is, from 0 on, with HOST:PORT
        """
        return Training(workdir, config, coordinator, processes, process)

    asked = tyro.cli(job, args=_split_commas(arguments[1:]), prog=f"train.py {arguments[0]}")
    if not asked.config.data.features:
        raise UserError(
            "data.features is empty: give the feature store, --data.features DIR (made by `tts-gen prepare`)"
        )
    return asked


def _split_commas(arguments: Sequence[str]) -> list[str]:
    """`--buckets 24,64` as `--buckets 24 64`: lists may be given either way."""
    out: list[str] = []
    for argument in arguments:
        numbers = argument.split(",")
        listed = len(numbers) > 1 and all(n.strip().lstrip("-").replace(".", "", 1).isdigit() for n in numbers)
        out += [n.strip() for n in numbers] if listed else [argument]
    return out


def evaluate(arguments: Sequence[str]) -> int:
    return command.guarded(_evaluate)(arguments)


def _evaluate(arguments: Sequence[str]) -> None:
    study = arguments[0] if arguments and arguments[0] in STUDIES else None
    asks = STUDIES[study].asks if study else "Samples runs of either task at several temperatures and compares them."
    parser = argparse.ArgumentParser(
        prog=f"eval.py {study}" if study else "eval.py [STUDY]", description=asks,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        epilog=None if study else "STUDY may be one of " + "; ".join(f"{n}: {q.asks}" for n, q in STUDIES.items()),
    )  # fmt: skip
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directories")
    parser.add_argument("--out", type=Path, required=True, help="summary.json, report.html, samples/ go here")
    parser.add_argument("--features", help="feature store, if not the one the first run was trained on")
    vectors = "speaker embeddings, if not the file that the runs were trained with"
    parser.add_argument("--speaker-embeddings", type=Path, metavar="FILE", help=vectors)
    parser.add_argument("--temperatures", type=command.temperatures, default=(0.0, 0.333, 0.667, 0.8, 1.0, 1.2))
    parser.add_argument("--mel-temperatures", type=command.temperatures, help="for mels, if fewer than --temperatures")
    parser.add_argument(
        "--samples", type=command.count, default=8, metavar="K", help="prosody samples of each utterance"
    )
    parser.add_argument("--split", default="test", help="what is reported; temperatures are always chosen on val")
    parser.add_argument("--seed", type=command.whole, default=0)
    parser.add_argument("--solver", choices=command.SOLVERS, help="diffusion, flow matching: another solver of theirs")
    parser.add_argument("--solver-steps", type=command.count, help="diffusion, flow matching: another number of steps")
    parser.add_argument("--guidance", type=command.not_negative, default=0.0, metavar="W", help=command.GUIDANCE)
    costs = "costs hundreds of network evaluations and derivatives a batch, minutes (prosody) to hours (mels) on CPU"
    parser.add_argument(
        "--ode-likelihood", action="store_true", help=f"diffusion, flow matching: bits per dimension too; {costs}"
    )
    if study:
        add_options(study, parser)
    else:
        parser.add_argument("--speech", type=Path, help="folder of synthesised wavs to show in the report")
        parser.add_argument(
            "--vocoder", default="none", help="auto, hifigan, griffin_lim, a checkpoint: makes mels audible"
        )
        wavs = "write that many held-out utterances to OUT/wavs, a folder a system, for listening tests and proxies"
        parser.add_argument("--wavs", type=command.count, default=0, metavar="N", help=wavs)
        parser.add_argument("--banner", help="a warning to show on top of the report")
        command.add_processes(parser, "which share the sampling in OUT; the first evaluates")
    options = parser.parse_args(arguments[1:] if study else arguments)
    command.use_compile_cache()

    import jax

    from tts_gen import parallel, vocoders
    from tts_gen.evaluation import compare, headline, page, sharing, studies
    from tts_gen.evaluation.comparison import open_comparison
    from tts_gen.evaluation.studies import outputs
    from tts_gen.evaluation.wavs import write_wavs

    given = {"solver": options.solver, "solver_steps": options.solver_steps}
    open_runs = functools.partial(
        open_comparison,
        options.runs,
        options.out,
        options.temperatures,
        options.samples,
        options.split,
        options.seed,
        features=options.own if study and STUDIES[study].elsewhere else options.features,
        solver={name: value for name, value in given.items() if value is not None},
        ode_likelihood=options.ode_likelihood,
        mel_temperatures=options.mel_temperatures,
        guidance=options.guidance,
        embeddings=options.speaker_embeddings,
    )
    shown = " ".join(["python eval.py", *map(shlex.quote, arguments)])
    if study:
        comparison = open_runs()
        _only_in_joint(comparison, study)
        report = outputs.write(studies.load(study)(comparison, options), comparison, shown)
        print(f"rows    {options.out / 'summary.json'}\ntables  {options.out / 'tables.md'}\nreport  {report}")
        return
    with parallel.processes(options.coordinator, options.processes, options.process):
        parallel.check_same({name: str(value) for name, value in vars(options).items() if name != "process"})
        comparison = open_runs()
        _only_in_joint(comparison)
        if jax.process_count() > 1:
            sharing.share_samples(comparison)
        if jax.process_index() > 0:
            return
    rows, chosen = compare.compare(comparison)
    asked = "auto" if options.wavs and options.vocoder == "none" else options.vocoder
    vocoder = None if asked == "none" else vocoders.load(asked, comparison.store.audio)
    folders = write_wavs(comparison, chosen, vocoder, options.wavs) if options.wavs else []
    speech = [(p.stem, str(p.relative_to(options.speech).parent), p) for p in _wavs(options.speech)]
    report = page.write_page(comparison, rows, chosen, [shown], options.banner, speech, vocoder)
    for task in ("prosody", "acoustic", "joint"):
        if comparison.of_task(task):
            headline.print_tables(page.headline_tables(comparison, rows, chosen, task))
    print(f"rows    {options.out / 'summary.json'}\nreport  {report}")
    if folders:
        print(f"wavs    {' '.join(map(str, folders))}")


def _only_in_joint(comparison, study: str | None = None) -> None:
    if study != "joint" and (contours := comparison.of_task("contour")):
        raise UserError(f"{contours[0].path} is a contour run: it is compared by `eval.py joint`, with prosody runs")


def _wavs(folder: Path | None) -> list[Path]:
    """Sentences beside one another: sorted by file name, then by the folder of their family."""
    return sorted(folder.rglob("*.wav"), key=lambda p: (p.name, p)) if folder else []
