"""Debian packages: from .deb files that the user gives, or by `apt-get download` without root."""

import io
import logging
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tts_gen.config import UserError

log = logging.getLogger(__name__)


def obtain(packages: Mapping[str, str], directory: Path, debs: Sequence[Path] = ()) -> dict[str, Path]:
    """The .deb file of each of `packages` (name -> version known to work).

    Looked for in `debs`, then in `directory`, where `apt-get download` puts what is missing (apt checks its SHA-256).
    Raises UserError when a file is no such package, or when a package is not to be had.
    """
    found = {}
    for path in debs:
        name = _control(path)["Package"]
        if name not in packages:
            raise UserError(f"{path}: is package {name!r}; wanted are {', '.join(packages)}")
        found[name] = path
    for name, version in packages.items():
        if name not in found:
            there = sorted(directory.glob(f"{name}_*.deb"))
            found[name] = there[-1] if there else _download(name, directory)
        control = _control(found[name])
        if control["Package"] != name:
            raise UserError(
                f"{found[name]}: is package {control['Package']!r}, not {name!r}; remove it and start again"
            )
        if control["Version"] != version:
            log.warning("%s is version %s; %s is the one known to work", name, control["Version"], version)
    return found


def read_files(deb: Path, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    """Contents of the package's files whose path (without leading "./") is wanted.

    Raises UserError when the package is damaged.
    """
    try:
        with _tar(deb, "data") as tar:
            members = ((m, m.name.removeprefix("./")) for m in tar if m.isfile())
            return {name: tar.extractfile(m).read() for m, name in members if wanted(name)}
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise _damaged(deb, error) from error


def _control(deb: Path) -> dict[str, str]:
    from debian.deb822 import Deb822

    if not deb.is_file():
        raise UserError(f"{deb}: no such file; a Debian package (.deb) is wanted")
    try:
        with _tar(deb, "control") as tar:
            member = next((m for m in tar if m.name.removeprefix("./") == "control"), None)
            control = Deb822(tar.extractfile(member)) if member else {}
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise _damaged(deb, error) from error
    if lacking := [field for field in ("Package", "Version") if field not in control]:
        raise _damaged(deb, f"its control file lacks {', '.join(lacking)}")
    return {field: control[field] for field in ("Package", "Version")}


def _tar(deb: Path, part: str) -> tarfile.TarFile:
    """The "control" or "data" archive of the package."""
    from debian.arfile import ArError
    from debian.debfile import DebError, DebFile

    try:
        return getattr(DebFile(str(deb)), part).tgz()
    except (DebError, ArError) as error:
        # python-debian runs unzstd for Zstandard, which a system with dpkg may lack.
        flag = {"control": "--ctrl-tarfile", "data": "--fsys-tarfile"}[part]
        if shutil.which("dpkg-deb"):
            done = subprocess.run(["dpkg-deb", flag, str(deb)], capture_output=True)
            if done.returncode == 0:
                return tarfile.open(fileobj=io.BytesIO(done.stdout))
        raise _damaged(deb, error) from error


def _damaged(deb: Path, error: object) -> UserError:
    return UserError(f"{deb}: cannot be read as a Debian package ({error}); remove it and get it again")


def _download(name: str, directory: Path) -> Path:
    directory = directory.absolute()  # apt-get runs elsewhere
    directory.mkdir(parents=True, exist_ok=True)
    if not shutil.which("apt-get"):
        raise _unobtainable(name, "there is no apt-get on this system")
    with tempfile.TemporaryDirectory(dir=directory) as temporary:
        lists = _private_lists(Path(temporary))
        print(f"downloading Debian package {name}", flush=True)
        done = _apt(["download", name], temporary)
        if done.returncode:  # no package lists, or stale ones
            print("updating private package lists", flush=True)
            done = _apt([*lists, "update"], temporary)
            done = done if done.returncode else _apt([*lists, "download", name], temporary)
        files = list(Path(temporary).glob(f"{name}_*.deb"))
        if done.returncode or not files:
            raise _unobtainable(name, " ".join(done.stderr.split()[-60:]) or "apt-get says nothing")
        return files[0].rename(directory / files[0].name)


def _private_lists(directory: Path) -> list[str]:
    """Options that make apt-get keep its lists under `directory`, which needs no root."""
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (directory / folder).mkdir(parents=True)
    places = {"Dir::State": "state", "Dir::State::lists": "state/lists", "Dir::Cache": "cache"}
    return [part for key, folder in places.items() for part in ("-o", f"{key}={directory / folder}")]


def _apt(arguments: list[str], directory: str) -> subprocess.CompletedProcess:
    # Without a limit apt-get waits for minutes where there is no network.
    limits = ["-o", "Acquire::Retries=1", "-o", "Acquire::http::Timeout=20", "-o", "Acquire::https::Timeout=20"]
    command = ["apt-get", "-q", *limits, *arguments]
    return subprocess.run(command, cwd=directory, env=os.environ | {"LC_ALL": "C"}, capture_output=True, text=True)


def _unobtainable(name: str, why: str) -> UserError:
    return UserError(
        f"cannot get Debian package {name}: {why}. Get the file {name}_VERSION_all.deb on a machine that can "
        f"(`apt-get download {name}`, or from a Debian mirror) and give it with --deb FILE"
    )
