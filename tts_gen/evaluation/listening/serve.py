"""The endpoint: hands out the page and its sounds, keeps what listeners send. Standard library only."""

import hashlib
import logging
import os
import re
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tts_gen.config import UserError
from tts_gen.evaluation.listening.results import MAX_BYTES, Malformed, parse, read_key

log = logging.getLogger(__name__)

SECONDS = 30
"""that a connection may be idle"""
DRAIN = 8_000_000
"""bytes of a refused body that are read and thrown away, so that its sender gets to read why it was refused"""


def serve(folder: Path, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serves the test in `folder` until interrupted. Raises UserError: no test there, port taken."""
    with make_server(folder, host, port) as server:
        at = f"[{host}]" if ":" in host else host
        print(f"http://{at}:{server.server_port}/  (results go to {folder / 'results'}; stop with Ctrl-C)", flush=True)
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
    try:
        return _Server((host, port), handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: {error}; choose another port") from error


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


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, ConnectionError):
            log.warning("%s went away: %s", client_address, error)
        else:
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    key: dict
    html: bytes
    wavs: Path
    out: Path
    timeout = SECONDS
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tts-gen", ""

    def do_GET(self) -> None:
        if self.path.split("?")[0] in ("/", "/index.html"):
            return self._answer(HTTPStatus.OK, self.html, "text/html; charset=utf-8")
        # Ids have no dots or slashes, so no path that matches leaves the folder.
        wav = re.fullmatch(r"/wavs/(s[0-9a-f]{12})\.wav", self.path)
        if wav and (path := self.wavs / f"{wav[1]}.wav").is_file():
            return self._answer(HTTPStatus.OK, path.read_bytes(), "audio/wav")
        self._refuse(HTTPStatus.NOT_FOUND, "there is the page at / and nothing else")

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 15:
            return self._refuse(HTTPStatus.LENGTH_REQUIRED, "Content-Length must say how long the result is")
        if int(length) > MAX_BYTES:
            self._drain(int(length))
            return self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a result has at most {MAX_BYTES} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return self._refuse(HTTPStatus.BAD_REQUEST, "the body is shorter than Content-Length says")
        if self.path != "/results":
            return self._refuse(HTTPStatus.NOT_FOUND, "results go to /results")
        # A form of another site could send text/plain unasked, but not this.
        if self.headers.get_content_type() != "application/json":
            return self._refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "results are application/json")
        try:
            path = store(body, self.key, self.out)
        except Malformed as error:
            return self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, f"not saved: {error}")
        except OSError as error:
            log.error("%s: a result could not be written: %s", self.out, error)
            return self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, "the result could not be written; keep it")
        log.info("%s: %d bytes", path.name, len(body))
        self._answer(HTTPStatus.OK, b"saved", "text/plain; charset=utf-8")

    def _drain(self, length: int) -> None:
        left = min(length, DRAIN)
        while left > 0 and (part := self.rfile.read(min(left, 65536))):
            left -= len(part)

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True
        log.warning("refused with %d: %s", status, why.encode("unicode_escape").decode()[:300])
        self._answer(status, why.encode("utf-8", "replace"), "text/plain; charset=utf-8")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what is kept and what is refused is logged above."""
