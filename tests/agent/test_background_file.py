"""A small file of the state folder: the newest content wins, and no disk holds up the agent."""

from __future__ import annotations

import os
import threading

import pytest
from structlog.testing import capture_logs

from gpuward.agent.background_file import BackgroundFile


@pytest.fixture
def path(tmp_path):
    return tmp_path / "best.json"


@pytest.fixture
def file(path):
    return BackgroundFile(path)


def test_a_disk_that_hangs_delays_nothing(path, file, written):
    """One thread waits, however often it is tried; the newest is there once the disk is back."""
    pipe = path.with_suffix(".tmp")
    os.mkfifo(pipe)
    # More than a pipe takes.
    first = bytes(1 << 20)
    took = [file.save(first)]
    with pipe.open("rb") as disk:
        took += [file.save(b"%d" % number) for number in range(200)]
        waiting = sum(thread.name == "write best.json" for thread in threading.enumerate())
        file.save_and_wait(b"last")
        is_there = path.exists()
        was_written = disk.read()
    written()

    assert (took, waiting, is_there) == ([True] + [False] * 200, 1, False)
    assert (was_written, path.read_bytes()) == (first, b"last")


def test_what_is_there_is_not_written_again(path, file, written):
    file.save(b"a")
    written()
    path.write_bytes(b"ours")
    file.save(b"a")
    written()
    same = path.read_bytes()
    file.save(b"b")
    written()

    assert (same, path.read_bytes()) == (b"ours", b"b")


def test_a_disk_that_refuses_is_said_once_and_tried_again(tmp_path, written):
    """With the same content too: it may be the last that there ever is."""
    file = BackgroundFile(tmp_path / "gone" / "best.json")
    took = []
    with capture_logs() as said:
        for _ in range(3):
            took.append(file.save(b"a"))
            written()
        file.path.parent.mkdir()
        for _ in range(2):
            took.append(file.save(b"a"))
            written()

    assert took == [True, False, False, False, True]
    assert [line["event"] for line in said] == ["state_file.not_written", "state_file.recovered"]
    assert said[0]["reason"] == "No such file or directory"
    assert file.path.read_bytes() == b"a"


def test_nothing_wanted_is_no_file(path, file, written):
    """Also one that an earlier process has left, and where there is none."""
    path.touch()
    with capture_logs() as said:
        for each in (file, BackgroundFile(path)):
            each.save(None)
            written()

    assert (path.exists(), said) == (False, [])
