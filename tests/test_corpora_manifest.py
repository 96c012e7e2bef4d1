import json
from pathlib import Path

import pytest

from tts_gen.config import UserError
from tts_gen.corpora import CORPORA, Drop, Utterance, read_manifest, write_manifest

GOOD = {"id": "a", "audio": "wav/a.wav", "text": "Hello."}


def drops_of(tmp_path, line):
    data = line if isinstance(line, bytes) else json.dumps(line).encode()
    (tmp_path / "m.jsonl").write_bytes(json.dumps(GOOD).encode() + b"\n\n" + data + b"\n")
    utterances, drops = read_manifest(tmp_path / "m.jsonl")
    assert [u.id for u in utterances] == ["a"]
    return drops


def test_what_is_written_is_read_back(tmp_path):
    utterances = [
        Utterance(
            "a",
            tmp_path / "wav" / "a.wav",
            "Hélas, “no”.",
            speaker="joe",
            style="sad",
            split="test",
            group="g",
            licence="X",
        ),
        Utterance("b-1.x", tmp_path / "b.wav", "", phonemes=("AH0", "|", "T", ".", "pau"), durations=(0.1, 0.2, 0.05)),
        Utterance("c", tmp_path.parent / "c.wav", "Up.", language="de", alignment=tmp_path / "c.TextGrid"),
    ]
    write_manifest(tmp_path / "m.jsonl", utterances)
    assert read_manifest(tmp_path / "m.jsonl") == (utterances, [])
    assert json.loads((tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines()[0])["audio"] == "wav/a.wav"
    assert utterances[1].group == "b-1.x"
    assert [p.name for p in tmp_path.iterdir()] == ["m.jsonl"]


def test_a_manifest_moves_with_its_audio(tmp_path):
    (tmp_path / "old").mkdir()
    write_manifest(tmp_path / "old" / "m.jsonl", [Utterance("a", tmp_path / "old" / "a.wav", "Hi.")])
    (tmp_path / "old").rename(tmp_path / "new")
    assert read_manifest(tmp_path / "new" / "m.jsonl")[0][0].audio == tmp_path / "new" / "a.wav"


@pytest.mark.parametrize(
    ("line", "id", "reason", "detail"),
    [
        (b"{not json", "line 3", "not JSON", "line 3"),
        (b"\xff\xfe\x00", "line 3", "not UTF-8", "line 3"),
        (b"[" * 100_000, "line 3", "not JSON", "line 3"),
        ([1], "line 3", "not JSON", "expected an object"),
        ({"id": "b", "audio": "b.wav"}, "b", "no text", "text is empty and there are no phonemes"),
        ({"audio": "b.wav", "text": "x"}, "line 3", "bad field", "lacks id"),
        (GOOD | {"id": "b", "speeker": "joe"}, "b", "bad field", "speeker; valid names are id, audio, text, speaker"),
        (GOOD | {"id": "b", "text": 5}, "b", "bad field", "text: expected str, found 5"),
        (GOOD | {"id": "b", "audio": 5}, "b", "bad field", "audio: expected"),
        (GOOD | {"id": "b", "audio": ""}, "b", "bad field", "audio: expected"),
        (GOOD | {"id": "b", "speaker": ["joe"]}, "b", "bad field", "speaker: expected str"),
        (GOOD | {"id": "b", "split": "dev"}, "b", "bad field", "'dev' is not one of train, val, test"),
        (GOOD | {"id": "b", "phonemes": "AH0"}, "b", "bad field", "phonemes: expected a list"),
        (GOOD | {"id": "../b"}, "../b", "unsafe id", "'../b'"),
        (GOOD | {"id": "b\x00"}, "b\x00", "unsafe id", "letters"),
        (GOOD | {"id": ".b"}, ".b", "unsafe id", "letters"),
        (GOOD | {"text": "Again."}, "a", "duplicate id", "line 3"),
        (GOOD | {"id": "b", "text": "  "}, "b", "no text", "text is empty"),
        (
            GOOD | {"id": "b", "phonemes": ["T", "|", "AH0"], "durations": [0.1]},
            "b",
            "bad durations",
            "1 durations for 2 phonemes",
        ),
        (GOOD | {"id": "b", "phonemes": ["T"], "durations": [-0.1]}, "b", "bad durations", "none negative"),
        (GOOD | {"id": "b", "durations": [0.1]}, "b", "bad durations", "0 phonemes"),
        (b'{"id": "b", "audio": "b", "text": "x", "phonemes": ["T"], "durations": [NaN]}', "b", "bad field", "nan"),
    ],
)
def test_a_bad_line_is_a_drop(tmp_path, line, id, reason, detail):
    (drop,) = drops_of(tmp_path, line)
    assert (drop.id, drop.reason) == (id, reason)
    assert detail in drop.detail


def test_text_may_be_empty_where_phonemes_are_given(tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps(GOOD | {"text": "", "phonemes": ["AH0"]}))
    assert read_manifest(tmp_path / "m.jsonl")[1] == []


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no such manifest"), ("", "empty"), ("{}\n", "lacks audio, id")]
)
def test_a_manifest_without_an_utterance_is_an_error(tmp_path, content, message):
    if content is not None:
        (tmp_path / "m.jsonl").write_text(content)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path / "m.jsonl")


def test_an_interrupted_write_leaves_the_old_manifest(tmp_path):
    write_manifest(tmp_path / "m.jsonl", [Utterance("a", tmp_path / "a.wav", "Hi.")])

    def broken():
        yield Utterance("b", tmp_path / "b.wav", "Hi.")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_manifest(tmp_path / "m.jsonl", broken())
    assert [u.id for u in read_manifest(tmp_path / "m.jsonl")[0]] == ["a"]


def test_corpora_are_listed():
    assert list(CORPORA) == ["asterisk", "queen", "espeak"]
    assert Drop("a", "b").detail == ""


def test_the_lines_that_the_readme_shows_are_valid(tmp_path):
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    lines = [line.strip() for line in readme.splitlines() if line.startswith('    {"id"')]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    utterances, drops = read_manifest(tmp_path / "m.jsonl")
    assert len(utterances) == len(lines) == 2 and not drops
    assert len(utterances[1].durations) == 6
