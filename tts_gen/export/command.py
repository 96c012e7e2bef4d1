"""`tts-gen export`: its options, and what they do."""

import argparse
from pathlib import Path

from tts_gen import command


def add(commands: argparse._SubParsersAction) -> None:
    summary = "a run, or a vocoder, as StableHLO or ONNX: to be used with jax, or onnxruntime, without this package"
    sub = command.subcommand(commands, "export", _export, summary)
    sub.add_argument("run", type=Path, metavar="RUN", help="prosody or acoustic run, or hifigan, or a vocoder's file")
    sub.add_argument("out", type=Path, metavar="OUT", help="folder to make")
    sub.add_argument("--onnx", action="store_true", help="an ONNX model, checked in onnxruntime, in place of StableHLO")
    sub.add_argument("--solver", choices=command.SOLVERS, help="diffusion, flow matching: another solver of theirs")
    sub.add_argument("--solver-steps", type=command.count, help="diffusion, flow matching: another number of steps")
    sub.add_argument("--guidance", type=command.not_negative, default=0.0, metavar="W", help=command.GUIDANCE)


def _export(options: argparse.Namespace) -> None:
    from tts_gen import runs, vocoders
    from tts_gen.export import write
    from tts_gen.features.files import read_json

    if str(options.run) == "hifigan" or options.run.is_file():
        write.export_vocoder(vocoders.load(str(options.run)), options.out, options.onnx)
    else:
        given = {"solver": options.solver, "solver_steps": options.solver_steps}
        overrides = {name: value for name, value in given.items() if value is not None}
        write.export_run(runs.load(options.run, overrides, options.guidance), options.out, options.onnx)
    if options.onnx:
        difference = read_json(options.out / "model.json")["largest_difference"]
        print(f"{options.out / 'model.onnx'}: at most {difference:.1e} from the original, in onnxruntime")
    print(f"{options.out}: how to use it stands in the first lines of {options.out / 'load.py'}")
