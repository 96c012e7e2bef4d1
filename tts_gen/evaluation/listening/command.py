"""`tts-gen listen make | serve | analyse`. What is heavy is imported by the one that needs it."""

import argparse
import functools
from pathlib import Path

from tts_gen import command
from tts_gen.config import UserError


def add(commands: argparse._SubParsersAction) -> None:
    """To the subcommands of `tts-gen`."""
    sub = commands.add_parser("listen", help="listening tests: MUSHRA, AB preference, MOS; docs/LISTENING.md")
    actions = sub.add_subparsers(dest="action", required=True, metavar="WHAT")

    action = functools.partial(command.subcommand, actions)

    sub = action("make", _listen_make, "folders of wav files -> a page to hand out, and its key")
    sub.add_argument("systems", nargs="+", metavar="SYSTEM", help="NAME=FOLDER of wav files of equal names, or FOLDER")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR")
    sub.add_argument("--kind", choices=("mushra", "ab", "mos"), default="mushra")
    sub.add_argument("--reference", metavar="NAME", help="the system that MUSHRA compares with; it is also hidden")
    sub.add_argument("--utterances", type=command.count, metavar="N", help="drawn from those all have; 10 if that many")
    sub.add_argument("--seed", type=int, default=0, help="of utterances, ids and orders")
    sub.add_argument("--question", help="what listeners are asked, instead of the usual question of the kind")

    sub = action("serve", _listen_serve, "hand out the page and keep what listeners send, in DIR/results")
    sub.add_argument("directory", type=Path, metavar="DIR", help="made by `listen make`")
    sub.add_argument("--host", default="127.0.0.1", help="0.0.0.0: reachable from other machines, without encryption")
    sub.add_argument("--port", type=int, default=8000, help="0: any free one")

    sub = action("analyse", _listen_analyse, "results -> post-screening, means, paired tests, a figure")
    sub.add_argument("directory", type=Path, metavar="DIR", help="made by `listen make`")
    sub.add_argument("results", nargs="*", type=Path, metavar="RESULTS", help="files or folders; DIR/results otherwise")
    sub.add_argument("--out", type=Path, metavar="DIR", help="for analysis.json, .md, .png; beside the key otherwise")


def _listen_make(options: argparse.Namespace) -> None:
    from tts_gen.evaluation.listening.make import make

    systems = {}
    for text in options.systems:
        name, equals, folder = text.rpartition("=")
        name = name if equals else Path(folder).resolve().name
        if not name or name in systems:
            raise UserError(f"SYSTEM {text}: {'is there twice' if name else 'has no name'}; give NAME=FOLDER")
        systems[name] = Path(folder)
    key = make(
        systems, options.out, options.kind, options.reference, options.utterances, options.seed, options.question
    )
    print(f"{options.out / 'page' / 'index.html'}  {len(key['trials'])} trials, all at {key['loudness']} LKFS")
    print(f"next: tts-gen listen serve {options.out}, or hand out {options.out / 'page'}; keep key.json to yourself")


def _listen_serve(options: argparse.Namespace) -> None:
    from tts_gen.evaluation.listening.serve import serve

    serve(options.directory, options.host, options.port)


def _listen_analyse(options: argparse.Namespace) -> None:
    from tts_gen.evaluation.listening.analyse import analyse, text

    print(text(analyse(options.directory, options.results, options.out)), end="")
