"""`tts-gen studio`: its options, and what they do."""

import argparse
from pathlib import Path

from tts_gen import command
from tts_gen.config import UserError


def add(commands: argparse._SubParsersAction) -> None:
    summary = "a page to type sentences, hear runs side by side, and draw durations and pitch"
    sub = command.subcommand(commands, "studio", _studio, summary)
    sub.add_argument("--prosody", nargs="+", type=Path, required=True, metavar="RUN", help="prosody runs")
    sub.add_argument("--acoustic", nargs="+", type=Path, required=True, metavar="RUN", help="acoustic runs")
    sub.add_argument("--vocoder", default="auto", help="auto, hifigan, griffin_lim, or a HiFi-GAN or Vocos file")
    sub.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in, without any password")
    sub.add_argument("--port", type=command.whole, default=8001, help="0 takes any that is free")


def _studio(options: argparse.Namespace) -> None:
    command.use_compile_cache()

    from tts_gen import runs, vocoders, web
    from tts_gen.studio.server import Studio, make_server

    paths = {"prosody": options.prosody, "acoustic": options.acoustic}
    for kind, given in paths.items():
        if len({path.resolve().name for path in given}) < len(given):
            raise UserError(f"--{kind}: runs are told apart by their folder's name, and two are the same")
    found = {kind: {path.resolve().name: runs.load(path) for path in given} for kind, given in paths.items()}
    audio = next(iter(found["acoustic"].values())).audio
    studio = Studio(found["prosody"], found["acoustic"], vocoders.load(options.vocoder, audio))
    with make_server(studio, options.host, options.port) as server:
        print(f"{web.address(server, options.host)}  (stop with Ctrl-C)", flush=True)
        server.serve_forever()
