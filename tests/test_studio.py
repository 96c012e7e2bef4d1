"""The studio's server: what is typed is spoken, what is drawn is voiced, what is wrong is refused and ends nothing."""

import base64
import io
import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
from models import make_store, small_config, write_untrained

from tts_gen import runs, synthesis
from tts_gen.config import UserError
from tts_gen.studio import server
from tts_gen.studio.server import MAX_BYTES, Studio, make_server
from tts_gen.vocoders import load

TYPED = {"text": "Me, see tea.", "prosody": "flow", "acoustic": "l1", "speaker": "ann"}


@pytest.fixture(scope="module")
def studio(tmp_path_factory):
    root = tmp_path_factory.mktemp("studio")
    store = make_store(root / "store")
    write_untrained(small_config("prosody", "flow", store.root), store, root / "flow")
    write_untrained(small_config("acoustic", "regression", store.root), store, root / "l1")
    flow, l1 = runs.load(root / "flow"), runs.load(root / "l1")
    return Studio({"flow": flow}, {"l1": l1}, load("griffin_lim", l1.audio))


@pytest.fixture(scope="module")
def at(studio):
    with make_server(studio, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def post(at: str, path: str, body, kind: str = "application/json") -> tuple[int, str]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(at + path, data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def sound(found: dict) -> np.ndarray:
    return soundfile.read(io.BytesIO(base64.b64decode(found["wav"])))[0]


def test_the_page_offers_what_there_is(at):
    page = urllib.request.urlopen(at, timeout=10).read().decode()
    assert '"prosody": {"flow": true}, "acoustic": {"l1": false}, "speakers": ["ann", "bob"]' in page
    assert "{{" not in page and "http://" not in page.replace("http://www.w3.org/2000/svg", "")


def test_what_is_drawn_is_voiced(at):
    status, told = post(at, "/speak", TYPED)
    assert status == 200
    found = json.loads(told)
    phonemes = found["prosody"]["phonemes"]
    assert [p["phone"] for p in phonemes] == ["pau", "M", "IY1", "pau", "S", "IY1", "T", "IY1", "pau"]
    seconds = sum(p["ms"] for p in phonemes) / 1000
    assert len(sound(found)) == pytest.approx(seconds * 22050, abs=1)
    drawn = {"acoustic": "l1", "prosody": found["prosody"]}
    same = json.loads(post(at, "/voice", drawn)[1])
    assert np.corrcoef(sound(same), sound(found))[0, 1] > 0.95
    phonemes[2]["ms"] += 500
    again = json.loads(post(at, "/voice", drawn)[1])
    assert len(sound(again)) - len(sound(found)) == pytest.approx(0.5 * 22050, abs=256)


def test_requests_at_once_give_what_each_asks(at):
    asked = [TYPED | {"seed": i % 2} for i in range(6)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda one: post(at, "/speak", one), asked))
    assert {status for status, _ in answers} == {200}
    assert len({told for _, told in answers[::2]}) == len({told for _, told in answers[1::2]}) == 1
    assert answers[0] != answers[1]


@pytest.mark.parametrize("path, body, status, message", [
    ("/speak", TYPED | {"text": " "}, 422, "nothing to say in the text"),
    ("/speak", TYPED | {"text": "Hello."}, 422, "unknown phoneme 'HH'"),
    ("/speak", TYPED | {"text": "tea " * 100}, 422, "the text has 400 characters; at most 200 here"),
    ("/speak", TYPED | {"prosody": "glow"}, 422, "no run 'glow'; there are flow"),
    ("/speak", TYPED | {"speaker": "zoe"}, 422, "unknown speaker 'zoe'; this corpus has unknown, ann, bob"),
    ("/speak", TYPED | {"prosody_temperature": -1}, 422, "controls.prosody_temperature is -1.0; give 0 to 10"),
    ("/speak", TYPED | {"pace": "fast"}, 422, "request: pace: expected float, found 'fast'"),
    ("/speak", TYPED | {"tone": 1}, 422, "request: Controls has no tone; valid names are prosody_temperature"),
    ("/voice", {"acoustic": "l1", "prosody": {"phonemes": [{"phone": "M"}]}}, 422, "prosody: phoneme 1: must have"),
    ("/speak", TYPED | {"pace": 10**400}, 422, "request: pace: expected float"),
    ("/voice", {"acoustic": "l1", "prosody": {"phonemes": [{"phone": "M", "ms": 1, "hz": None, "after": ""}] * 9}},
     422, "need 104 ms at least"),
    ("/voice", {"acoustic": "l1"}, 422, "prosody: has no list of phonemes"),
    ("/speak", b"{", 422, "the request is not JSON"),
    ("/speak", b"[]", 422, "the request is not a JSON object"),
    ("/speak", b"x" * (MAX_BYTES + 1), 413, "a request has at most 200000 bytes"),
    ("/other", b"{}", 404, "requests go to /speak and /voice"),
])  # fmt: skip
def test_what_is_wrong_is_refused(path, body, status, message, at):
    found, told = post(at, path, body)
    assert (found, message in told) == (status, True), told[:500]
    assert urllib.request.urlopen(at, timeout=10).status == 200


def test_forms_of_other_sites_are_refused(at):
    assert post(at, "/speak", TYPED, "text/plain")[0] == 415


def test_runs_that_do_not_fit_and_a_port_that_is_taken_are_told(studio, at):
    with pytest.raises(UserError, match="give a prosody run as --prosody"):
        Studio(studio.acoustic, studio.acoustic, studio.vocoder)
    with pytest.raises(UserError, match="choose another port"):
        make_server(studio, "127.0.0.1", int(at.rpartition(":")[2]))


def test_a_short_text_may_be_long_speech(at, monkeypatch):
    monkeypatch.setattr(server, "LONGEST_SPEECH", 0.1)
    status, told = post(at, "/speak", TYPED)
    assert status == 422 and "s of speech; at most 0.1 s here" in told
    monkeypatch.setattr(server, "MOST", 8)
    assert post(at, "/speak", TYPED) == (422, "the text has 9 phonemes; at most 8 here, more with `synthesize`")


def test_who_waits_too_long_is_told_and_a_defect_ends_nothing(studio, at, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 0.01)
    with studio._lock:
        assert post(at, "/speak", TYPED) == (503, "busy with other requests; try again")
    with monkeypatch.context() as patch:
        patch.setattr(synthesis, "read", lambda *_: 1 / 0)
        assert post(at, "/speak", TYPED)[0] == 500
    assert post(at, "/speak", TYPED)[0] == 200
