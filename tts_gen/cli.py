"""The `tts-gen` command, and the doors behind train.py and eval.py. Everything heavy is imported by the subcommand that needs it.

Exit codes: 0 done; 1 failed, message on standard error; 2 wrong usage; 75 stopped by a signal after saving, start again to go on.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tts_gen.config import UserError

DONE, FAILED, USAGE, STOPPED = 0, 1, 2, 75


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
    from tts_gen.training import Stopped

    try:
        return guarded(_train)(arguments)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return STOPPED


def _train(arguments: Sequence[str]) -> None:
    from typing import Annotated

    import tyro

    from tts_gen import runs
    from tts_gen.config import Config, read_config_file

    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: train.py CONFIG --workdir DIR [--FIELD VALUE ...]\n\n"
              "CONFIG is a Python file that defines `config` (see configs/); train.py CONFIG --help lists its fields.")  # fmt: skip
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
