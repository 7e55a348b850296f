"""Keep what was learned in a file of the state folder, so that it outlives the agent.

The file is small and written whole, so that a crash leaves the old one.  One that cannot be read
is begun anew, and one that cannot be written is told: nothing is lost but time to learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import structlog

from gpuward.agent.whole_file import write_whole

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()

MOST_BYTES = 1 << 20
Known = TypeVar("Known")


class LearnedFile(Generic[Known]):
    """A table of what is known, by name, at ``path``; its newest entries stand last."""

    def __init__(self, path: Path, kind: type[Known], *, most: int) -> None:
        """``kind``: of an entry, as msgspec encodes it; ``most``: entries that are kept."""
        self._path = path
        self._kind = kind
        self._most = most

    def read(self) -> dict[str, Known]:
        """Return what was known, nothing when there is no file or it cannot be read."""
        try:
            with self._path.open("rb") as file:
                data = file.read(MOST_BYTES)
            # A mapping whose values have a type of their own, which mypy cannot spell as a value.
            known: dict[str, Known] = msgspec.json.decode(data, type=dict[str, self._kind])  # type: ignore[name-defined]
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("learned.forgotten", path=str(self._path), reason=str(error))
            return {}
        return known

    def write(self, known: dict[str, Known]) -> bool:
        """Forget the oldest that are too many, and write; returns whether that worked."""
        for name in list(known)[: -self._most]:
            del known[name]
        try:
            write_whole(self._path, msgspec.json.encode(known))
        except OSError as error:
            # A full disk: the caller's next turn tries again.
            log.warning("learned.not_written", path=str(self._path), reason=error.strerror)
            return False
        return True
