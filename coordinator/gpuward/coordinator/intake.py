"""Take in nodes' reports: what a report changes is durable before it is acknowledged.

A report that changes no state (see ``change``) is acknowledged at once, and what is newer in it,
evidence, counters, the time, is written by the next ``flush``, for all nodes together.  A crash
before that loses a few seconds of readings, which the next report of each node repeats.  Whoever
judges what is in the database flushes first.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from gpuward.coordinator import filing, kind_classes, store_kinds, store_reports
from gpuward.coordinator.change import Change, what_changed
from gpuward.coordinator.filing import Stored, Superseded
from gpuward.coordinator.group_commit import GroupCommit
from gpuward.coordinator.heard import Heard
from gpuward.coordinator.report import SignOfLife

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gpuward.coordinator.filing import Repeated
    from gpuward.coordinator.heard import Pending
    from gpuward.coordinator.kind_classes import Override
    from gpuward.coordinator.report import Report
    from gpuward.coordinator.store import Store

# Reports in one transaction: a storm holds the database for tens of milliseconds at a time.
GROUP_LIMIT = 200
# A raise waits this long for those of other nodes: no person notices, and a commit costs as much as
# twenty reports.
LINGER_S = 0.03


class Intake:
    """The reports of the nodes that talk to this replica."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._heard: dict[str, Heard] = {}
        # As of the last flush: what a person says counts within seconds, on every replica.
        self._overrides: dict[str, Override] = {}
        self._filing = GroupCommit(self._file, limit=GROUP_LIMIT, linger_s=LINGER_S)

    async def open_session(self, node: str, now_s: float, **hello: str) -> int:
        """Begin a new session of ``node`` and return its number; older ones are over."""
        async with self._store.writing() as tx:
            session = await store_reports.open_session(tx.connection, node, now_s, **hello)
            self._overrides = await store_kinds.load(tx.connection)
        self._heard[node] = Heard(session, now_s)
        return session

    async def drain(self, node: str, until_s: float | None) -> None:
        """Note that ``node`` will be away until then; ``None``: it will be back at once."""
        async with self._store.writing() as tx:
            await store_reports.update_node(tx.connection, node, drain_until_s=until_s)

    def close_session(self, node: str, session: int) -> None:
        """Forget the session, once what is pending of it is written."""
        heard = self._heard.get(node)
        if heard is not None and heard.session == session:
            heard.is_over = True

    async def take(self, session: int, report: Report, now_s: float) -> Stored | Superseded:
        """Take in ``report`` of the node's session ``session``, one after the other."""
        heard = self._heard.get(report.node)
        if heard is None or heard.session != session:
            return Superseded()
        report = kind_classes.apply(report, self._overrides)
        life = SignOfLife(session, report, now_s)
        match what_changed(heard.report, report):
            case Change.OLD:
                pass
            case Change.LIFE | Change.READINGS if heard.is_trusted(now_s):
                heard.hear(life)
            case _:
                answer = await self._filing.submit(heard.with_state(life))
                if isinstance(answer, Stored):
                    heard.store(life)
                if isinstance(answer, Superseded):
                    return answer
        return filing.stored(report)

    async def flush(self) -> None:
        """Write what is pending of all nodes, in one transaction; none when nothing is."""
        async with self._store.reading() as connection:
            self._overrides = await store_kinds.load(connection)
        if any(heard.waits for heard in self._heard.values()):
            await self._write_pending()
        self._heard = {n: h for n, h in self._heard.items() if not h.is_over or h.waits}

    async def _write_pending(self) -> None:
        async with self._store.writing() as tx:
            # Asked again, now that no other writer is under way.
            written = self._pending()
            pending = [pending for _, pending in written]
            await store_reports.hear_nodes(tx.connection, [p.life for p in pending])
            readings = chain.from_iterable(p.readings for p in pending)
            await store_reports.refresh_findings(tx.connection, readings)
            sights = chain.from_iterable(p.sights for p in pending)
            await store_reports.see_findings(tx.connection, sights)
            totals = chain.from_iterable(p.totals for p in pending)
            await store_reports.write_totals(tx.connection, totals)
        for heard, of_it in written:
            heard.settle(of_it)

    def _pending(self) -> list[tuple[Heard, Pending]]:
        return [(heard, heard.pending()) for heard in self._heard.values() if heard.waits]

    async def _file(self, arrivals: Sequence[Pending]) -> Sequence[Stored | Repeated | Superseded]:
        async with self._store.writing() as tx:
            return await filing.file_reports(tx, arrivals)
