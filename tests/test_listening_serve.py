"""The endpoint: what it refuses, and that what it acknowledged survives a kill."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tts_gen.evaluation.listening.results import MAX_BYTES, parse
from tts_gen.evaluation.listening.serve import make_server

KEY = {
    "test": "t000000000000", "kind": "mushra", "reference": "natural", "systems": ["natural", "flow"], "anchors": {},
    "trials": [{"id": f"t{i}", "utterance": f"u{i}", "stimuli": {f"s{i}a": "natural", f"s{i}b": "flow"}}
               for i in range(3)],
}  # fmt: skip
WAV = "s0123456789ab"


def result(listener: str = "p1", **changes) -> dict:
    rows = [{"trial": t["id"], "ratings": dict.fromkeys(t["stimuli"], 50), "seconds": 1.5} for t in KEY["trials"]]
    value = {"test": KEY["test"], "listener": listener, "session": "0123456789abcdef", "trials": rows,
             "started": "2025-01-01T10:00:00.000Z", "finished": "2025-01-01T10:20:00.000Z"}  # fmt: skip
    return value | changes


def with_row(**changes) -> dict:
    value = result()
    value["trials"][1] |= changes
    return value


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "page" / "wavs").mkdir(parents=True)
    (tmp_path / "page" / "index.html").write_text('<main data-endpoint="">')
    (tmp_path / "page" / "wavs" / f"{WAV}.wav").write_bytes(b"RIFF")
    (tmp_path / "key.json").write_text(json.dumps(KEY))
    return tmp_path


@pytest.fixture
def port(folder):
    with make_server(folder, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def ask(port: int, method: str, path: str, body: bytes | None = None, kind: str = "application/json", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body, {"Content-Type": kind} | headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def post(port: int, value: object, path: str = "/results", **options):
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return ask(port, "POST", path, body, **options)


def files(folder) -> list:
    return sorted((folder / "results").iterdir())


def test_page_and_sounds_and_nothing_else(port):
    assert ask(port, "GET", "/?listener=3") == (200, b'<main data-endpoint="results">')
    assert ask(port, "GET", f"/wavs/{WAV}.wav") == (200, b"RIFF")
    for path in ("/key.json", "/../key.json", "/wavs/../../key.json", "/wavs/..%2f..%2fkey.json", "//etc/passwd",
                 "/wavs/", "/results", f"/wavs/{WAV}.wav/../../../key.json", "/wavs/s0123456789ac.wav"):  # fmt: skip
        assert ask(port, "GET", path)[0] == 404, path


def test_a_result_is_kept_once_and_never_overwritten(port, folder):
    assert post(port, result()) == (200, b"saved") == post(port, result())
    assert len(files(folder)) == 1 and json.loads(files(folder)[0].read_text()) == result()
    assert post(port, with_row(ratings={"s1a": 100, "s1b": 0}))[0] == 200
    first, second = [json.loads(path.read_text()) for path in files(folder)]
    assert result() in (first, second) and first != second


@pytest.mark.parametrize(
    ("value", "why"),
    {
        "escape": (result("../../../evil"), "listener"),
        "absolute": (result("/etc/evil"), "listener"),
        "nul": (result("a\0b"), "listener"),
        "newline": (result("p1\n"), "listener"),
        "long": (result("a" * 33), "listener"),
        "session": (result(session="../x"), "session"),
        "other test": (result(test="t1"), "is of test"),
        "more fields": (result(admin=True), "exactly the fields"),
        "no trials": (result(trials=[]), "at least one"),
        "time": (result(finished="yesterday"), "finished"),
        "no zone": (result(finished="2025-01-01T10:20:00"), "finished"),
        "backwards": (result(started="2026-01-01T00:00:00Z"), "before it started"),
        "unknown trial": (with_row(trial="t9"), "no trial 't9'"),
        "trial is a list": (with_row(trial=[]), "no trial"),
        "twice": (with_row(trial="t0", ratings={"s0a": 1, "s0b": 2}), "twice"),
        "unknown stimulus": (with_row(ratings={"s1a": 1, "s9": 2}), "exactly the stimuli"),
        "stimulus lacks": (with_row(ratings={"s1a": 1}), "exactly the stimuli"),
        "too high": (with_row(ratings={"s1a": 100.5, "s1b": 0}), "from 0 to 100"),
        "huge": (with_row(ratings={"s1a": 10**400, "s1b": 0}), "from 0 to 100"),
        "negative": (with_row(ratings={"s1a": -1, "s1b": 0}), "from 0 to 100"),
        "bool": (with_row(ratings={"s1a": True, "s1b": 0}), "from 0 to 100"),
        "text": (with_row(ratings={"s1a": "90", "s1b": 0}), "from 0 to 100"),
        "seconds": (with_row(seconds=-1), "seconds"),
        "NaN": (with_row(seconds=float("nan")), "NaN"),
        "infinite": (json.dumps(with_row(seconds=7)).replace("7}", "1e999}").encode(), "seconds"),
        "list": ([], "must be an object"),
        "no JSON": (b"{", "not JSON"),
        "no UTF-8": (b"\xff\xfe\xfa", "not JSON"),
        "empty": (b"", "not JSON"),
        "deep": (b"[" * 100_000, "not JSON"),
        "twice a name": (b'{"test": 1, "test": 2}', "twice"),
        "digits": (b"[" + b"9" * 10_000 + b"]", "not JSON"),
    }.values(),
)  # fmt: skip
def test_malformed_results_are_refused(port, folder, value, why):
    status, text = post(port, value)
    assert status == 422 and why in text.decode(), text
    assert files(folder) == []
    assert post(port, result())[0] == 200  # and it goes on


def test_oversized_mistyped_and_misdirected_posts_are_refused(port, folder):
    assert post(port, b"x" * (MAX_BYTES + 1)) == (413, b"a result has at most 1000000 bytes")
    assert post(port, result(), kind="text/plain")[0] == 415
    for path in ("/", "/results/", "/results/../x", "/results?x=1", "/key.json"):
        assert post(port, result(), path)[0] == 404, path
    assert ask(port, "PUT", "/results", b"{}")[0] == 501
    for header in ("", "Content-Length: -1\r\n", "Content-Length: 1e3\r\n", "Transfer-Encoding: chunked\r\n"):
        with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
            raw.sendall(f"POST /results HTTP/1.1\r\nHost: x\r\n{header}\r\n".encode())
            assert b" 411 " in raw.recv(1000)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        raw.sendall(b"POST /results HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc")
        raw.shutdown(socket.SHUT_WR)
        assert b" 400 " in raw.recv(1000)
    assert files(folder) == []


def test_a_full_disk_is_not_called_saved(port, folder):
    (folder / "results").rmdir()
    assert post(port, result())[0] == 507
    (folder / "results").mkdir()
    assert post(port, result())[0] == 200


def test_nothing_acknowledged_is_lost_when_killed(folder):
    """SIGKILL while eight listeners send without pause: every result that got its 200 is there, whole."""
    command = [sys.executable, "-m", "tts_gen.cli", "listen", "serve", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline().split("/")[2].split(":")[1])
            saved, enough = [], threading.Event()

            def listen(who: int) -> None:
                for i in range(10_000):
                    name = f"p{who}-{i}"
                    try:
                        if post(port, result(name))[0] == 200:
                            saved.append(name)
                    except (OSError, http.client.HTTPException):
                        return
                    if len(saved) > 60:
                        enough.set()

            with ThreadPoolExecutor(8) as pool:
                done = [pool.submit(listen, who) for who in range(8)]
                assert enough.wait(30)
                server.send_signal(signal.SIGKILL)
            assert not [f.exception() for f in done if f.exception()]
        finally:
            server.kill()
    kept = {parse(path.read_bytes(), KEY).listener for path in (folder / "results").glob("*.json")}
    assert len(saved) > 60 and set(saved) <= kept
