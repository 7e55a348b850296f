"""How many node reports the coordinator takes in, each durable before it is acknowledged.

A real coordinator on SQLite and a load generator in another process: 200 nodes with a session each
that report as fast as they are answered; one report in twenty has a finding that changed.  A core's
rate is reports by CPU seconds of the coordinator, whoever else uses the machine; beside it what one
replica really acknowledges a second, disk and turns at the database included.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from centre import session
from figures import of_runs
from machine import coordinator_config
from processes import cpu_s, daemon

if TYPE_CHECKING:
    from collections.abc import Iterator

    from centre import Session
    from figures import Figure
    from timing import Effort

PER_CORE_BUDGET = 3_000.0
# 10,000 nodes that report every 10 s.
PER_REPLICA_BUDGET = 1_000.0
NODES = 200
CHANGED_ONE_IN = 20
RUNS = 5
RUN_S = 5.0


def measure(effort: Effort) -> Iterator[Figure]:
    per_core, per_s = [], []
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        config = coordinator_config(folder)
        with daemon("coordinator", config, folder / "coordinator") as (process, addresses):
            runs = effort.times(RUNS)
            argv = [sys.executable, __file__, addresses["grpc"], str(runs)]
            with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load:
                load.stdout.readline()
                for _ in range(runs):
                    before_s, began_s = cpu_s(process.pid), time.monotonic()
                    load.stdin.write(b"\n")
                    load.stdin.flush()
                    reports = json.loads(load.stdout.readline())
                    per_core.append(reports / (cpu_s(process.pid) - before_s))
                    per_s.append(reports / (time.monotonic() - began_s))
    yield of_runs(
        "coordinator ingest, reports a CPU second",
        per_core,
        "/s",
        budget=PER_CORE_BUDGET,
        at_least=True,
        ratio=f"{1e3 / min(per_core):.2f} ms CPU a report at worst",
    )
    yield of_runs(
        "coordinator ingest, acknowledged by one replica",
        per_s,
        "/s",
        budget=PER_REPLICA_BUDGET,
        at_least=True,
    )


async def _load(address: str, runs: int) -> None:
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as parts:
        nodes = [
            await parts.enter_async_context(session(address, f"node-{number}"))
            for number in range(NODES)
        ]
        for node in nodes:
            await node.report()
        print(flush=True)
        for _ in range(runs):
            await loop.run_in_executor(None, sys.stdin.readline)
            until_s = time.monotonic() + RUN_S
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(_report_until(node, until_s, number))
                    for number, node in enumerate(nodes)
                ]
            print(json.dumps(sum(task.result() for task in tasks)), flush=True)


async def _report_until(node: Session, until_s: float, number: int) -> int:
    """Report as often as the coordinator lets us; ``number`` spreads the changes over the nodes."""
    reports = 0
    while time.monotonic() < until_s:
        reports += 1
        if (reports + number) % CHANGED_ONE_IN == 0:
            node.change()
        await node.report()
    return reports


if __name__ == "__main__":
    asyncio.run(_load(sys.argv[1], int(sys.argv[2])))
