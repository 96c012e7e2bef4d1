"""What small servers of pages share: answers, refusals, bodies of limited size. Standard library only."""

import logging
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tts_gen.config import UserError

log = logging.getLogger(__name__)

SECONDS = 30
"""that a connection may be idle"""
DRAIN = 8_000_000
"""bytes of a refused body that are read and thrown away, so that its sender gets to read why it was refused"""


def open_server(host: str, port: int, handler: type["Handler"]) -> ThreadingHTTPServer:
    """Raises UserError when the port is taken or the host is not this machine's."""
    try:
        return _Server((host, port), handler)
    except (OSError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port}: {error}; choose another port") from error


def address(server: ThreadingHTTPServer, host: str) -> str:
    at = f"[{host}]" if ":" in host else host
    return f"http://{at}:{server.server_port}/"


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        error = sys.exc_info()[1]
        if isinstance(error, ConnectionError):
            log.warning("%s went away: %s", client_address, error)
        else:
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """Answers GET and POST in subclasses, by `answer` and `refuse`."""

    timeout = SECONDS
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "tts-gen", ""

    def body(self, most: int, what: str) -> bytes | None:
        """A JSON body of at most `most` bytes; None when it was refused. `what` names what is sent."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > 15:
            return self.refuse(HTTPStatus.LENGTH_REQUIRED, f"Content-Length must say how long {what} is")
        if int(length) > most:
            self._drain(int(length))
            return self.refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{what} has at most {most} bytes")
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            return self.refuse(HTTPStatus.BAD_REQUEST, "the body is shorter than Content-Length says")
        # A form of another site could send text/plain unasked, but not this.
        if self.headers.get_content_type() != "application/json":
            return self.refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"{what} is application/json")
        return body

    def answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True
        log.warning("refused with %d: %s", status, why.encode("unicode_escape").decode()[:300])
        self.answer(status, why.encode("utf-8", "replace"), "text/plain; charset=utf-8")

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what is kept and what is refused is logged elsewhere."""

    def _drain(self, length: int) -> None:
        left = min(length, DRAIN)
        while left > 0 and (part := self.rfile.read(min(left, 65536))):
            left -= len(part)
