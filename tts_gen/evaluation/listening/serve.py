"""The endpoint: hands out the page and its sounds, keeps what listeners send. Standard library only."""

import hashlib
import logging
import os
import re
import threading
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from pathlib import Path

from tts_gen import web
from tts_gen.config import UserError
from tts_gen.evaluation.listening.results import MAX_BYTES, Malformed, parse, read_key

log = logging.getLogger(__name__)


def serve(folder: Path, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serves the test in `folder` until interrupted. Raises UserError: no test there, port taken."""
    with make_server(folder, host, port) as server:
        print(f"{web.address(server, host)}  (results go to {folder / 'results'}; stop with Ctrl-C)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print("stopped; all results that were acknowledged are kept")


def make_server(folder: Path, host: str, port: int) -> ThreadingHTTPServer:
    key = read_key(folder)
    page = folder / "page" / "index.html"
    if not page.is_file():
        raise UserError(f"{page}: no such file; make the test again")
    results = folder / "results"
    results.mkdir(exist_ok=True)
    html = page.read_bytes().replace(b'data-endpoint=""', b'data-endpoint="results"', 1)
    handler = type("Handler", (_Handler,), {"key": key, "html": html, "wavs": folder / "page" / "wavs", "out": results})
    return web.open_server(host, port, handler)


def store(body: bytes, key: dict, folder: Path) -> Path:
    """Checks a result and writes it as folder/LISTENER-SESSION-HASH.json, on the disk before this returns.

    The same result twice is one file; another one of the same session is a file of its own, so nothing is ever
    overwritten. Raises Malformed when a row of it is not sound."""
    result = parse(body, key)
    if result.problems:
        raise Malformed("; ".join(result.problems[:5]))
    path = folder / f"{result.listener}-{result.session}-{hashlib.sha256(body).hexdigest()[:16]}.json"
    temporary = folder / f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp"
    try:
        with temporary.open("wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    directory = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return path


class _Handler(web.Handler):
    key: dict
    html: bytes
    wavs: Path
    out: Path

    def do_GET(self) -> None:
        if self.path.split("?")[0] in ("/", "/index.html"):
            return self.answer(HTTPStatus.OK, self.html, "text/html; charset=utf-8")
        # Ids have no dots or slashes, so no path that matches leaves the folder.
        wav = re.fullmatch(r"/wavs/(s[0-9a-f]{12})\.wav", self.path)
        if wav and (path := self.wavs / f"{wav[1]}.wav").is_file():
            return self.answer(HTTPStatus.OK, path.read_bytes(), "audio/wav")
        self.refuse(HTTPStatus.NOT_FOUND, "there is the page at / and nothing else")

    def do_POST(self) -> None:
        body = self.body(MAX_BYTES, "a result")
        if body is None:
            return
        if self.path != "/results":
            return self.refuse(HTTPStatus.NOT_FOUND, "results go to /results")
        try:
            path = store(body, self.key, self.out)
        except Malformed as error:
            return self.refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"not saved: {error}")
        except OSError as error:
            log.error("%s: a result could not be written: %s", self.out, error)
            return self.refuse(HTTPStatus.INSUFFICIENT_STORAGE, "the result could not be written; keep it")
        log.info("%s: %d bytes", path.name, len(body))
        self.answer(HTTPStatus.OK, b"saved", "text/plain; charset=utf-8")
