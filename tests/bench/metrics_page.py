"""How long a scrape of 5,000 series takes over HTTP on loopback, while the node is being judged.

The server is a process of its own with the agent's exporter and judge in it: once a second all
5,000 values are new and a judgement is made, as in the agent.  A scrape is a new connection, as the
server wants it, until the last byte has come; the 99th percentile is of each run.  The text alone
is compared with ``prometheus_client.generate_latest`` of the same series.
"""

from __future__ import annotations

import asyncio
import http.client
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from figures import of_runs
from judge_tick import new_judge
from node import Node
from processes import cpu_s
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from timing import interleaved, percentile, times_of

from gpuward.agent.exporter import Exporter
from gpuward.agent.exposition import exposition
from gpuward.agent.signals import SIGNALS
from gpuward.daemon.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from timing import Effort

    from gpuward.agent.model import Snapshot

SERIES = 5_000
BUDGET_MS = 10.0
RUNS = 5
# Prometheus asks every 15 s; this often shows what meeting the judge costs.
PAUSE_S = 0.02


def measure(effort: Effort) -> Iterator[Figure]:
    yield from _text(effort)
    with _server() as (pid, port):
        _scrape(port)
        before_s, scrapes = cpu_s(pid), 0
        p50_ms, p99_ms = [], []
        for _ in range(RUNS):
            run_ms = []
            for _ in range(effort.times(200)):
                run_ms.append(1e3 * _scrape(port))
                time.sleep(PAUSE_S)
            scrapes += len(run_ms)
            p50_ms.append(percentile(run_ms, 0.5))
            p99_ms.append(percentile(run_ms, 0.99))
        cpu_ms = 1e3 * (cpu_s(pid) - before_s) / scrapes
    yield of_runs("/metrics of 5,000 series, p50, wall", p50_ms, "ms")
    ratio = f"{cpu_ms:.1f} ms CPU of the server a scrape, judging included"
    yield of_runs(
        "/metrics of 5,000 series, p99, wall", p99_ms, "ms", budget=BUDGET_MS, ratio=ratio
    )


def _text(effort: Effort) -> Iterator[Figure]:
    judge, node = new_judge(SystemClock()), Node(SERIES)
    judge.take("bench", node.batch(time.monotonic()))
    judge.tick()
    registry = _same_series(judge.snapshot)
    calls = {
        "ours": lambda: exposition(judge.snapshot).encode(),
        "peer": lambda: generate_latest(registry),
    }
    taken = interleaved(calls, rounds=effort.times(50))
    faster = times_of(taken["ours"], taken["peer"])
    yield of_runs(
        "text of 5,000 series, CPU",
        [1e3 * seconds for seconds in taken["ours"]],
        "ms",
        ratio=f"{faster:.0f} x faster than generate_latest",
    )


def _same_series(snapshot: Snapshot) -> CollectorRegistry:
    registry = CollectorRegistry()
    gauges: dict[str, Gauge] = {}
    for key, sample in snapshot.samples.items():
        labels = {
            name: value for name, value in (("gpu", key.gpu), ("process", key.process)) if value
        }
        if key.signal not in gauges:
            help_text = SIGNALS[key.signal].help
            gauges[key.signal] = Gauge(key.signal, help_text, tuple(labels), registry=registry)
        gauge = gauges[key.signal]
        (gauge.labels(**labels) if labels else gauge).set(sample.value)
    return registry


def _scrape(port: int) -> float:
    began_s = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", "/metrics")
    body = connection.getresponse().read()
    connection.close()
    taken_s = time.perf_counter() - began_s
    found = body.count(b"\ngpuward_")
    if not SERIES * 0.99 < found < SERIES * 1.05:
        raise RuntimeError(f"the page has {found} series")
    return taken_s


@contextmanager
def _server() -> Iterator[tuple[int, int]]:
    """Run the exporter in a process of its own; yields its pid and port."""
    with subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


async def _serve() -> None:
    clock, node = SystemClock(), Node(SERIES)
    judge = new_judge(clock)
    judge.take("bench", node.batch(clock.mono_s()))
    exporter = Exporter(
        clock=clock,
        snapshot=lambda: judge.snapshot,
        is_started=lambda: True,
        self_metrics=(),
    )
    _, port = await exporter.server().start("127.0.0.1", 0)
    async with asyncio.TaskGroup() as group:
        group.create_task(judge.run())
        await asyncio.sleep(0)
        print(port, flush=True)
        while True:
            await asyncio.sleep(1)
            judge.take("bench", node.batch(clock.mono_s()))


if __name__ == "__main__":
    asyncio.run(_serve())
