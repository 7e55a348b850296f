"""The directory that one coordinator owns while it runs: database, lock, addresses."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LOCK_FILE = "coordinator.lock"
ADDRESSES_FILE = "addresses.json"


class StateError(Exception):
    """The directory cannot be used; the message is one line and names it."""


def make(directory: Path) -> None:
    """Make ``directory`` unless it exists; raises ``StateError``."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"state.directory: {directory}: {error.strerror}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise StateError(f"state.directory: {directory}: not writable by this user")


@contextmanager
def owned(directory: Path) -> Iterator[None]:
    """Own ``directory`` inside the block; raises ``StateError`` while another process does.

    The lock dies with the process, however it dies, so what it held may be taken up at once.
    """
    descriptor = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StateError(f"state.directory: {directory}: another coordinator runs here") from error
    try:
        yield
    finally:
        os.close(descriptor)


def write_addresses(directory: Path, addresses: dict[str, str]) -> None:
    """Say where this coordinator really listens, for whoever configured port 0."""
    path = directory / ADDRESSES_FILE
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(addresses) + b"\n")
    fresh.replace(path)
