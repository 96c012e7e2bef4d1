"""The page's server: speaks what is typed, and voices what is drawn."""

import base64
import io
import json
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from importlib import resources
from typing import Any

import numpy as np

from tts_gen import synthesis, web
from tts_gen.config import UserError, from_dict
from tts_gen.runs import Run
from tts_gen.speech import prosody_file
from tts_gen.synthesis import Controls, Spoken
from tts_gen.text.pieces import LONGEST
from tts_gen.vocoders import Vocoder

log = logging.getLogger(__name__)

MAX_BYTES = 200_000
"""of a request"""
MOST, LONGEST_SPEECH = 250, 60.0
"""phonemes of a text: a number of a few digits may be many; seconds"""
PATIENCE = 60.0
"""seconds that a request waits for those before it"""


class Busy(Exception):
    """Too many requests wait."""


class Studio:
    """Runs by name, one vocoder, and one sentence at a time. Raises UserError for runs that cannot work together."""

    def __init__(self, prosody: Mapping[str, Run], acoustic: Mapping[str, Run], vocoder: Vocoder) -> None:
        for p in prosody.values():
            for a in acoustic.values():
                synthesis.check_runs({"prosody": p, "acoustic": a})
        self.prosody, self.acoustic, self.vocoder, self._lock = prosody, acoustic, vocoder, threading.Lock()

    def offer(self) -> dict:
        """What the page lets one choose."""
        inventory = next(iter(self.acoustic.values())).inventory
        runs = {"prosody": self.prosody, "acoustic": self.acoustic}
        return {
            **{kind: {n: r.config.decoder.generative for n, r in of.items()} for kind, of in runs.items()},
            "speakers": inventory.speakers[1:] or inventory.speakers, "styles": inventory.styles, "longest": LONGEST,
        }  # fmt: skip

    def speak(self, asked: dict) -> dict:
        """`asked`: text, prosody and acoustic (names of runs), and any fields of Controls."""
        prosody, acoustic = _named(self.prosody, asked.pop("prosody", "")), self._voice_of(asked)
        text, controls = asked.pop("text", ""), from_dict(Controls, asked, "request")
        if not isinstance(text, str) or len(text) > LONGEST:
            raise UserError(f"the text has {len(str(text))} characters; at most {LONGEST} here, more with `synthesize`")
        with self._turn():  # espeak-ng, which may read the text, is not thread-safe either
            sentence = synthesis.read(text, prosody, controls)
            if (n := len(sentence.phoneme)) > MOST:
                raise UserError(f"the text has {n} phonemes; at most {MOST} here, more with `synthesize`")
            intoned = synthesis.intone([sentence], prosody, controls)
            if (seconds := len(intoned[0].mel) * acoustic.audio.frame_seconds) > LONGEST_SPEECH:
                raise UserError(f"that is {seconds:.0f} s of speech; at most {LONGEST_SPEECH:g} s here")
            return self._voiced(synthesis.voice(intoned, acoustic, controls), acoustic)

    def voice(self, asked: dict) -> dict:
        """`asked`: acoustic (a run's name), prosody (as `prosody_file.told` tells it), and any fields of Controls."""
        acoustic, drawn = self._voice_of(asked), asked.pop("prosody", None)
        sentence = prosody_file.taken(drawn, "prosody", acoustic.inventory, acoustic.audio)
        controls = from_dict(Controls, asked, "request")
        with self._turn():
            return self._voiced(synthesis.voice([sentence], acoustic, controls), acoustic)

    def _voice_of(self, asked: dict) -> Run:
        return _named(self.acoustic, asked.pop("acoustic", ""))

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._lock.acquire(timeout=PATIENCE):
            raise Busy
        try:
            yield
        finally:
            self._lock.release()

    def _voiced(self, spoken: list[Spoken], run: Run) -> dict:
        import soundfile

        wave, file = self.vocoder(spoken[0].mel), io.BytesIO()
        soundfile.write(
            file, wave / max(1.0, np.abs(wave).max()), run.audio.sample_rate, subtype="PCM_16", format="WAV"
        )
        prosody = prosody_file.told(spoken[0].features, run.inventory, run.audio)
        return {"wav": base64.b64encode(file.getvalue()).decode(), "prosody": prosody}


def _named(runs: Mapping[str, Run], name: Any) -> Run:
    if not isinstance(name, str) or name not in runs:
        raise UserError(f"no run {name!r}; there are {', '.join(runs)}")
    return runs[name]


def make_server(studio: Studio, host: str, port: int) -> ThreadingHTTPServer:
    """Raises UserError when the port is taken."""
    folder = resources.files("tts_gen.studio")
    html, script = ((folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.js"))
    offer = json.dumps(studio.offer()).replace("<", "\\u003c")
    html = html.replace("{{script}}", script).replace("{{offer}}", offer)
    return web.open_server(host, port, type("Handler", (_Handler,), {"studio": studio, "html": html.encode()}))


class _Handler(web.Handler):
    studio: Studio
    html: bytes

    def do_GET(self) -> None:
        if self.path.split("?")[0] == "/":
            return self.answer(HTTPStatus.OK, self.html, "text/html; charset=utf-8")
        self.refuse(HTTPStatus.NOT_FOUND, "there is the page at / and nothing else")

    def do_POST(self) -> None:
        body = self.body(MAX_BYTES, "a request")
        if body is None:
            return
        function = {"/speak": self.studio.speak, "/voice": self.studio.voice}.get(self.path)
        if function is None:
            return self.refuse(HTTPStatus.NOT_FOUND, "requests go to /speak and /voice")
        try:
            found = function(_object(body))
        except UserError as error:
            return self.refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except Busy:
            return self.refuse(HTTPStatus.SERVICE_UNAVAILABLE, "busy with other requests; try again")
        except Exception:  # a defect: told in full here, and the page stays up
            log.exception("%s could not be answered", self.path)
            return self.refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "something is wrong here; the server's log has it")
        self.answer(HTTPStatus.OK, json.dumps(found).encode(), "application/json")


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the request is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError("the request is not a JSON object")
    return found
