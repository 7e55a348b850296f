"""A small inference server that fragments its GPU memory, with its users: the demo's patient.

``python -m gpuward.simulator.workload`` serves vLLM's shape of ``/v1/completions``, ``/health`` and
``/metrics``, and sends itself requests.  Its memory is a replica of torch's allocator on the
simulated driver (or, with ``--torch``, torch itself on the simulated CUDA runtime), so that every
figure the agent reads comes about as it does in production.  A new process is healthy again.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog

from gpuward.daemon import log as logging
from gpuward.daemon import serve
from gpuward.daemon.clock import SystemClock
from gpuward.simulator import workload_client
from gpuward.simulator.llm.metrics import EngineMetrics
from gpuward.simulator.state import StateError
from gpuward.simulator.workload_engine import Engine
from gpuward.simulator.workload_http import MAX_HEAD_BYTES, Face
from gpuward.simulator.workload_publish import tapped_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gpuward.daemon.clock import Clock
    from gpuward.simulator.workload_memory import Memory
    from gpuward.simulator.workload_publish import ReplicaTap

log = structlog.get_logger()

DEFAULT_TAP_DIRECTORY = "/run/gpuward/tap"


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    model: str
    port: int
    gpu: int
    requests_per_second: float
    healthy_seconds: float
    seed: int
    alloc_conf: str
    tap_directory: Path
    addresses: Path | None
    use_torch: bool


@dataclass(frozen=True, slots=True)
class Prepared:
    """What can fail before there is anything to serve."""

    memory: Memory
    tap: ReplicaTap | None
    listening: socket.socket


@contextmanager
def prepare(options: Options) -> Iterator[Prepared]:
    """Open the GPU, the tap file and the port.

    Raises ``OSError`` when the port is taken, ``StateError`` without a simulated driver and
    ``ValueError`` for allocator options that the replica does not know.
    """
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", options.port)))
        memory, tap = _memory(options, stack)
        yield Prepared(memory, tap, listening)


async def run(options: Options, prepared: Prepared, clock: Clock, stop: asyncio.Event) -> None:
    """Serve until ``stop`` is set, then answer what is being worked on."""
    metrics = EngineMetrics(options.model, started_wall_s=clock.wall_s())
    engine = Engine(prepared.memory, metrics, clock, seed=options.seed)
    engine.load_weights()
    port = prepared.listening.getsockname()[1]
    async with asyncio.TaskGroup() as group:
        tap = prepared.tap
        background = [group.create_task(tap.run(clock))] if tap else []
        server = await _serve(Face(engine, metrics), prepared.listening, group)
        _announce(options.addresses, port)
        log.info("workload.ready", address=f"127.0.0.1:{port}", pid=os.getpid())
        if options.requests_per_second:
            background.append(group.create_task(_users(options, clock, port)))
        await stop.wait()
        server.close()
        for task in background:
            task.cancel()


async def _serve(face: Face, listening: socket.socket, group: asyncio.TaskGroup) -> asyncio.Server:
    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        group.create_task(face.connected(reader, writer))

    return await asyncio.start_server(connected, sock=listening, limit=MAX_HEAD_BYTES)


async def _users(options: Options, clock: Clock, port: int) -> None:
    await workload_client.send_for_ever(
        port,
        clock,
        per_second=options.requests_per_second,
        healthy_s=options.healthy_seconds,
        seed=options.seed,
    )


def _memory(options: Options, stack: ExitStack) -> tuple[Memory, ReplicaTap | None]:
    if options.use_torch:
        from gpuward.simulator.workload_torch import TorchMemory

        return TorchMemory(options.gpu), None
    return tapped_memory(options.gpu, options.alloc_conf, options.tap_directory, stack)


def _announce(addresses: Path | None, port: int) -> None:
    if addresses is None:
        return
    # Complete or absent: whoever waits for the file must never read half of it.
    unfinished = addresses.with_suffix(".tmp")
    unfinished.write_text(json.dumps({"http": f"127.0.0.1:{port}"}), encoding="utf-8")
    unfinished.rename(addresses)


@click.command()
@click.option("--model", default="demo-30b", help="Name in the label model_name.")
@click.option("--port", default=0, help="Port on loopback; 0 takes a free one.")
@click.option("--gpu", default=0, help="Index of the GPU to use.")
@click.option("--requests-per-second", default=30.0, help="Requests to send itself; 0 for none.")
@click.option("--healthy-seconds", default=3600.0, help="How long before memory fragments.")
@click.option("--seed", default=0, help="Same seed, same requests.")
@click.option("--alloc-conf", envvar="PYTORCH_CUDA_ALLOC_CONF", default="", help="As for torch.")
@click.option(
    "--tap-directory",
    envvar="GPUWARD_TAP_DIR",
    default=DEFAULT_TAP_DIRECTORY,
    type=click.Path(path_type=Path),
    help="Where the tap file goes.",
)
@click.option(
    "--addresses", type=click.Path(path_type=Path), help="File to write the bound address to."
)
@click.option("--torch", "use_torch", is_flag=True, help="Use torch's own allocator.")
def main(**values: Any) -> None:
    """Serve completions out of simulated GPU memory until stopped."""
    options = Options(**values)
    logging.configure()
    try:
        with prepare(options) as prepared:
            serve.run(lambda stop: run(options, prepared, SystemClock(), stop))
    except (ValueError, StateError, OSError) as error:
        raise click.ClickException(str(error)) from error


if __name__ == "__main__":
    main()
