"""How long a scrape of 5,000 series takes over HTTP on loopback, while the node is being judged.

The server is a process of its own with the agent's exporter and judge in it: once a second all
5,000 values are new and a judgement is made, as in the agent.  A scrape asks as Prometheus does, in
a new connection, until the last byte has come; the 99th percentile is of each run.  In turn with it
a page of the same size that never changes is fetched through the same server: the floor on this
machine at this time.  The text alone is compared with ``prometheus_client.generate_latest``.
"""

from __future__ import annotations

import asyncio
import gc
import http.client
import subprocess
import sys
import time
import zlib
from contextlib import contextmanager
from itertools import cycle
from statistics import median
from typing import TYPE_CHECKING

from figures import of_runs
from judge_tick import new_judge
from node import Node
from processes import cpu_s
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from timing import interleaved, percentile, times_of

from gpuward.agent.app import YOUNG_OBJECTS
from gpuward.agent.exporter import Exporter
from gpuward.agent.exposition import Exposition
from gpuward.agent.http_message import Request
from gpuward.agent.http_server import HttpServer
from gpuward.agent.signals import SIGNALS
from gpuward.daemon.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from timing import Effort

    from gpuward.agent.judge import Judge
    from gpuward.agent.model import Snapshot

SERIES = 5_000
BUDGET_MS = 10.0
# They come at times of their own, each with its share of the series.
SAMPLERS = 5
RUNS = 5
# As Prometheus asks: the page is OpenMetrics, and compressed.
AS_PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}
GZIP_WINDOW_BITS = 31
# Prometheus asks every 15 s; this often shows what meeting the judge costs.
PAUSE_S = 0.02


def measure(effort: Effort) -> Iterator[Figure]:
    yield from _text(effort)
    runs: dict[str, list[list[float]]] = {"agent": [], "floor": []}
    with _server("agent") as (pid, port), _server("floor") as (_, floor_port):
        for each in (port, floor_port):
            _scrape(each)
        before_s, scrapes = cpu_s(pid), effort.times(200)
        for _ in range(RUNS):
            for values in runs.values():
                values.append([])
            for _ in range(scrapes):
                for name, each in (("agent", port), ("floor", floor_port)):
                    runs[name][-1].append(1e3 * _scrape(each))
                time.sleep(PAUSE_S)
        cpu_ms = 1e3 * (cpu_s(pid) - before_s) / (RUNS * scrapes)
    yield from _told(runs, cpu_ms)


def _told(runs: dict[str, list[list[float]]], cpu_ms: float) -> Iterator[Figure]:
    p50_ms = {name: [percentile(run, 0.5) for run in values] for name, values in runs.items()}
    p99_ms = {name: [percentile(run, 0.99) for run in values] for name, values in runs.items()}
    yield of_runs(
        "/metrics of 5,000 series, p50, wall",
        p50_ms["agent"],
        "ms",
        ratio=f"{cpu_ms:.1f} ms CPU of the server a scrape, its judging included",
    )
    yield of_runs(
        "/metrics of 5,000 series, p99, wall",
        p99_ms["agent"],
        "ms",
        budget=BUDGET_MS,
        ratio=f"a page of the same size that never changes: p50 {median(p50_ms['floor']):.1f},"
        f" p99 {median(p99_ms['floor']):.1f} ms",
    )


def _text(effort: Effort) -> Iterator[Figure]:
    judge, node = new_judge(SystemClock()), Node(SERIES)
    judge.take("bench", node.batch(time.monotonic()))
    judge.tick()
    registry, ours = _same_series(judge.snapshot), Exposition()
    calls = {
        "ours": lambda: ours.text(judge.snapshot).encode(),
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
    connection.request("GET", "/metrics", headers=AS_PROMETHEUS)
    body = connection.getresponse().read()
    connection.close()
    taken_s = time.perf_counter() - began_s
    body = zlib.decompress(body, GZIP_WINDOW_BITS)
    found = body.count(b"\ngpuward_")
    # Beside samples there are identities and the agent itself.
    if not SERIES * 0.99 < found < SERIES * 1.1:
        raise RuntimeError(f"the page has {found} series")
    return taken_s


@contextmanager
def _server(name: str) -> Iterator[tuple[int, int]]:
    """Run a server in a process of its own; yields its pid and port."""
    argv = [sys.executable, __file__, name]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process.pid, int(process.stdout.readline())
        finally:
            process.kill()


async def _serve_agent() -> None:
    """Serve a node that is judged once a second; so often every series has a new value."""
    clock, node = SystemClock(), Node(SERIES)
    judge = new_judge(clock)
    judge.take("bench", node.batch(clock.mono_s()))
    judge.tick()
    async with asyncio.TaskGroup() as group:
        group.create_task(judge.run())
        await _listen(_exporter(judge).server())
        # As the agent does when it has started.
        gc.freeze()
        gc.set_threshold(YOUNG_OBJECTS)
        for part in cycle(range(SAMPLERS)):
            await asyncio.sleep(1 / SAMPLERS)
            batch = node.batch(clock.mono_s(), part=part, parts=SAMPLERS)
            judge.take(f"sampler {part}", batch)


async def _serve_floor() -> None:
    """Serve the page of a moment, through the same server: all but the making of the page."""
    clock, node = SystemClock(), Node(SERIES)
    judge = new_judge(clock)
    judge.take("bench", node.batch(clock.mono_s()))
    judge.tick()
    page = _exporter(judge).metrics(Request("/metrics"))
    await _listen(HttpServer({"/metrics": lambda _: page}))
    await asyncio.Event().wait()


def _exporter(judge: Judge) -> Exporter:
    return Exporter(
        clock=SystemClock(),
        snapshot=lambda: judge.snapshot,
        is_started=lambda: True,
        self_metrics=(),
    )


async def _listen(server: HttpServer) -> None:
    _, port = await server.start("127.0.0.1", 0)
    print(port, flush=True)


if __name__ == "__main__":
    asyncio.run({"agent": _serve_agent, "floor": _serve_floor}[sys.argv[1]]())
