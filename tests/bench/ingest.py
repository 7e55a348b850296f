"""How many node reports the coordinator takes in, when each of them has to be written.

A real coordinator on SQLite and a load generator in another process: 8,000 nodes with a session
each, a report every 8 s, as many as 10,000 nodes send every 10 s; one in twenty with a finding that
cleared and was raised again, the others with one that was seen anew.  Nodes must not report faster
than the coordinator writes readings down (every 5 s and what that takes): of several between two
writes it keeps the newest only, and a few nodes that report as fast as they are answered would
flatter it.

A core's rate is reports by CPU seconds of the coordinator, whoever else uses the machine.  A change
of state is durable before it is acknowledged; the rest is written within seconds.  Afterwards the
database is asked whether all of it is there: an acknowledgement alone proves nothing.
"""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from centre import Session, channels
from figures import of_runs
from machine import coordinator_config
from processes import cpu_s, daemon
from timing import say

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from timing import Effort

PER_CORE_BUDGET = 3_000.0
# Of what ten thousand nodes send: a late turn of the load's own clock is not the coordinator's.
KEPT_UP_RATIO = 0.97
NODES = 8_000
INTERVAL_S = 8.0
CHANGED_ONE_IN = 20
CONNECTIONS = 40
OPENING_AT_ONCE = 50
RUNS = 3
WRITTEN_WITHIN_S = 15.0
# A report that comes just before and one just after a write may fall together.
WRITTEN_SINGLY = 0.95


def measure(effort: Effort) -> Iterator[Figure]:
    nodes = NODES // 10 if effort.quick else NODES
    per_core, per_s = [], []
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        config, state = coordinator_config(folder), folder / "coordinator"
        with daemon("coordinator", config, state) as (process, addresses):
            argv = [sys.executable, __file__, addresses["grpc"], str(nodes)]
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load:
                say(f"opening {nodes:,} sessions")
                load.stdout.readline()
                for _ in range(effort.times(RUNS)):
                    before_s, before, began_s = cpu_s(process.pid), _sent(load), time.monotonic()
                    time.sleep(2 * INTERVAL_S)
                    reports, took_s = _sent(load) - before, time.monotonic() - began_s
                    per_core.append(reports / (cpu_s(process.pid) - before_s))
                    per_s.append(reports / took_s)
                load.stdin.close()
                ended = json.loads(load.stdout.readline())
            written = _check(state / "coordinator.db", nodes, **ended)
    yield of_runs(
        "coordinator ingest, reports a CPU second",
        per_core,
        "/s",
        budget=PER_CORE_BUDGET,
        at_least=True,
        ratio=f"{written:.0%} of the reports written singly",
    )
    yield of_runs(
        "coordinator ingest, acknowledged by one replica",
        per_s,
        "/s",
        budget=KEPT_UP_RATIO * nodes / INTERVAL_S,
        at_least=True,
        ratio=f"{nodes / INTERVAL_S:,.0f} /s were offered",
    )


def _sent(load: subprocess.Popen) -> int:
    load.stdin.write(b"\n")
    load.stdin.flush()
    return int(load.stdout.readline())


def _check(database: Path, nodes: int, *, reports: int, changes: int) -> float:
    """Raise unless everything acknowledged is stored; returns the share that was written singly."""
    deadline_s = time.monotonic() + WRITTEN_WITHIN_S
    while True:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as stored:
            seqs = stored.execute("SELECT sum(report_seq) FROM node").fetchone()[0]
            findings = stored.execute("SELECT count(*) FROM finding").fetchone()[0]
            totals = stored.execute("SELECT count(*) FROM service_sample").fetchone()[0]
        if (seqs, findings) == (reports, nodes + changes):
            break
        if time.monotonic() > deadline_s:
            raise RuntimeError(
                f"acknowledged {reports} reports with {changes} changes of {nodes} nodes;"
                f" the database knows {seqs} reports and {findings} findings"
            )
        time.sleep(0.5)
    if totals < WRITTEN_SINGLY * reports:
        raise RuntimeError(f"{totals} of {reports} reports were written: the load is no load")
    return totals / reports


class Load:
    """What all nodes together have had acknowledged."""

    def __init__(self, nodes: int) -> None:
        self.reports = 0
        self.changes = 0
        self._unopened = nodes
        self.is_open = asyncio.Event()
        self._opening = asyncio.Semaphore(OPENING_AT_ONCE)
        self.is_over = asyncio.Event()

    async def run(self, node: Session, number: int) -> None:
        """Open the session and report from then on; ``number`` spreads the changes over nodes."""
        async with self._opening:
            await node.greet()
            await node.report()
        self.reports += 1
        self._unopened -= 1
        if self._unopened == 0:
            self.is_open.set()
        turn, due_s = number, time.monotonic() + random.uniform(0, INTERVAL_S)
        while not self.is_over.is_set():
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            # A node that was answered late is late from then on, as an agent is.
            due_s = max(due_s, time.monotonic()) + INTERVAL_S
            turn += 1
            is_changed = turn % CHANGED_ONE_IN == 0
            if is_changed:
                node.change()
            await node.report()
            self.reports += 1
            self.changes += is_changed


async def _load(address: str, count: int) -> None:
    load = Load(count)
    async with AsyncExitStack() as parts:
        connections = await parts.enter_async_context(channels(address, CONNECTIONS))
        nodes = [
            Session(f"node-{number}", connections[number % CONNECTIONS]) for number in range(count)
        ]
        async with asyncio.TaskGroup() as group:
            for number, node in enumerate(nodes):
                group.create_task(load.run(node, number))
            await load.is_open.wait()
            await asyncio.sleep(INTERVAL_S)
            print(flush=True)
            while await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
                print(load.reports, flush=True)
            load.is_over.set()
        print(json.dumps({"reports": load.reports, "changes": load.changes}), flush=True)


if __name__ == "__main__":
    asyncio.run(_load(sys.argv[1], int(sys.argv[2])))
