"""Page to a file, one JSON object a line, on disk before it counts as sent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from gpuward.coordinator.page import Message, Outcome, Retry, Sent

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock


class FileConfig(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="file",
):
    """A channel that appends to a file."""

    name: Annotated[str, Meta(description="What people and rotations call this channel; unique.")]
    path: Annotated[
        str, Meta(description="The file, one JSON object a line; made when it is not there.")
    ]


class FileNotifier:
    """Appends each page to ``path``; two processes may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def send(self, message: Message) -> Outcome:
        line = msgspec.json.encode(message) + b"\n"
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
            try:
                # One write: lines of two processes do not mix.
                os.write(descriptor, line)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            return Retry(f"{self._path}: {error.strerror}")
        return Sent()

    async def close(self) -> None:
        """Nothing is held open."""


def create(config: FileConfig, _clock: Clock) -> FileNotifier:
    """Return the notifier that the configuration describes."""
    return FileNotifier(Path(config.path))
