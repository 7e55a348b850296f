"""What an engine's metrics page costs: reading one of each kind, and a turn over four engines.

The vLLM page has the families, labels and buckets of a server in use: 374 samples in 52 kB; pages
of the other kinds are the fixtures of the tests.  The budget is for what the agent does every
second: figures, durations and buckets, of series seen before; beside it the reference parser on the
same page.  A turn has it all: four pages over loopback, requests, answers and samples.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING

from figures import of_runs
from prometheus_client.parser import text_string_to_metric_families
from timing import interleaved, times_of
from vllm_page import page

from gpuward.agent.engine_config import EngineConfig
from gpuward.agent.engines.page_reader import PageReader
from gpuward.agent.engines.shipped import KINDS, shipped
from gpuward.agent.samplers.engine import EngineSampler
from gpuward.daemon.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from figures import Figure
    from timing import Effort

FIXTURES = Path(__file__).parents[1] / "fixtures" / "engines"
BUDGET_MS = 0.2
ENGINES = 4
# A third of what the whole agent may take of a core.
TURN_BUDGET_MS = 3.0
SERVER = """
import asyncio, sys
body = sys.stdin.buffer.read()
answers = {b"/metrics": body, b"/health": b""}
async def serve(reader, writer):
    try:
        while True:
            body = answers[(await reader.readuntil(b"\\r\\n\\r\\n")).split()[1]]
            writer.write(b"HTTP/1.1 200 X\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
    except EOFError:
        writer.close()
async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()
asyncio.run(main())
"""


def measure(effort: Effort) -> Iterator[Figure]:
    pages = {kind: (FIXTURES / f"{kind}.txt").read_text() for kind in KINDS}
    pages["vllm"] = page(requests=12_000)
    for kind, text in pages.items():
        yield _of_a_page(kind, text, effort)
    turns = asyncio.run(_turns(pages["vllm"], effort.times(60)))
    yield of_runs(
        f"a turn over {ENGINES} engines, CPU",
        [1e3 * seconds for seconds in turns],
        "ms",
        budget=TURN_BUDGET_MS,
    )


def _of_a_page(kind: str, text: str, effort: Effort) -> Figure:
    reader = PageReader(kind, shipped(kind))
    calls = {
        "agent": lambda: reader.read(text),
        "reference": lambda: list(text_string_to_metric_families(text)),
    }
    taken = interleaved(calls, rounds=effort.times(60), times=3)
    return of_runs(
        f"engine page of {kind}, {len(text) / 1e3:.0f} kB, CPU",
        [1e3 * seconds for seconds in taken["agent"]],
        "ms",
        budget=BUDGET_MS if kind == "vllm" else None,
        ratio=f"{times_of(taken['agent'], taken['reference']):.0f} x faster than prometheus_client",
    )


async def _turns(text: str, rounds: int) -> list[float]:
    """Return the CPU seconds of each of some turns; the first ones are dropped."""
    with contextlib.ExitStack() as stack:
        ports = [_serving(stack, text) for _ in range(ENGINES)]
        engines = [EngineConfig(service="chat", url=f"http://127.0.0.1:{port}") for port in ports]
        taken = []
        async with EngineSampler(engines, SystemClock()) as sampler:
            for turn in range(rounds + 5):
                began_s = time.thread_time()
                await sampler.sample(float(turn))
                taken.append(time.thread_time() - began_s)
    return taken[5:]


def _serving(stack: contextlib.ExitStack, text: str) -> int:
    """Start a server of ``text`` that ends with ``stack``; return its port."""
    server = stack.enter_context(Popen([sys.executable, "-c", SERVER], stdin=PIPE, stdout=PIPE))
    stack.callback(server.kill)
    server.stdin.write(text.encode())
    server.stdin.close()
    return int(server.stdout.readline())
