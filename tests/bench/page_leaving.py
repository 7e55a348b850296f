"""How long it takes from a node's finding until the page about it has left.

A real coordinator with a file as the pager.  Hard faults come from 20 nodes at random times, five a
second on average; measured from the moment the agent begins to send its report until the page's
line is in the file: correlation, incident, escalation step, outbox, delivery and every commit on
the way.  A hard fault is not held; other findings would wait their hold first.
"""

from __future__ import annotations

import asyncio
import random
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from centre import Session, channels
from figures import of_runs
from machine import coordinator_config
from processes import daemon
from timing import percentile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from timing import Effort

BUDGET_S = 1.0
NODES = 20
FAULTS = 100
RUNS = 3
MEAN_PAUSE_S = 0.2
LOOK_EVERY_S = 0.002
GIVE_UP_S = 20.0


def measure(effort: Effort) -> Iterator[Figure]:
    p50_s, p99_s = [], []
    for run in range(1 if effort.quick else RUNS):
        with tempfile.TemporaryDirectory() as directory:
            folder = Path(directory)
            config = coordinator_config(folder)
            with daemon("coordinator", config, folder / "coordinator") as (_, addresses):
                pages = folder / "pages.jsonl"
                faults = effort.times(FAULTS)
                took_s = asyncio.run(_faults(addresses["grpc"], pages, faults, seed=run))
        p50_s.append(percentile(took_s, 0.5))
        p99_s.append(percentile(took_s, 0.99))
    yield of_runs("finding to page leaving, p50, wall", p50_s, "s")
    yield of_runs("finding to page leaving, p99, wall", p99_s, "s", budget=BUDGET_S)


async def _faults(address: str, pages: Path, count: int, *, seed: int) -> list[float]:
    """Let ``count`` faults happen; returns how long each took to page, seconds."""
    moments = random.Random(seed)
    sent_s: dict[str, float] = {}
    async with AsyncExitStack() as parts:
        connections = await parts.enter_async_context(channels(address, NODES))
        nodes = [Session(f"node-{n}", channel) for n, channel in enumerate(connections)]
        for node in nodes:
            await node.greet()
            await node.report()
        async with asyncio.TaskGroup() as group:
            paged = group.create_task(_paged(pages, count))
            for number in range(count):
                await asyncio.sleep(moments.expovariate(1 / MEAN_PAUSE_S))
                mark = f"fault {number}."
                sent_s[mark] = time.perf_counter()
                await _fault(nodes[number % NODES], number, mark)
        left_s = paged.result()
    return [left_s[mark] - sent_s[mark] for mark in sent_s]


async def _fault(node: Session, number: int, mark: str) -> None:
    finding = node.finding("gpu.xid", gpu=f"GPU-{number}", number=1_000 + number, page=True)
    finding.summary = f"XID 79: GPU has fallen off the bus, {mark}"
    node.add(finding)
    await node.report()


async def _paged(pages: Path, count: int) -> dict[str, float]:
    """Watch the pager's file; returns when each fault was first seen in it."""
    left_s: dict[str, float] = {}
    seen, quiet_until_s = 0, time.perf_counter() + GIVE_UP_S
    while len(left_s) < count:
        await asyncio.sleep(LOOK_EVERY_S)
        text = _content(pages)
        now_s = time.perf_counter()
        whole = text[: text.rfind(b"\n") + 1]
        for line in whole[seen:].decode().splitlines():
            mark = line[line.index("fault ") :].partition(".")[0] + "."
            left_s.setdefault(mark, now_s)
            quiet_until_s = now_s + GIVE_UP_S
        seen = len(whole)
        if now_s > quiet_until_s:
            raise RuntimeError(f"{len(left_s)} of {count} pages left within {GIVE_UP_S:.0f} s")
    return left_s


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
