"""Programs of several processes on loopback."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from models import xla_flags

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def joined(arguments: list, count: int = 2) -> list[subprocess.Popen]:
    """A Python program in several processes of one device each."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, *arguments, "--coordinator", address, "--processes", count, "--process"]
    return [started([*command, rank], {}) for rank in range(count)]


def started(command: list, environment: dict[str, str]) -> subprocess.Popen:
    """A process of one device."""
    environment = os.environ | {"XLA_FLAGS": xla_flags(1)} | environment
    return subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True, env=environment, cwd=ROOT)


def finish(pair: list[subprocess.Popen]) -> tuple[list[int], list[str]]:
    """Exit codes and messages."""
    messages = [process.communicate(timeout=240)[1] for process in pair]
    return [process.returncode for process in pair], messages
