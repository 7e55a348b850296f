"""What the end-to-end tests share: the built simulator, and a look for processes left behind."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from gpuward.simulator.libraries import NotBuiltError, library_directory


@pytest.fixture(autouse=True)
def _simulator():
    try:
        library_directory()
    except NotBuiltError as error:
        pytest.skip(str(error))


@pytest.fixture
def left_behind():
    """Return the command lines of processes that name a path or run with it as their state."""

    def look(path: Path | str) -> list[str]:
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            except OSError:
                continue
            if str(path).encode() in words:
                found.append((process / "cmdline").read_text().replace("\0", " "))
        return found

    return look


@pytest.fixture
def taken_port():
    """A port of loopback on which somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]
