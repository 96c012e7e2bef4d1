"""Feature stores that lie at an address of fsspec (gs://, s3://, https://, ...): what is read of them is fetched once,
to a folder of this machine.

FOLDER/DIGEST/NAME/          of a store of that name: its small files; DIGEST is of what they hold, so a store that
                             changed gets another folder, and what is in a folder never changes
FOLDER/DIGEST/NAME/shards/   those whose records were asked for

A file is fetched to a temporary name, by one thread of one process at a time, and is there whole or not at all.
"""

import fcntl
import hashlib
import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tts_gen.config import UserError
from tts_gen.features.files import replacing, sha256_of


class Unreachable(OSError):
    """An address that does not answer, or breaks off. No UserError: training leaves out what is damaged, but a network
    that is down must end it."""


def is_address(name: object) -> bool:
    return "://" in str(name)


def folder() -> Path:
    """Where fetched stores lie: TTS_GEN_STORES, or ~/.cache/tts_gen/stores."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return Path(os.environ.get("TTS_GEN_STORES") or cache / "tts_gen" / "stores")


def folder_of(name: str, digest: str) -> Path:
    return folder() / digest[:16] / name


def resolved(home: str | Path, name: str) -> str:
    """The absolute path or address that `name` stands for in a file of the folder or address `home`."""
    if is_address(name):
        return name
    if not is_address(home):
        return os.path.normpath(Path(home).absolute() / name)
    start, path = str(home).rsplit("://", 1)
    return f"{start}://{posixpath.normpath(posixpath.join(path, name))}"


def relative(home: Path, name: str) -> str:
    """Inverse of `resolved`."""
    return name if is_address(name) else os.path.relpath(name, home)


def mirror(address: str, needed: Iterable[str], optional: Iterable[str]) -> Path:
    """A local folder with these files of the store at `address`, as they are there now; its name is the store's.

    Raises FileNotFoundError where one that is needed is not there; UserError for an address that fsspec does not take,
    naming the package that is missing; Unreachable.
    """
    address = address.rstrip("/")
    _filesystem(address)[0].invalidate_cache()
    partial = folder() / f"{hashlib.sha256(address.encode()).hexdigest()[:16]}.partial"
    with _alone(partial):
        partial.mkdir(exist_ok=True)
        for left in partial.iterdir():
            left.unlink()
        for name in needed:
            _fetch(f"{address}/{name}", partial / name)
        for name in optional:
            try:
                _fetch(f"{address}/{name}", partial / name)
            except FileNotFoundError:
                continue
        digest, found = hashlib.sha256(), sorted(partial.iterdir())
        for path in found:
            digest.update(f"{path.name} {sha256_of(path)}\n".encode())
        made = folder_of(address.rsplit("/", 1)[-1], digest.hexdigest())
        made.mkdir(parents=True, exist_ok=True)
        for path in found:
            path.replace(made / path.name)
        partial.rmdir()
    return made


def sha256_at(place: str) -> str:
    """Of a file at a path or an address. Raises FileNotFoundError, Unreachable."""
    if not is_address(place):
        return sha256_of(Path(place))
    path = folder() / hashlib.sha256(place.encode()).hexdigest()[:16]
    with _alone(path):
        _fetch(place, path)
        digest = sha256_of(path)
        path.unlink()
    return digest


class Shards:
    """The shards of a store on this machine, by the names that its index has for them: paths or addresses seen from
    `home`/shards. Those that lie elsewhere are fetched when they are first asked for, to `cache`. Threads and processes
    may share it."""

    def __init__(self, home: str | Path, cache: Path, names: Iterable[str]) -> None:
        home = home if is_address(home) else os.path.realpath(home)
        self.origins = {name: resolved(f"{home}/shards", name) for name in names}
        self.paths = {
            name: str(cache / "shards" / re.sub(r"[^\w.-]+", "_", name)) if is_address(origin) else origin
            for name, origin in self.origins.items()
        }
        self._to_fetch = {name for name, origin in self.origins.items() if is_address(origin)}

    def fetch(self, name: str) -> None:
        """So that paths[name] is there. Raises FileNotFoundError where it does not exist; Unreachable."""
        if name not in self._to_fetch:
            return
        path = Path(self.paths[name])
        if not path.is_file():
            with _alone(path):
                if not path.is_file():  # another may have fetched it while this one waited
                    _fetch(self.origins[name], path)
        self._to_fetch.discard(name)

    def is_fetched(self, name: str) -> bool:
        """Whether it lies elsewhere."""
        return is_address(self.origins[name])


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """What no other thread or process does for `path` at the same time; who waits gets its turn however one ends."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(address: str, path: Path) -> None:
    """Raises FileNotFoundError, Unreachable."""
    filesystem, name = _filesystem(address)
    for left in path.parent.glob(f"{path.name}.*.tmp"):  # by one that was killed
        left.unlink(missing_ok=True)
    with replacing(path) as temporary:
        try:
            filesystem.get_file(name, str(temporary))
            size = _size(filesystem, name)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"there is no {address}") from error
        except Exception as error:  # each package has its own
            raise Unreachable(f"{address} cannot be fetched ({_said(error)}); start again to go on") from error
        if size not in (None, found := temporary.stat().st_size):
            raise Unreachable(f"{address} broke off after {found} of {size} bytes; start again to go on")


def _size(filesystem: Any, name: str) -> int | None:
    try:
        return filesystem.size(name)
    except FileNotFoundError:  # what fsspec says of an HTTP server that tells no size
        return None


def _filesystem(address: str) -> tuple[Any, str]:
    """Of fsspec, and the name in it. Raises UserError for an address that it does not take; Unreachable."""
    import fsspec

    try:
        return fsspec.core.url_to_fs(address)
    except ImportError as error:  # names the package
        raise UserError(f"{address} cannot be opened: {error}") from error
    except ValueError as error:
        raise UserError(f"{address} cannot be opened: {error}; give a folder, or gs://, s3://, https://...") from error
    except Exception as error:  # each package has its own
        raise Unreachable(f"{address} cannot be opened ({_said(error)})") from error


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
