"""tts-gen align: TextGrids and a manifest of them, restartable, doubtful alignments listed and dropped."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from praatio import textgrid as praatio

from tts_gen import cli
from tts_gen.align import files
from tts_gen.config import UserError
from tts_gen.corpora import Utterance, espeak, read_manifest, write_manifest
from tts_gen.features.alignments import align_manifest
from tts_gen.features.doubts import judge
from tts_gen.features.journal import Row
from tts_gen.features.pairing import pair
from tts_gen.features.prepare import prepare
from tts_gen.features.store import FeatureStore
from tts_gen.text import words


@pytest.fixture(scope="module")
def spoken(tmp_path_factory) -> list[Utterance]:
    """Synthetic speech; the first two keep their times, the others have but their text."""
    found = read_manifest(espeak.build(tmp_path_factory.mktemp("espeak"), count=12))[0]
    return found[:2] + [replace(u, phonemes=None, durations=None) for u in found[2:]]


def align(directory: Path, utterances: list[Utterance], **settings):
    """Report, and what the manifest that it writes holds."""
    directory.mkdir(exist_ok=True)
    write_manifest(directory / "manifest.jsonl", utterances)
    report = align_manifest(directory / "manifest.jsonl", directory / "aligned", workers=1, **settings)
    return report, read_manifest(directory / "aligned" / "manifest.jsonl")[0]


def listing(directory: Path) -> list[dict]:
    with (directory / "aligned" / "alignment.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def aligned(spoken, tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole")
    return directory, *align(directory, spoken)


def test_every_utterance_without_times_gets_a_textgrid(aligned, spoken):
    _, report, named = aligned
    assert report.processed == len(spoken) - 2 and report.kept == len(named) - 2
    assert named[:2] == spoken[:2]
    for u in named[2:]:
        grid = praatio.openTextgrid(str(u.alignment), includeEmptyIntervals=True)
        assert grid.tierNames == ("words", "phones")
        said = [entry.label.strip(",.?!:;") for entry in grid.getTier("words").entries if entry.label]
        assert said == [word.text for word in words(u.text)]


def test_prepare_makes_of_the_textgrids_what_it_makes_of_the_text(aligned, spoken, tmp_path):
    directory, _, named = aligned
    prepare(directory / "aligned" / "manifest.jsonl", tmp_path / "a", workers=1)
    write_manifest(tmp_path / "m.jsonl", [u for u in spoken if u.id in {n.id for n in named}])
    prepare(tmp_path / "m.jsonl", tmp_path / "b", workers=1)
    a, b = (FeatureStore(tmp_path / name) for name in "ab")
    assert a.inventory == b.inventory and [e.id for e in a.index] == [e.id for e in b.index]
    for one, other in zip(a.read(range(len(a.index))), b.read(range(len(a.index))), strict=True):
        for name in ("phoneme", "stress", "edge", "punctuation", "duration", "log_f0", "mel"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_started_again_it_does_only_what_is_missing(aligned, spoken):
    directory, report, named = aligned
    again, _ = align(directory, spoken)
    assert again.processed == 0 and again.kept == report.kept and again.drops == report.drops
    content = named[2].alignment.read_bytes()
    named[2].alignment.unlink()
    assert align(directory, spoken)[0].processed == 1 and named[2].alignment.read_bytes() == content


def test_the_listing_begins_with_the_wrong_text(spoken, tmp_path):
    length = {u.id: len(u.text) for u in spoken}
    wrong = spoken[5]
    other = min((u for u in spoken if u.text != wrong.text), key=lambda u: abs(length[u.id] - length[wrong.id]))
    texts = [replace(u, text=other.text) if u is wrong else u for u in spoken]
    report, named = align(tmp_path, texts, min_score=-3)
    assert wrong.id in {drop.id for drop in report.drops} and wrong.id not in {u.id for u in named}
    rows = listing(tmp_path)
    assert rows[0]["id"] == wrong.id and float(rows[0]["deviation"]) < -3 and rows[0]["doubt"]
    deviation = [float(row["deviation"]) for row in rows]
    assert deviation == sorted(deviation) and len(rows) == len(spoken) - 2


def test_another_limit_costs_no_new_alignment(aligned, spoken):
    directory, report, _ = aligned
    strict, named = align(directory, spoken, min_score=0.0)
    assert strict.processed == 0 and strict.kept < report.kept
    dropped = {d.id: d for d in strict.drops if d.reason == "alignment: score"}
    assert dropped and not set(dropped) & {u.id for u in named}
    assert all("below 0" in drop.detail for drop in dropped.values())
    assert align(directory, spoken)[0].kept == report.kept


def test_judging_leaves_other_drops_and_given_alignments_alone():
    us = [Utterance(f"u{i}", Path("a.wav"), "x") for i in range(40)]
    rows = {u.id: Row(u.id, "", figures={"score": -10.0 - i % 3}) for i, u in enumerate(us)}
    rows["u0"] = Row("u0", "", reason="silence")
    rows["u1"] = Row("u1", "", reason="alignment: longest pause", figures={"score": -90.0})
    rows["u2"] = Row("u2", "", figures={"seconds_per_phone": 0.1})
    rows["u3"] = Row("u3", "", figures={"score": -50.0})
    judged = judge(rows, us, -4.0)
    assert {name for name in rows if judged[name] != rows[name]} == {"u3"}
    assert judge(rows, us, None) == rows


def test_another_language_needs_times(spoken, tmp_path):
    german = [replace(u, language="de") for u in spoken[2:4]]
    report, _ = align(tmp_path, [*german, *spoken[4:6]])
    assert [(d.id, d.reason) for d in report.drops] == [(u.id, "language without aligner") for u in german]
    assert "give times too: field alignment" in report.drops[0].detail


def test_what_cannot_be_done_is_told_at_once(spoken, tmp_path):
    with pytest.raises(UserError, match="all 2 utterances have alignment or durations; go on with prepare"):
        align(tmp_path, spoken[:2])
    write_manifest(tmp_path / "manifest.jsonl", spoken)
    with pytest.raises(UserError, match="manifest to be aligned lies there"):
        align_manifest(tmp_path / "manifest.jsonl", tmp_path, workers=1)
    align_manifest(tmp_path / "manifest.jsonl", tmp_path / "aligned", workers=1)
    with pytest.raises(UserError, match="prepare.json: format was None and is now .*use another directory"):
        prepare(tmp_path / "manifest.jsonl", tmp_path / "aligned", workers=1)


def test_a_manifest_tells_frames_from_seconds(spoken, tmp_path):
    seconds = spoken[:2]
    rate = 22050 / 256
    frames = [replace(u, durations=tuple(d * rate for d in u.durations), frames_per_second=rate) for u in seconds]
    stores = []
    for name, utterances in (("s", seconds), ("f", frames)):
        write_manifest(tmp_path / f"{name}.jsonl", [replace(u, split="train") for u in utterances])
        prepare(tmp_path / f"{name}.jsonl", tmp_path / name, workers=1)
        stores.append([f.duration.tolist() for f in FeatureStore(tmp_path / name).read([0, 1])])
    assert stores[0] == stores[1]
    lines = (tmp_path / "f.jsonl").read_text().splitlines()
    bad = json.loads(lines[1]) | {"frames_per_second": -1}
    (tmp_path / "f.jsonl").write_text(f"{lines[0]}\n{json.dumps(bad)}\n")
    assert [d.reason for d in read_manifest(tmp_path / "f.jsonl")[1]] == ["bad durations"]


def test_older_manifests_name_a_textgrid(tmp_path):
    line = {"id": "a", "audio": "a.wav", "text": "Hi.", "textgrid": "a.TextGrid"}
    (tmp_path / "m.jsonl").write_text(json.dumps(line))
    assert read_manifest(tmp_path / "m.jsonl")[0][0].alignment == tmp_path / "a.TextGrid"


@pytest.mark.parametrize("ending", files.FORMATS)
def test_a_bad_file_is_listed_and_costs_one_utterance(spoken, tmp_path, ending):
    (tmp_path / f"bad{ending}").write_text("nothing of the kind")
    bad = replace(spoken[0], id="bad", alignment=tmp_path / f"bad{ending}")
    write_manifest(tmp_path / "m.jsonl", [bad, replace(spoken[1], split="train")])
    report = prepare(tmp_path / "m.jsonl", tmp_path / "store", workers=1)
    assert [(d.id, d.reason) for d in report.drops] == [("bad", "unusable alignment file")]
    assert f"bad{ending}" in report.drops[0].detail and report.kept == 1


def in_folder(tmp_path: Path, *names: str) -> Path:
    for name in names:
        path = tmp_path / "mfa" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    return tmp_path / "mfa"


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["x/u1.TextGrid"], "x/u1.TextGrid"),
        (["wav1.lab"], "wav1.lab"),  # named as the audio
        (["wav1.lab", "u1.textgrid"], "u1.textgrid"),
        (["ann/wav1.TextGrid", "ben/wav1.TextGrid"], "ann/wav1.TextGrid"),
        (["rec/wav1.lab", "ben/wav1.lab"], "rec/wav1.lab"),
        (["wav1.lab", "wav1.TextGrid"], "wav1.TextGrid"),
        (["eve/wav1.TextGrid", "ben/wav1.TextGrid"], None),
        (["other.TextGrid"], None),
    ],
)
def test_files_are_found_by_id_audio_and_speaker(tmp_path, names, found):
    folder = in_folder(tmp_path, *names)
    utterance = Utterance("u1", tmp_path / "rec" / "wav1.wav", "Hi.", "ann")
    paired, drops = pair([utterance], folder)
    assert [u.alignment for u in paired] == ([folder / found] if found else [])
    assert [(d.id, d.reason) for d in drops] == ([] if found else [("u1", "no alignment file")])


def test_one_ctm_file_is_for_all(tmp_path):
    path = in_folder(tmp_path, "all.ctm") / "all.ctm"
    utterances = [Utterance(f"u{i}", tmp_path / f"{i}.wav", "Hi.") for i in range(3)]
    assert pair(utterances, path) == ([replace(u, alignment=path) for u in utterances], [])
    with pytest.raises(UserError, match="no file in or below it ends in .TextGrid, .lab, .ctm"):
        pair(utterances, tmp_path / "nowhere")


def test_prepare_takes_all_times_from_a_folder(aligned, spoken, tmp_path):
    directory, _, named = aligned
    write_manifest(tmp_path / "m.jsonl", [*(replace(u, alignment=None) for u in named[2:]), spoken[0]])
    report = prepare(tmp_path / "m.jsonl", tmp_path / "s", workers=1, alignments=directory / "aligned" / "textgrids")
    assert [(d.id, d.reason) for d in report.drops] == [(spoken[0].id, "no alignment file")]
    assert report.kept == len(named) - 2


def command(monkeypatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["tts-gen", *map(str, arguments)])
    return cli.main()


def test_the_commands(spoken, tmp_path, monkeypatch, capsys):
    write_manifest(tmp_path / "m.jsonl", [replace(u, language="en-us", split="train") for u in spoken[2:6]])
    assert command(monkeypatch, "align", tmp_path / "m.jsonl", tmp_path / "a", "--workers", 1, "--min-score", -99) == 0
    out = capsys.readouterr().out
    assert "kept 4 utterances" in out and f"worst first: {tmp_path / 'a' / 'alignment.csv'}" in out
    grids = tmp_path / "a" / "textgrids"
    options = ("--workers", 1, "--alignments", grids)
    assert command(monkeypatch, "prepare", tmp_path / "m.jsonl", tmp_path / "s", *options) == 0
    assert "kept 4 utterances" in capsys.readouterr().out
    assert command(monkeypatch, "dictionary", tmp_path / "m.jsonl", tmp_path / "d.txt") == 0
    assert f"{tmp_path / 'd.txt'}: " in capsys.readouterr().out
    write_manifest(tmp_path / "m.jsonl", [replace(spoken[2], language="de")])
    assert command(monkeypatch, "align", tmp_path / "m.jsonl", tmp_path / "b", "--workers", 1) == 1
    captured = capsys.readouterr()
    assert "language without aligner" in captured.out and "none could be aligned" in captured.err
