"""What the command lines share: exit codes, errors for people, the compile cache, argument types.

Exit codes: 0 done; 1 failed, message on standard error; 2 wrong usage; 75 stopped by a signal after saving, start again
to go on.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tts_gen.config import Stopped, UserError

OTHER_PARAMETERS = ("ScopeParamShapeError", "ScopeParamNotFoundError")
"""what flax, which is not imported for this, raises for parameters that are not a model's"""
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
        logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax's tracebacks of what is told in a line
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
        except Exception as error:
            if type(error).__name__ not in OTHER_PARAMETERS:
                raise
            print(f"error: a run is of another version of tts_gen, whose model has other parameters; train or convert "
                  f"it anew ({str(error).split('. ')[0]})", file=sys.stderr)  # fmt: skip
            return FAILED
        return DONE

    return run


def subcommand(
    of: argparse._SubParsersAction, name: str, function: Callable[[argparse.Namespace], None], summary: str
) -> argparse.ArgumentParser:
    """A parser of what follows `name` on the command line; `options.function` is then `function`."""
    shown = argparse.ArgumentDefaultsHelpFormatter
    sub = of.add_parser(name, help=summary, description=summary, formatter_class=shown)
    sub.set_defaults(function=function)
    return sub


def add_processes(parser: argparse.ArgumentParser, what: str) -> None:
    """What `parallel.processes` takes; `what` several processes do."""
    shared = parser.add_argument_group("several processes", what)
    shared.add_argument("--coordinator", default="", help='HOST:PORT of the first, or "auto", as for train.py')
    shared.add_argument("--processes", type=count, default=0, help="how many there are, with HOST:PORT")
    shared.add_argument("--process", type=whole, default=-1, help="which of them this is, from 0 on")


def use_compile_cache() -> None:
    """Keeps compiled programs in a folder, so that only the first run of a model waits for the compiler."""
    import jax

    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "tts_gen" / "jax"
    jax.config.update("jax_compilation_cache_dir", os.environ.get("JAX_COMPILATION_CACHE_DIR", str(default)))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _number(text: str, low: float, strict: bool = False) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not low <= value < float("inf") or (strict and value == low):
        raise argparse.ArgumentTypeError(f"{text} is out of range, {'more than' if strict else 'at least'} {low:g}")
    return value


def not_negative(text: str) -> float:
    return _number(text, 0.0)


def positive(text: str) -> float:
    return _number(text, 0.0, strict=True)


def temperatures(text: str) -> tuple[float, ...]:
    """A comma list, sorted, each once."""
    return tuple(sorted({not_negative(part) for part in text.split(",")}))


def whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
