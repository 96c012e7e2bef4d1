"""The report is one file that needs nothing else."""

import base64
import html.parser
import io
import re

import numpy as np
import pytest
import soundfile

from tts_gen.evaluation import metrics, plots, rows
from tts_gen.evaluation.headline import print_tables
from tts_gen.evaluation.report import Section, commands, write_report


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    rng = np.random.default_rng(0)
    y = rng.standard_normal(500)
    generated = {"l2": {None: y * 0.4}, "flow": {0.5: y * 0.5, 1.0: rng.standard_normal((8, 500))}}
    identity = {"task": "prosody", "split": "test", "family": "flow"}
    made = [rows.make_row(identity | {"temperature": t}, "log_f0", "js", t / 9, t / 10, t / 8) for t in (0.5, 1.0)]
    made += [rows.make_row(identity | {"family": "l2"}, "log_f0", "js", 0.2)]
    hz = np.where(np.arange(20) % 4 == 0, np.nan, 120.0)
    mel = rng.standard_normal((90, 80))
    images = [
        ("histograms", plots.histograms(y, generated, metrics.edges_for("log_f0", y), "log-f0")),
        ("curves", plots.temperature_curves(made, {"JS": ("log_f0", "js")}, target={"js": 0})),
        ("f0", plots.f0_curves(hz, {"l2": hz, "flow": np.stack((hz + 5, hz - 5))}, np.full(20, 0.1))),
        ("mels", plots.mels({"Oracle": mel, "l1": mel * 0.5}, 0.0116)),
        ("scatter", plots.scatters((np.arange(20) % 7 + 1, y[:20]), {"flow": (np.full(20, 4), y[:20])}, ("x", "y"))),
        ("loss", plots.curves({"Prosody": {"flow": ([1, 2, 3], [3.0, 2.0, 1.5])}}, "loss")),
    ]
    wave = (0.5 * np.sin(np.arange(22050) * 0.05)).astype(np.float32)
    file = tmp_path_factory.mktemp("audio") / "tone.wav"
    soundfile.write(file, wave, 22050)
    sections = [
        Section("Figures & <more>", "<p>As <b>written</b></p>", images),
        Section(
            "Table", tables=[("T", ["", "x<y"], [["<script>alert(1)</script>", "0.50\n0.40–0.60"]])], collapsed=True
        ),
        Section("Audio", commands(["train.py <config>"]), audio=[("<i>1", "a", (wave, 22050)), ("<i>1", "b", file)]),
    ]
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, "A title", "<p>Lead</p>", "espeak fallback", sections)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    return path.read_text(encoding="utf-8"), wave


def test_page_is_self_contained(page):
    text, _ = page
    found = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(found) > 8
    assert all(link.startswith(("data:", "#")) for link in found)
    assert "http" not in re.sub(r'"data:[^"]*"', "", text) and "@import" not in text and "url(" not in text


def test_page_is_well_formed(page):
    open_tags = []

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in ("meta", "link", "img"):
                open_tags.append(tag)

        def handle_endtag(self, tag):
            assert open_tags.pop() == tag

    Parser().feed(page[0])
    assert not open_tags


def test_text_is_escaped_except_what_is_html(page):
    text, _ = page
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "Figures &amp; &lt;more&gt;" in text and "<b>written</b>" in text
    assert "train.py &lt;config&gt;" in text
    assert "<small>0.40–0.60</small>" in text and "espeak fallback" in text


def test_players_of_an_utterance_stand_together(page):
    text, _ = page
    assert text.count("<h3>") == 1 and "<h3>&lt;i&gt;1</h3>" in text
    row = text.split('<div class="players">')[1]
    assert [system in row for system in (">a<audio", ">b<audio")] == [True, True]


def test_audio_is_lossless(page):
    text, wave = page
    found = re.findall(r'src="data:audio/flac;base64,([^"]*)"', text)
    assert len(found) == 2
    for data in found:
        read, rate = soundfile.read(io.BytesIO(base64.b64decode(data)), dtype="float32")
        assert rate == 22050 and np.abs(read - wave).max() < 2 / 32768


def test_images_are_small_pngs_with_their_size(page):
    from PIL import Image

    text, _ = page
    found = re.findall(r'src="data:image/png;base64,([^"]*)" alt="([^"]+)" width="(\d+)" height="(\d+)"', text)
    assert [alt for _, alt, _, _ in found] == ["histograms", "curves", "f0", "mels", "scatter", "loss"]
    for data, _, width, height in found:
        image = Image.open(io.BytesIO(base64.b64decode(data)))
        assert image.size == (int(width), int(height))
        assert len(np.unique(np.asarray(image.convert("L")))) > 10, "something is drawn"
        assert len(data) < 400_000


def test_terminal_table():
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out)
    print_tables([("Log-f0", ["", "τ", "JS"], [["Flow", "1", "0.014\n0.010–0.020"], ["Floor", "", "–"]])], console)
    assert "0.014" in out.getvalue() and "±0.005" in out.getvalue() and "Floor" in out.getvalue()
