"""Keep what was learned in a file of the state folder, so that it outlives the agent.

The file is small and written whole, so that a crash leaves the old one, and in the background, so
that a disk that hangs delays nothing.  One that cannot be read is begun anew, and one that cannot
be written is told: nothing is lost but time to learn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

import msgspec
import structlog

from gpuward.agent.background_file import BackgroundFile

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()

MOST_BYTES = 1 << 20
Known = TypeVar("Known")


class LearnedFile(Generic[Known]):
    """A table of what is known, by name, at ``path``; its newest entries stand last."""

    def __init__(self, path: Path, kind: type[Known], *, most: int) -> None:
        """``kind``: of an entry, as msgspec encodes it; ``most``: entries that are kept."""
        self._file = BackgroundFile(path)
        self._kind = kind
        self._most = most

    def read(self) -> dict[str, Known]:
        """Return what was known, nothing when there is no file or it cannot be read."""
        path = self._file.path
        try:
            with path.open("rb") as file:
                data = file.read(MOST_BYTES)
            # A mapping whose values have a type of their own, which mypy cannot spell as a value.
            known: dict[str, Known] = msgspec.json.decode(data, type=dict[str, self._kind])  # type: ignore[name-defined]
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.MsgspecError) as error:
            log.warning("learned.forgotten", path=str(path), reason=str(error))
            return {}
        return known

    def write(self, known: dict[str, Known]) -> bool:
        """Forget the oldest that are too many, and have the rest written, where it has changed.

        Returns whether the disk took what came before: if not, the caller's next turn tries again.
        """
        return self._file.save(self._encoded(known))

    def close(self, known: dict[str, Known]) -> None:
        """Write for the last time; a disk that hangs is waited for only a moment."""
        self._file.save_and_wait(self._encoded(known))

    def _encoded(self, known: dict[str, Known]) -> bytes:
        for name in list(known)[: -self._most]:
            del known[name]
        return msgspec.json.encode(known)
