import os

import pytest
import soundfile
from debs import asterisk_debs, cutscene, dialogue, g722, mp3, queen_file, tone, write_deb

from tts_gen.config import UserError
from tts_gen.corpora import CORPORA, read_manifest
from tts_gen.corpora.debian import obtain, read_files
from tts_gen.corpora.queen import GAME, PACKAGE, read_clips, read_members

PROMPTS = {
    "goodbye": "Goodbye!",
    "vm-goodbye": "goodbye",
    "digits/1": "one",
    "digits/2": "two",
    "beep": "[a tone]",
    "spy": "X (note)",
}


@pytest.fixture
def deb(tmp_path):
    (tmp_path / "given").mkdir()
    return write_deb(tmp_path / "given", "some-package", "2-1", {"usr/share/a.txt": b"A", "usr/share/b.txt": b"B"})


@pytest.fixture
def no_apt(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))


def fake_apt(monkeypatch, tmp_path, script):
    """Puts a program named apt-get in the place of the system's."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apt-get").write_text(f"#!/bin/sh\necho call >> {tmp_path}/calls\n{script}")
    (tmp_path / "bin" / "apt-get").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")


def test_a_given_file_is_used(tmp_path, deb, no_apt):
    assert obtain({"some-package": "2-1"}, tmp_path / "packages", [deb]) == {"some-package": deb}
    assert read_files(deb, lambda name: name.endswith("b.txt")) == {"usr/share/b.txt": b"B"}


def test_another_version_is_used_but_reported(tmp_path, deb, no_apt, caplog):
    obtain({"some-package": "3-1"}, tmp_path / "packages", [deb])
    assert "some-package is version 2-1; 3-1 is the one known to work" in caplog.text


def test_another_package_is_refused(tmp_path, deb):
    with pytest.raises(UserError, match="is package 'some-package'; wanted are other"):
        obtain({"other": "1"}, tmp_path / "packages", [deb])


@pytest.mark.parametrize("damage", [b"", b"not a package at all", "cut"])
def test_a_damaged_file_is_named(tmp_path, deb, damage):
    deb.write_bytes(deb.read_bytes()[:200] if damage == "cut" else damage)
    with pytest.raises(UserError, match=f"{deb.name}: cannot be read as a Debian package"):
        obtain({"some-package": "2-1"}, tmp_path / "packages", [deb])


def test_damaged_contents_are_an_error(tmp_path):
    deb = write_deb(tmp_path, "some-package", "2-1", {"usr/share/a": os.urandom(10_000)})
    deb.write_bytes(deb.read_bytes()[:-5_000])
    with pytest.raises(UserError, match="cannot be read"):
        read_files(deb, lambda name: True)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="none.deb: no such file"):
        obtain({"some-package": "2-1"}, tmp_path, [tmp_path / "none.deb"])


def test_without_apt_the_remedy_is_named(tmp_path, no_apt):
    with pytest.raises(UserError, match="some-package: there is no apt-get .* --deb FILE"):
        obtain({"some-package": "2-1"}, tmp_path / "packages")


def test_without_network_the_remedy_is_named(monkeypatch, tmp_path):
    fake_apt(monkeypatch, tmp_path, "echo 'E: no network' >&2; exit 100")
    with pytest.raises(UserError, match="E: no network.* --deb FILE"):
        obtain({"some-package": "2-1"}, tmp_path / "packages")
    assert list((tmp_path / "packages").iterdir()) == []


def test_downloads_once(monkeypatch, tmp_path, deb):
    fake_apt(monkeypatch, tmp_path, f"cp {deb} .")
    first = obtain({"some-package": "2-1"}, tmp_path / "packages")
    assert (
        first
        == obtain({"some-package": "2-1"}, tmp_path / "packages")
        == {"some-package": tmp_path / "packages" / deb.name}
    )
    assert (tmp_path / "calls").read_text().count("call") == 1


def test_downloads_with_private_lists_where_the_system_has_none(monkeypatch, tmp_path, deb):
    script = f"""case "$*" in
        *Dir::State=*update) touch updated;;
        *Dir::State=*download*) test -e updated && cp {deb} .;;
        *) echo 'E: Unable to locate package' >&2; exit 100;;
    esac"""
    fake_apt(monkeypatch, tmp_path, script)
    assert obtain({"some-package": "2-1"}, tmp_path / "packages")["some-package"].read_bytes() == deb.read_bytes()
    assert [p.name for p in (tmp_path / "packages").iterdir()] == [deb.name]


def test_asterisk(tmp_path, capsys, no_apt):
    sounds = {name: g722(tone(0.5 + i / 10, 16000)) for i, name in enumerate(PROMPTS)} | {
        "untold": g722(tone(0.5, 16000))
    }
    debs = asterisk_debs(tmp_path, PROMPTS, sounds | {"digits/2": b""})
    manifest = CORPORA["asterisk"](tmp_path / "corpus", debs=debs, workers=2)
    utterances, drops = read_manifest(manifest)
    assert drops == []
    by_id = {u.id: u for u in utterances}
    assert by_id.keys() == {"goodbye", "vm-goodbye", "digits_1"}
    assert by_id["goodbye"].group == by_id["vm-goodbye"].group != by_id["digits_1"].group
    assert by_id["goodbye"].split == by_id["vm-goodbye"].split
    assert {(u.speaker, u.licence) for u in utterances} == {("allison", "CC-BY-SA-3.0")}
    wave, rate = soundfile.read(by_id["digits_1"].audio)
    assert rate == 16000 and len(wave) == pytest.approx(0.7 * 16000, abs=400)
    assert 0.15 < abs(wave[1000:-1000]).max() < 0.35
    licence = (tmp_path / "corpus" / "LICENCE.txt").read_text()
    assert "has been modified" in licence and "Allison Smith" in licence and "THE LICENCE ITSELF" in licence
    printed = capsys.readouterr().out
    assert "3 utterances" in printed
    assert all(
        f"dropped {n}: {reason}" in printed
        for n, reason in ((2, "not plain speech"), (1, "unreadable audio"), (1, "no text"))
    )


def test_a_second_run_decodes_only_what_is_missing(tmp_path, no_apt):
    sounds = {name: g722(tone(0.5, 16000)) for name in PROMPTS}
    debs = asterisk_debs(tmp_path, PROMPTS, sounds)
    manifest = CORPORA["asterisk"](tmp_path / "corpus", debs=debs, workers=1)
    before = manifest.read_bytes()
    audio = tmp_path / "corpus" / "audio"
    (audio / "goodbye.wav").unlink()
    (audio / "digits_1.wav.part").write_bytes(b"half of a file, left by a run that was killed")
    kept = (audio / "digits_1.wav").stat().st_mtime_ns
    CORPORA["asterisk"](tmp_path / "corpus", debs=debs, workers=1)
    assert manifest.read_bytes() == before
    assert (audio / "goodbye.wav").exists() and (audio / "digits_1.wav").stat().st_mtime_ns == kept


def test_a_corpus_without_an_utterance_is_an_error(tmp_path, no_apt):
    debs = asterisk_debs(tmp_path, {"beep": "[a tone]"}, {"beep": g722(tone(0.5, 16000))})
    with pytest.raises(UserError, match=r"no utterance is left\n.*not plain speech"):
        CORPORA["asterisk"](tmp_path / "corpus", debs=debs)


@pytest.fixture(scope="module")
def game():
    clip = mp3(tone(0.4, 11025))
    # Lines 1 and 2 of the descriptions are JOE0041 and JOE0042; "*" and two characters part a line into clips.
    members = {
        "BOB1.DOG": dialogue(5, [(16, "Hi there, Bob.*24")], [(17, "*14Well,*06 who is it?"), (18, ""), (-1, "Bye.")]),
        "C10A.CUT": cutscene(["Look out!", "", "Odd", "Run!*01 @@ Now^_!"]),
        "QUEEN2.JAS": b"It looks nice*03*14(sigh)\r\nA rusty key*24\r\n",
    }
    spoken = [
        "050010J1",
        "050011P2",
        "050011P3",
        "05FFFFP1",
        "C10A_011",
        "C10A_031",
        "C10A_041",
        "C10A_042",
        "JOE00411",
        "JOE00413",
    ]
    sounds = dict.fromkeys([f"{name}.SB" for name in [*spoken, "THUNDER"]], clip)
    return queen_file(members | sounds)


def test_queen_clips_have_their_texts(game):
    clips = {c.id: (c.text, c.kind, c.source, c.speaker) for c in read_clips(read_members(game))}
    assert clips == {
        "050010J1": ("Hi there, Bob.", "dialogue", "BOB1", "joe"),
        "050011P2": ("Well,", "dialogue", "BOB1", "bob"),
        "050011P3": ("who is it?", "dialogue", "BOB1", "bob"),
        "05FFFFP1": ("Bye.", "dialogue", "BOB1", "bob"),
        "C10A_011": ("Look out!", "cutscene", "C10A", None),
        "C10A_031": ("Odd", "cutscene", "C10A", None),
        "C10A_041": ("Run!", "cutscene", "C10A", None),
        "C10A_042": ("Now!", "cutscene", "C10A", None),
        "JOE00411": ("It looks nice", "description", "JOE0041", "joe"),
        "JOE00413": ("(sigh)", "description", "JOE0041", "joe"),
    }


def test_queen(tmp_path, game, capsys, no_apt):
    documents = {f"usr/share/doc/{PACKAGE}/copyright": b"THE LICENCE ITSELF"}
    deb = write_deb(tmp_path, PACKAGE, "1.0.0-9", {GAME: game} | documents)
    utterances, drops = read_manifest(CORPORA["queen"](tmp_path / "corpus", debs=[deb], workers=1))
    assert len(utterances) == 9 and drops == []
    assert {u.group for u in utterances} == {"BOB1", "C10A", "JOE0041"}
    assert {u.split for u in utterances} == {"train", "val", "test"}
    info = soundfile.info(utterances[0].audio)
    assert info.samplerate == 11025 and info.duration == pytest.approx(0.4, abs=0.15)
    licence = (tmp_path / "corpus" / "LICENCE.txt").read_text()
    assert "MODIFIED VERSION" in licence and "THE LICENCE ITSELF" in licence
    printed = capsys.readouterr().out
    assert "dropped 1: no text, such as THUNDER" in printed
    assert "dropped 1: no words, such as JOE00413 ('(sigh)')" in printed


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no .*queen.1c"),
        ({GAME: b"RIFF"}, "not with its table"),
        ({GAME: b"QTBL" + bytes(9) + b"\0\7"}, "damaged"),
    ],
)
def test_an_unexpected_game_file_is_an_error(tmp_path, files, message, no_apt):
    deb = write_deb(tmp_path, PACKAGE, "1.0.0-9", files)
    with pytest.raises(UserError, match=message):
        CORPORA["queen"](tmp_path / "corpus", debs=[deb])
