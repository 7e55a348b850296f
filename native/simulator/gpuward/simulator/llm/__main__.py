"""``python -m gpuward.simulator.llm --port 8000``: the simulated server on loopback, in real time.

With ``--gpu`` its weights and KV cache are memory of the simulated driver, and a tap shows them, as
the demo's workload does; without, there is no driver and no tap.
"""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog

from gpuward.daemon import log as logging
from gpuward.daemon import serve
from gpuward.daemon.clock import SystemClock
from gpuward.simulator.llm.engine import LlmEngine
from gpuward.simulator.llm.faults import parse
from gpuward.simulator.llm.platforms import PLATFORMS
from gpuward.simulator.llm.server import Server
from gpuward.simulator.llm.traffic import Demand, Traffic
from gpuward.simulator.state import StateError
from gpuward.simulator.workload import DEFAULT_TAP_DIRECTORY
from gpuward.simulator.workload_http import MAX_HEAD_BYTES
from gpuward.simulator.workload_publish import tapped_memory

if TYPE_CHECKING:
    from gpuward.simulator.workload_memory import Memory
    from gpuward.simulator.workload_publish import ReplicaTap

log = structlog.get_logger()

GIB = 1 << 30
# What --gpu-memory-utilization 0.9 leaves free.
HEADROOM_SHARE = 0.1


async def run(
    server: Server, listening: socket.socket, tap: ReplicaTap | None, stop: asyncio.Event
) -> None:
    """Serve until ``stop`` is set; connections that are open then are cut."""
    clock = SystemClock()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(server.run())]
        if tap is not None:
            tasks.append(group.create_task(tap.run(clock)))

        def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = group.create_task(server.connected(reader, writer))
            tasks.append(task)
            task.add_done_callback(tasks.remove)

        listener = await asyncio.start_server(connected, sock=listening, limit=MAX_HEAD_BYTES)
        address = "{}:{}".format(*listening.getsockname())
        log.info("llm.ready", address=address, pid=os.getpid())
        await stop.wait()
        listener.close()
        for task in tasks:
            task.cancel()


def load(memory: Memory) -> list[object]:
    """Take memory as an engine does at its start, gigabyte by gigabyte."""
    least = int(memory.free_bytes * HEADROOM_SHARE)
    held: list[object] = []
    while memory.free_bytes >= least + GIB:
        held.append(memory.malloc(GIB))
    return held


@click.command()
@click.option("--port", default=0, help="Port on loopback; 0 takes a free one.")
@click.option(
    "--platform", default="h100-llama-8b", type=click.Choice(sorted(PLATFORMS)), help="GPU, model."
)
@click.option("--requests-per-second", default=2.0, help="Simulated users; 0 for none.")
@click.option("--seed", default=0, help="Same seed, same users.")
@click.option(
    "--fault", "faults", multiple=True, help="TROUBLE[=AMOUNT][@SECONDS], as slower=1.5@60."
)
@click.option("--gpu", type=int, help="Index of a GPU of the simulated driver to take memory of.")
@click.option("--alloc-conf", envvar="PYTORCH_CUDA_ALLOC_CONF", default="", help="As for torch.")
@click.option(
    "--tap-directory",
    envvar="GPUWARD_TAP_DIR",
    default=DEFAULT_TAP_DIRECTORY,
    type=click.Path(path_type=Path),
    help="Where the tap file goes.",
)
def main(**options: Any) -> None:
    """Serve a simulated vLLM 0.33 until stopped."""
    logging.configure()
    try:
        with ExitStack() as stack:
            _serve(options, stack)
    except (ValueError, StateError, OSError) as error:
        raise click.ClickException(str(error)) from error


def _serve(options: dict[str, Any], stack: ExitStack) -> None:
    seed, clock = options["seed"], SystemClock()
    engine = LlmEngine(
        PLATFORMS[options["platform"]],
        Traffic(Demand(options["requests_per_second"]), seed),
        faults=[parse(text) for text in options["faults"]],
        seed=seed,
        begins_wall_s=clock.wall_s(),
    )
    listening = stack.enter_context(socket.create_server(("127.0.0.1", options["port"])))
    tap = None
    held: list[object] = []
    if options["gpu"] is not None:
        directory = options["tap_directory"]
        memory, tap = tapped_memory(options["gpu"], options["alloc_conf"], directory, stack)
        held = load(memory)
    log.info("llm.loaded", memory_gib=len(held))
    server = Server(engine, clock, seed)
    serve.run(lambda stop: run(server, listening, tap, stop))


if __name__ == "__main__":
    main()
