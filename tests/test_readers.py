"""Every reader on its layout: what it finds, what it drops and why, splits and groups; and a source that is another."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from layout_faults import SPOILERS
from layouts import CLIPS, MAKERS, write

from tts_gen import cli
from tts_gen.config import UserError
from tts_gen.corpora import Utterance, read_manifest
from tts_gen.corpora.readers import READERS, esd, table
from tts_gen.corpora.reading import build

OFFICIAL = {"libritts", "esd", "hifi_tts", "table"}


@pytest.fixture(params=READERS)
def name(request) -> str:
    return request.param


@pytest.fixture
def made(name, tmp_path):
    return MAKERS[name](tmp_path, CLIPS)


def folder_of(source: Path) -> Path:
    return source if source.is_dir() else source.parent


def expected(made) -> list[Utterance]:
    root = folder_of(made.source)
    return [
        Utterance(id, **fields | {"audio": root / fields["audio"]}) for id, fields in sorted(made.utterances.items())
    ]


def test_a_reader_finds_what_the_layout_holds(name, made):
    found = list(READERS[name].read(made.source, **made.options))
    utterances = sorted((u for u in found if isinstance(u, Utterance)), key=lambda u: u.id)
    assert utterances == expected(made)
    assert {d.id: d.reason for d in found if not isinstance(d, Utterance)} == made.drops


def test_faults_are_listed_each_by_its_reason_and_cost_nothing_else(name, made, tmp_path, capsys):
    faults = SPOILERS[name](made, CLIPS[0])
    utterances, bad_lines = read_manifest(build(name, tmp_path / "out", made.source, **made.options))
    assert {u.id: (u.text, u.audio) for u in utterances} == {u.id: (u.text, u.audio) for u in expected(made)}
    assert not bad_lines
    rows = [json.loads(line) for line in (tmp_path / "out/drops.jsonl").read_text().splitlines()]
    assert {row["id"]: row["reason"] for row in rows} == made.drops | faults
    assert len(rows) == len(made.drops) + len(faults) and all(row["detail"] for row in rows)
    printed = capsys.readouterr().out
    for reason, count in Counter((made.drops | faults).values()).items():
        assert f"dropped {count}: {reason}, such as" in printed
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"manifest.jsonl", "drops.jsonl"}


def test_groups_are_never_in_two_splits(name, made, tmp_path):
    manifest = build(name, tmp_path / "out", made.source, **made.options)
    utterances, _ = read_manifest(manifest)
    assert_whole(utterances)
    assert {u.split for u in utterances} == {"train", "val", "test"}
    if name in OFFICIAL:
        assert {u.id: u.split for u in utterances} == {u.id: u.split for u in expected(made)}
    before = manifest.read_bytes()
    build(name, tmp_path / "out", made.source, **made.options)
    assert manifest.read_bytes() == before


def assert_whole(utterances) -> None:
    splits = defaultdict(set)
    for u in utterances:
        splits[u.group].add(u.split)
    assert all(len(found) == 1 for found in splits.values())


def test_another_layout_is_an_error_that_says_what_was_expected(name, tmp_path):
    (tmp_path / "empty").mkdir()
    write(tmp_path / "other/notes.doc", "x")
    for source in (tmp_path / "empty", tmp_path / "other", tmp_path / "nowhere"):
        with pytest.raises(UserError, match=f"{source}: not .*(expected|name a file)"):
            build(name, tmp_path / "out", source)
    assert not (tmp_path / "out").exists()


def test_a_corpus_of_faults_alone_is_an_error_that_lists_them(tmp_path):
    write(tmp_path / "lj/metadata.csv", "LJ001-0001|Gone.|Gone.\n")
    (tmp_path / "lj/wavs").mkdir()
    with pytest.raises(UserError, match="no utterance is left\n  dropped 1: missing audio, such as LJ001-0001 .*wav"):
        build("ljspeech", tmp_path / "out", tmp_path / "lj")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["drops.jsonl"]


def test_the_command_writes_a_manifest_that_refers_to_the_source(tmp_path, monkeypatch, capsys):
    made = MAKERS["vctk"](tmp_path, CLIPS)
    arguments = ["corpus", "vctk", str(tmp_path / "out"), "--source", str(made.source), "--mic", "mic2"]
    monkeypatch.setattr("sys.argv", ["tts-gen", *arguments, "--hold-out", "speaker"])
    assert cli.main() == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(tmp_path / "out/manifest.jsonl")
    utterances, _ = read_manifest(tmp_path / "out/manifest.jsonl")
    assert {u.audio.name[-9:] for u in utterances} == {"mic2.flac"} and all(u.audio.is_file() for u in utterances)
    assert all(u.group == u.speaker for u in utterances) and {u.split for u in utterances} == {"train", "val", "test"}
    assert_whole(utterances)
    drops = (tmp_path / "out/drops.jsonl").read_text()
    assert json.loads(drops) == {
        "id": "p280_001", "reason": "missing audio",
        "detail": f"{made.source}/wav48_silence_trimmed/p280/p280_001_mic2.flac does not exist",
    }  # fmt: skip


def test_vctk_is_held_out_by_prompt(tmp_path):
    made = MAKERS["vctk"](tmp_path, CLIPS)
    utterances, _ = read_manifest(build("vctk", tmp_path / "out", made.source))
    assert len({u.group for u in utterances}) == len(CLIPS)
    assert all(len({u.split for u in utterances if u.text == clip.text}) == 1 for clip in CLIPS)


def test_libritts_without_dev_and_test_is_held_out_by_chapter(tmp_path):
    made = MAKERS["libritts"](tmp_path, CLIPS)
    for subset in ("dev-clean", "test-clean"):
        (made.source / subset).rename(made.source / f"train-{subset}")
    utterances, _ = read_manifest(build("libritts", tmp_path / "out", made.source))
    assert {u.group for u in utterances} == {"103_1240", "1089_134686", "20_205", "84_121123"}
    assert {u.split for u in utterances} == {"train", "val", "test"}
    assert_whole(utterances)


def test_esd_without_folders_of_splits(tmp_path):
    made = MAKERS["esd"](tmp_path, CLIPS)
    for wav in made.source.glob("*/*/*/*.wav"):
        wav.rename(wav.parent.parent / wav.name)
    utterances, drops = read_manifest(build("esd", tmp_path / "out", made.source))
    assert {u.id: u.style for u in utterances} == {u.id: u.style for u in expected(made)}
    assert_whole(utterances)


@pytest.mark.parametrize(
    ("line", "language", "text"),
    [
        ("that’s".encode(), "en", "that’s"),
        ("that’s".encode("gbk"), "en", "that’s"),
        ("that’s".encode("cp1252"), "en", "that’s"),
        ("美丽".encode(), "zh", "美丽"),
        ("美丽".encode("gbk"), "zh", "美丽"),
        (b"\xc3\xc0\xff", "zh", "美\ufffd"),
    ],
)
def test_esd_encodings(line, language, text):
    assert esd._decode(line, language) == text


def test_an_official_split_that_parts_a_chapter_is_kept_and_told(tmp_path, capsys):
    made = MAKERS["hifi_tts"](tmp_path, CLIPS)
    train, test = (made.source / f"92_manifest_clean_{split}.json" for split in ("train", "test"))
    first, *rest = train.read_text().splitlines()
    write(train, "\n".join(rest))
    write(test, first)
    utterances, _ = read_manifest(build("hifi_tts", tmp_path / "out", made.source))
    parted = {u.group: u.split for u in utterances if "92_11216_thousandnights8_train_0" in u.group}
    assert parted == {f"92_11216_thousandnights8_train_0_anonymous.{split}": split for split in ("train", "test")}
    assert "in which 1 of 7 groups are in several" in capsys.readouterr().out


@pytest.mark.parametrize("hold_out", ["speaker", "chapter"])
def test_what_no_utterance_has_cannot_be_held_out(hold_out, tmp_path):
    write(tmp_path / "flat/a.wav", CLIPS[0])
    write(tmp_path / "flat/a.txt", "A.")
    with pytest.raises(UserError, match=f"no utterance of this corpus has a {hold_out}; try --hold-out prompt"):
        build("folder", tmp_path / "out", tmp_path / "flat", hold_out)


def read_table(tmp_path, text, **options):
    write(tmp_path / "list.tsv", text)
    return list(table.read(tmp_path / "list.tsv", **options))


def test_a_table_with_tabs_has_no_quoting_and_all_fields(tmp_path, capsys):
    rows = [
        "id\taudio\ttext\tphonemes\tdurations\talignment\tvotes",
        '1\ta.mp3\t"Quoted.\tAH0 | T .\t0.1 0.2\tx/a.TextGrid\t2',
    ]
    (utterance,) = read_table(tmp_path, "\n".join(rows), audio_folder=tmp_path / "clips", language="de")
    assert utterance == Utterance(
        "1", tmp_path / "clips/a.mp3", '"Quoted.', language="de", phonemes=("AH0", "|", "T", "."),
        durations=(0.1, 0.2), alignment=tmp_path / "x/a.TextGrid",
    )  # fmt: skip
    assert capsys.readouterr().err == "list.tsv: columns not used: votes\n"


def test_a_table_s_semicolons_and_faulty_durations(tmp_path):
    good, bad = read_table(tmp_path, 'audio;text;durations\na.wav;"Yes; no.";\nb.wav;No.;long\n')
    assert good.text == "Yes; no." and (bad.id, bad.reason) == ("b", "bad field")
    assert bad.detail == "list.tsv line 3: could not convert string to float: 'long'"


def test_a_table_s_columns_must_be_named(tmp_path):
    with pytest.raises(UserError, match="expected the columns audio, and text or phonemes, found path, sentence; say"):
        read_table(tmp_path, "path\tsentence\n")
    for column in ("text=words", "txt=sentence", "sentence"):
        with pytest.raises(UserError, match=f"--column {column}: give FIELD=NAME.*: path, sentence$"):
            read_table(tmp_path, "path\tsentence\n", column=[column])
