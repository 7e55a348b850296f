"""The agent beside nvitop-exporter: the same simulated node, the same scrapes, the same minute.

8 H100 and 16 processes that hold their memory.  Both exporters look once a second and are scraped
once a second, each in turn; CPU is of all processes of each.  Then both are scraped in turn, one
scrape just after the other, for the latency: a new connection, asking as Prometheus does, until the
last byte has come.  The budgets are the peer's own figures in this run.
"""

from __future__ import annotations

import http.client
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
import zlib
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Figure
from machine import agent_config, simulated
from processes import children, cpu_s, daemon, started, wait_for
from timing import percentile

from gpuward.simulator.state import State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from timing import Effort

PEER = Path(sys.prefix) / "peers" / "bin" / "nvitop-exporter"
GPUS = 8
PROCESSES = 16
HELD_BYTES = 20 << 30
SETTLE_S = 10.0
MEASURE_S = 60.0
SCRAPES = 400
PAUSE_S = 0.02
AS_PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    "Accept-Encoding": "gzip",
}
GZIP_WINDOW_BITS = 31


def measure(effort: Effort) -> Iterator[Figure]:
    if not PEER.exists():
        reason = f"{PEER.name} is not installed: pip install -r tests/simulator/peers.txt"
        yield Figure("beside nvitop-exporter", math.nan, "", 1.0, ratio=reason)
        return
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        _, env = parts.enter_context(simulated(folder))
        for number in range(PROCESSES):
            _holder(number, env, parts)
        agent, addresses = parts.enter_context(
            daemon("agent", agent_config(folder), folder / "agent", env)
        )
        port = _free_port()
        argv = [PEER, "--port", port, "--bind-address", "127.0.0.1"]
        peer = parts.enter_context(started(argv, folder / "peer.log", env))
        pages = {"agent": addresses["http"], "peer": f"127.0.0.1:{port}"}
        wait_for(lambda: _answers(pages["peer"]), peer)
        time.sleep(SETTLE_S)
        pids = {"agent": [agent.pid, *children(agent.pid).values()], "peer": [peer.pid]}
        percent = _cpu(pids, pages, effort.seconds(MEASURE_S))
        yield from _compared(percent, *_latencies(pages, effort.times(SCRAPES)))


def _compared(
    percent: Mapping[str, float], taken_ms: Mapping[str, list[float]], series: Mapping[str, int]
) -> Iterator[Figure]:
    yield Figure(
        "agent's CPU of one core at 1 scrape/s",
        percent["agent"],
        "%",
        round(percent["peer"], 2),
        ratio=f"{percent['agent'] / percent['peer']:.2f} x of nvitop-exporter",
    )
    p50_ms, p99_ms = (
        {name: percentile(values, q) for name, values in taken_ms.items()} for q in (0.5, 0.99)
    )
    yield Figure(
        "scrape of the agent, p99, wall",
        p99_ms["agent"],
        "ms",
        round(p99_ms["peer"], 1),
        ratio=f"{p99_ms['agent'] / p99_ms['peer']:.2f} x of nvitop-exporter;"
        f" p50 {p50_ms['agent']:.1f} against {p50_ms['peer']:.1f} ms",
    )
    yield Figure(
        "series of the agent",
        series["agent"],
        "",
        series["peer"] + 1,
        at_least=True,
        ratio=f"{series['agent'] / series['peer']:.1f} x of nvitop-exporter",
    )


def _cpu(pids: Mapping[str, list[int]], pages: Mapping[str, str], for_s: float) -> dict[str, float]:
    """Return percent of a core of each while both are scraped once a second."""
    before_s = {name: sum(map(cpu_s, each)) for name, each in pids.items()}
    began_s = time.monotonic()
    due_s = began_s
    while due_s < began_s + for_s:
        for address in pages.values():
            _scrape(address)
        due_s += 1.0
        time.sleep(max(0.0, due_s - time.monotonic()))
    took_s = time.monotonic() - began_s
    return {n: 100 * (sum(map(cpu_s, each)) - before_s[n]) / took_s for n, each in pids.items()}


def _latencies(
    pages: Mapping[str, str], scrapes: int
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Return milliseconds of each scrape, and the series of the last, by exporter."""
    taken_ms: dict[str, list[float]] = {name: [] for name in pages}
    series = {}
    for _ in range(scrapes):
        for name, address in pages.items():
            began_s = time.perf_counter()
            body = _scrape(address)
            taken_ms[name].append(1e3 * (time.perf_counter() - began_s))
            series[name] = sum(not line.startswith(b"#") for line in _plain(body).splitlines())
        time.sleep(PAUSE_S)
    return taken_ms, series


def _scrape(address: str) -> bytes:
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request("GET", "/metrics", headers=AS_PROMETHEUS)
    body = connection.getresponse().read()
    connection.close()
    return body


def _plain(body: bytes) -> bytes:
    return zlib.decompress(body, GZIP_WINDOW_BITS) if body[:2] == b"\x1f\x8b" else body


def _answers(address: str) -> bool:
    try:
        return bool(_scrape(address))
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _holder(number: int, env: dict[str, str], parts: ExitStack) -> None:
    """Start a process that holds memory of one GPU, two on each."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(number)], env=env, stdout=subprocess.PIPE, text=True
    )
    parts.callback(process.wait)
    parts.callback(process.kill)
    if not process.stdout.readline():
        raise RuntimeError(f"process {number} holds no memory")


def _hold(number: int) -> None:
    state = State.open()
    if not state.take(number % GPUS, os.getpid(), HELD_BYTES):
        raise RuntimeError(f"GPU {number % GPUS} has no {HELD_BYTES} bytes left")
    print("holds", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    _hold(int(sys.argv[1]))
