"""summary.json, tables, the choice of temperatures and the headline."""

import json
import math

import numpy as np
import pytest
from evaluated import IDENTITY, world

from tts_gen.config import UserError
from tts_gen.evaluation import rows
from tts_gen.evaluation.headline import choose_temperatures, headline
from tts_gen.evaluation.prosody import floor_rows, prosody_rows


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_rows_file_round_trip_and_failures(tmp_path):
    path = tmp_path / "summary.json"
    made = [
        rows.make_row(IDENTITY, "log_f0", "js", float("nan"), 0.1, 0.2, n=5, scope="speaker:joe", why="constant"),
        rows.make_row(IDENTITY, "log_f0", "js", np.float32(0.5), math.nan, None, n=np.int64(5)),
    ]
    rows.write(made, path)
    assert rows.read(path) == made[::-1]
    assert json.loads(path.read_text())[1] | {"value": None, "low": None, "why": "constant"} == rows.read(path)[1]
    with pytest.raises(ValueError, match="no metric"):
        rows.make_row(IDENTITY, "log_f0", "jsd", 1.0)
    with pytest.raises(ValueError, match="identity has no speed"):
        rows.make_row({"speed": 1}, "log_f0", "js", 1.0)
    with pytest.raises(UserError, match="no such file"):
        rows.read(tmp_path / "none.json")
    for text, message in (("{", "not JSON"), ("{}", "expected a list"), ('[{"task": 1}]', "row 0 lacks family")):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            rows.read(path)


def test_csv_and_markdown(tmp_path):
    made = [rows.make_row(IDENTITY | {"run": "a|b"}, "log_f0", "js", 1 / 3)]
    rows.write_csv(made, tmp_path / "t.csv")
    assert repr(1 / 3) in (tmp_path / "t.csv").read_text()
    assert "a\\|b" in rows.markdown(*rows.table(made))
    assert rows.markdown(["x"], [["1\n0–2"]]).splitlines()[-1] == "| 1 (0–2) |"


def test_temperature_is_chosen_on_validation_rows_only():
    def row(temperature, value, split="val", feature="log_f0"):
        return rows.make_row(IDENTITY | {"temperature": temperature, "split": split}, feature, "js", value)

    val = [row(0.5, 0.3), row(1.0, 0.02), row(1.2, None), row(1.0, 0.03, feature="d_log_f0")]
    assert choose_temperatures(val, "prosody") == {("flow", "a"): 1.0}
    with pytest.raises(ValueError, match="split 'val'"):
        choose_temperatures([*val, row(1.0, 0.1, split="test")], "prosody")


def test_headline_shows_the_chosen_temperature_with_controls_and_floor(rng):
    oracle, mean, noise = world(rng)
    flow = [prosody_rows(oracle, oracle, IDENTITY | {"temperature": t}) for t in (0.5, 1.0)]
    other = {"temperature": None, "run": None}
    control = prosody_rows(oracle, oracle, IDENTITY | other | {"family": "control:l2+noise"})
    bits = rows.make_row(IDENTITY | {"temperature": None}, "log_f0+duration", "bits_per_dim", 1.5)
    found = [*flow[0], *flow[1], *control, *floor_rows(oracle, IDENTITY | other), bits]
    tables = headline(found, "prosody", {("flow", "a"): 1.0})
    caption, header, cells = tables[0]
    assert [c[:2] for c in cells] == [["Flow", "1"], ["Control: L2 + noise", ""], ["Floor: oracle halves", ""]]
    assert header[-1] == "bits/dim" and cells[0][-1] == "1.50" and cells[1][-1] == "–"
    assert cells[0][2].startswith("1.00\n1.00")
    assert len(tables) == 3 and all(len(c) == len(header) for c in cells)
    assert len(headline([r for r in found if "energy" not in r["feature"].split("_")], "prosody")) == 2
