"""Small Debian packages and corpora for the tests of tts_gen.corpora."""

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
import soundfile


def write_deb(directory: Path, package: str, version: str, files: dict[str, bytes]) -> Path:
    """A .deb: an `ar` archive of a format number, control.tar.gz and data.tar.xz."""
    control = f"Package: {package}\nVersion: {version}\nArchitecture: all\nMaintainer: a test\nDescription: a test\n"
    members = {
        "debian-binary": b"2.0\n",
        "control.tar.gz": _tar({"control": control.encode()}, "gz"),
        "data.tar.xz": _tar(files, "xz"),
    }
    path = directory / f"{package}_{version}_all.deb"
    with path.open("wb") as file:
        file.write(b"!<arch>\n")
        for name, data in members.items():
            file.write(
                f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(data):<10}`\n".encode() + data + b"\n" * (len(data) % 2)
            )
    return path


def _tar(files: dict[str, bytes], compression: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{compression}") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tone(seconds: float, rate: int, hertz: float = 200.0) -> np.ndarray:
    return (8000 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)).astype(np.int16)


def g722(wave: np.ndarray) -> bytes:
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="g722") as container:
        stream = container.add_stream("g722", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(wave[None], format="s16", layout="mono")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame) + stream.encode(None))
    return buffer.getvalue()


def mp3(wave: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, 11025, format="MP3")
    return buffer.getvalue()


def asterisk_debs(directory: Path, prompts: dict[str, str], sounds: dict[str, bytes]) -> list[Path]:
    text = "; a comment\n\n" + "".join(f"{name}: {prompt}\n" for name, prompt in prompts.items())
    name = "asterisk-core-sounds-en"
    folder = "usr/share/asterisk/sounds/en_US_f_Allison"
    audio = {f"{folder}/{n}.g722": data for n, data in sounds.items()}
    audio[f"usr/share/doc/{name}-g722/copyright"] = b"THE LICENCE ITSELF\n"
    document = f"usr/share/doc/{name}/core-sounds-en.txt.gz"
    return [
        write_deb(directory, f"{name}-g722", "1.6.1-1", audio),
        write_deb(directory, name, "1.6.1-1", {document: gzip.compress(text.encode())}),
    ]


def dialogue(key: int, joe: list[tuple[int, str]], other: list[tuple[int, str]]) -> bytes:
    """A .DOG file with one level, after ScummVM's reader of the game."""
    data = bytearray(struct.pack(">12h", -1, 0, key, len(joe), len(other), *[0] * 7) + bytes(8 + 96))
    _append(data, joe)
    struct.pack_into(">H", data, 22, len(data))
    _append(data, other)
    return bytes(20) + bytes(data)


def _append(data: bytearray, strings: list[tuple[int, str]]) -> None:
    for identity, text in strings:
        data += struct.pack(">hhB", 0, identity, len(text)) + text.encode("cp850")
        data += bytes(-len(data) % 4 if text else 0)


def cutscene(strings: list[str]) -> bytes:
    """A .CUT file: its strings follow that of a file name."""
    data = bytearray(struct.pack(">5h", 0, -len(strings), 0, 0, 10))
    for text in ["music", *strings]:
        data += bytes([len(text)]) + text.encode("cp850")
        data += bytes(-len(data) % 2 if text else 0)
    return bytes(20) + bytes(data)


def queen_file(members: dict[str, bytes]) -> bytes:
    table, contents = b"", b""
    offset = 15 + 21 * len(members)
    for name, data in members.items():
        table += struct.pack(">12sBII", name.encode(), 1, offset + len(contents), len(data))
        contents += data
    return b"QTBL" + b"CEM10\0\0\0\1" + struct.pack(">H", len(members)) + table + contents
