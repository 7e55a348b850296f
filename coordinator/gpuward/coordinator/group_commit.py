"""Commit what many callers bring in one transaction: the disk takes as long for one as for all.

While one commit runs, callers stand in line; the first of them then commits for all.  No task of
its own, no queue that could lose something: a caller that is cancelled takes its item along, and
one that gets its answer knows that the commit is done.  The line holds one item a caller.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")
R = TypeVar("R")


@dataclass(eq=False, slots=True)
class _Waiting(Generic[T, R]):
    item: T
    answer: R | None = None
    # A group with it has failed: whoever it was, he shall not harm the others again.
    alone: bool = False


class GroupCommit(Generic[T, R]):
    """``commit`` is given items in the order they came and returns an answer (no ``None``) each.

    ``linger_s``: how long the first in line waits for others, whom it spares a commit of their own.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        limit: int,
        linger_s: float = 0.0,
    ) -> None:
        self._commit = commit
        self._limit = limit
        self._linger_s = linger_s
        self._turn = asyncio.Lock()
        self._line: dict[_Waiting[T, R], None] = {}

    async def submit(self, item: T) -> R:
        """Return the answer to ``item`` after its commit; raises what ``commit`` raises."""
        mine: _Waiting[T, R] = _Waiting(item)
        self._line[mine] = None
        try:
            async with self._turn:
                # Turns come in order: whoever has it and no answer is the first in line.
                return await self._lead(mine) if mine.answer is None else mine.answer
        finally:
            self._line.pop(mine, None)

    async def _lead(self, mine: _Waiting[T, R]) -> R:
        if len(self._line) < self._limit:
            await asyncio.sleep(self._linger_s)
        together = (waiting for waiting in self._line if not waiting.alone)
        group = [mine] if mine.alone else list(islice(together, self._limit))
        for waiting in group:
            waiting.alone = True
        answers = await self._commit([waiting.item for waiting in group])
        for waiting, answer in zip(group, answers, strict=True):
            waiting.answer = answer
            self._line.pop(waiting, None)
        return answers[0]
