"""`tts-gen corpus NAME DIR`. What is heavy is imported by the one that needs it."""

import argparse
from pathlib import Path

from tts_gen import command
from tts_gen.corpora import CORPORA
from tts_gen.corpora.readers import READERS

MADE = {
    "asterisk": "one speaker, 24 min, from Debian packages",
    "queen": "acted speech, 4.4 h, from a Debian package",
    "espeak": "synthetic speech with exact phoneme times, needs no download",
}
HOLD_OUT = (
    "what val and test have that train lacks; official: the corpus's own split. Default: official where there is one, "
    "else chapter where there are chapters, else prompt"
)


def add(commands: argparse._SubParsersAction) -> None:
    """To the subcommands of `tts-gen`."""
    summary = "get a corpus of speech, or read one that you have, and write its manifest; docs/OWN_DATA.md"
    names = commands.add_parser("corpus", help=summary, description=summary)
    names = names.add_subparsers(dest="name", required=True, metavar="NAME")
    for name, what in MADE.items():
        sub = command.subcommand(names, name, _build, what)
        _common(sub)
        sub.add_argument(
            "--deb", type=Path, action="append", help="a .deb file to read instead of downloading (repeat)"
        )
    for name, reader in READERS.items():
        sub = command.subcommand(names, name, _read, reader.HELP)
        _common(sub)
        sub.add_argument("--source", type=Path, required=True, metavar="PATH", help="the corpus; it stays as it is")
        sub.add_argument("--hold-out", choices=("official", "speaker", "chapter", "prompt"), help=HOLD_OUT)
        for option, settings in reader.OPTIONS.items():
            sub.add_argument(f"--{option.replace('_', '-')}", **settings)


def _common(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("directory", type=Path, metavar="DIR", help="gets manifest.jsonl")
    sub.add_argument("--workers", type=command.count, default=2)
    sub.add_argument("--seed", type=int, default=0, help="of the split into train, val and test")


def _build(options: argparse.Namespace) -> None:
    extra = {"debs": options.deb} if options.deb else {}
    print(CORPORA[options.name](options.directory, workers=options.workers, seed=options.seed, **extra))


def _read(options: argparse.Namespace) -> None:
    from tts_gen.corpora.reading import build

    own = {option: getattr(options, option) for option in READERS[options.name].OPTIONS}
    print(
        build(options.name, options.directory, options.source, options.hold_out, options.workers, options.seed, **own)
    )
