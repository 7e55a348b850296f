"""Page to the terminal, or to whatever collects standard output: for one machine and for demos."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, TextIO

import msgspec
from msgspec import Meta

from gpuward.coordinator.page import Message, Outcome, Retry, Sent, as_text

if TYPE_CHECKING:
    from gpuward.daemon.clock import Clock


class ConsoleConfig(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    kw_only=True,
    tag_field="type",
    tag="console",
):
    """A channel that prints."""

    name: Annotated[str, Meta(description="What people and rotations call this channel; unique.")]


class ConsoleNotifier:
    """Prints each page to ``stream``, standard output by default."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream

    async def send(self, message: Message) -> Outcome:
        stream = sys.stdout if self._stream is None else self._stream
        try:
            stream.write(f"PAGE {as_text(message)}\n")
            stream.flush()
        except OSError as error:
            return Retry(f"standard output: {error.strerror}")
        return Sent()

    async def close(self) -> None:
        """Nothing is held open."""


def create(_config: ConsoleConfig, _clock: Clock) -> ConsoleNotifier:
    """Return the notifier that the configuration describes."""
    return ConsoleNotifier()
