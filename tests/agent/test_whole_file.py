"""A file is there whole, as it was or as it shall be."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuward.agent.whole_file import write_whole


def test_it_takes_the_place_of_what_was_there(tmp_path):
    path = tmp_path / "best.json"
    write_whole(path, b"old")
    write_whole(path, b"new")

    assert {"best.json": b"new"} == {each.name: each.read_bytes() for each in tmp_path.iterdir()}


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "best.json"
    write_whole(path, b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        write_whole(path, b"new")

    assert b"old" == path.read_bytes()
