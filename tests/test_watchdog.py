"""The watchdog: a step that takes too long, and another process that is gone."""

import logging
import re
import time

import pytest
from etils import epath

from tts_gen.watchdog import Watchdog


def wait_for(condition, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path) / "beats"


def test_a_long_step_logs_stacks_once(folder, caplog, capfd):
    with caplog.at_level(logging.WARNING), Watchdog(folder, 0, 1, limit=0.2, interval=0.05) as dog:
        dog.beat(7)
        wait_for(lambda: caplog.records)
        time.sleep(0.5)
        assert len(caplog.records) == 1
        assert re.search(r"step 7 has taken \d+ s \(train.step_limit is 0.2\)", caplog.text)
        dog.beat(8)
        wait_for(lambda: len(caplog.records) == 2)
    assert "test_a_long_step_logs_stacks_once" in capfd.readouterr().err  # this function is in the stack
    assert not folder.exists()  # a process alone leaves no beats


def test_steps_in_time_log_nothing(folder, caplog):
    with caplog.at_level(logging.WARNING), Watchdog(folder, 0, 1, limit=5.0, interval=0.02) as dog:
        for step in range(20):
            dog.beat(step)
            time.sleep(0.05)
    assert not caplog.records


def test_the_late_process_is_named(folder, caplog):
    settings = {"interval": 0.02, "gone": 30.0}
    with caplog.at_level(logging.WARNING), Watchdog(folder, 1, 2, limit=30.0, **settings) as late:
        late.beat(3)
        with Watchdog(folder, 0, 2, limit=0.3, **settings) as dog:
            wait_for(lambda: '"step": 3' in dog.others[1][0])  # a slow machine may warn of the start before
            dog.beat(4)
            wait_for(lambda: "step 4 has taken" in caplog.text)
    assert "process 0 at step 4, process 1 at step 3" in caplog.text


def test_a_half_written_beat_is_passed_over(folder):
    dog = Watchdog(folder, 0, 2, limit=30.0)
    folder.mkdir(parents=True)
    for text in ('{"step": 3, "beat": 1}', '{"st', ""):
        (folder / "process1.json").write_text(text)
        dog._exchange(1)
    assert dog._laggards() == "; process 0 at step -1, process 1 at step 3"


def test_storage_that_was_away_is_no_sign_of_death(folder, monkeypatch):
    ended = []
    dog = Watchdog(folder, 0, 2, limit=30.0, gone=0.2, end=ended.append)
    folder.mkdir(parents=True)
    (folder / "process1.json").write_text('{"step": 3, "beat": 1}')
    dog._exchange(1)
    with monkeypatch.context() as away:
        away.setattr(dog, "_file", lambda _: folder / "no" / "such")
        time.sleep(0.3)
        dog._exchange(2)
    dog._exchange(3)
    assert not ended
    time.sleep(0.3)
    dog._exchange(4)
    assert ended == [1]


def test_where_a_process_is_gone_the_others_end(folder, caplog):
    ended, settings = [], {"interval": 0.02, "gone": 1.0}
    with caplog.at_level(logging.ERROR), Watchdog(folder, 0, 2, limit=30.0, end=ended.append, **settings) as dog:
        with Watchdog(folder, 1, 2, limit=30.0, end=ended.append, **settings) as other:
            dog.beat(9), other.beat(8)
            time.sleep(2.0)
            assert not ended  # both live
        wait_for(lambda: ended)
    assert ended[0] == 1
    assert "process 1 of 2 is gone: no sign of it for 1 s, last at step 8" in caplog.text
    assert "from the newest checkpoint" in caplog.text


def test_beats_of_an_earlier_start_are_no_sign_of_life(folder):
    folder.mkdir(parents=True)
    (folder / "process1.json").write_text('{"step": 90, "beat": 5}')
    ended = []
    with Watchdog(folder, 0, 2, limit=30.0, interval=0.02, gone=0.3, end=ended.append):
        wait_for(lambda: ended)
