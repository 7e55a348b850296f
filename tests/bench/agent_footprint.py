"""What the agent takes of a node for itself: 8 GPUs, 16 processes, 4 engines, all at 1 Hz.

A real agent under the simulated driver: 16 processes hold memory of the GPUs and publish their tap
files once a second, 4 servers answer with a vLLM page that moves, a coordinator takes the reports,
and /metrics is scraped every 15 s as Prometheus does.  CPU is of the agent and its NVML child over
a minute, after ten seconds of settling; the simulated driver answers in nanoseconds, so what is
left is our own.  The probe worker is budgeted apart and told apart.

The node works and is well; beside it the same node in trouble is told: idle GPUs before which
requests wait, are put back and fail, with the findings that come of it and the search for a cause.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

from figures import Figure
from machine import agent_config, coordinator_config, simulated
from processes import children, cpu_s, daemon, pss_mib
from tap_tick import statistics
from vllm_page import page

from gpuward.simulator.state import State
from gpuward.tap.publisher import Publisher

if TYPE_CHECKING:
    from collections.abc import Iterator

    from timing import Effort

    from gpuward.simulator.layout import GpuRow

CPU_BUDGET_PERCENT = 1.0
MEMORY_BUDGET_MIB = 72.0
GPUS = 8
PROCESSES = 16
ENGINES = 4
HELD_BYTES = 20 << 30
SETTLE_S = 10.0
MEASURE_S = 60.0
SCRAPE_EVERY_S = 15.0
FINDING, HOST_FINDING = "gpuward_finding_open{", '"node.cpu.starved"'
CHILD = "gpuward.agent.nvml_child"
WORKER = "gpuward.agent.probe_worker"


class Engine(BaseHTTPRequestHandler):
    """A server that has answered one more request a millisecond since it began."""

    began_s = time.monotonic()
    in_trouble = False
    # As uvicorn does: connections last, and an answer is one write.
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        requests = int(1e3 * (time.monotonic() - self.began_s))
        text = page(requests, in_trouble=self.in_trouble) if self.path == "/metrics" else ""
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def measure(effort: Effort) -> Iterator[Figure]:
    cpu, *others = _of_node(effort, in_trouble=False)
    troubled, *_ = _of_node(effort, in_trouble=True)
    yield cpu
    yield replace(troubled, name=f"{troubled.name}, node in trouble", budget=None)
    yield from others


def _of_node(effort: Effort, *, in_trouble: bool) -> Iterator[Figure]:
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory()))
        _, env = parts.enter_context(simulated(folder))
        engines = [_engine(parts, in_trouble=in_trouble) for _ in range(ENGINES)]
        _, centre = parts.enter_context(
            daemon("coordinator", coordinator_config(folder), folder / "coordinator")
        )
        for number in range(PROCESSES):
            _holder(number, folder, env, parts, in_trouble=in_trouble)
        config = agent_config(folder, coordinator=centre["grpc"], engines=engines)
        agent, addresses = parts.enter_context(daemon("agent", config, folder / "agent", env))
        time.sleep(SETTLE_S)
        yield from _watched(agent.pid, addresses["http"], effort.seconds(MEASURE_S))
        _check_health(_scrape(addresses["http"]), in_trouble=in_trouble)


def _watched(pid: int, address: str, for_s: float) -> Iterator[Figure]:
    of_agent = children(pid)
    pids = {"parent": pid, "child": of_agent[CHILD], "worker": of_agent[WORKER]}
    _check(_scrape(address))
    before_s = {name: cpu_s(number) for name, number in pids.items()}
    began_s = time.monotonic()
    while (left_s := for_s - (time.monotonic() - began_s)) > 0:
        time.sleep(min(left_s, SCRAPE_EVERY_S))
        _scrape(address)
    took_s = time.monotonic() - began_s
    percent = {n: 100 * (cpu_s(number) - before_s[n]) / took_s for n, number in pids.items()}
    memory = {name: pss_mib(number) for name, number in pids.items()}
    yield Figure(
        "agent's CPU of one core",
        percent["parent"] + percent["child"],
        "%",
        CPU_BUDGET_PERCENT,
        ratio=f"parent {percent['parent']:.2f} %, NVML child {percent['child']:.2f} %",
    )
    yield Figure(
        "agent's memory, PSS",
        memory["parent"] + memory["child"],
        "MiB",
        MEMORY_BUDGET_MIB,
        ratio=f"parent {memory['parent']:.1f}, NVML child {memory['child']:.1f}",
    )
    yield Figure("probe worker's CPU of one core", percent["worker"], "%")
    yield Figure("probe worker's memory, PSS", memory["worker"], "MiB")


def _scrape(address: str) -> str:
    connection = http.client.HTTPConnection(address, timeout=5)
    connection.request("GET", "/metrics")
    body = connection.getresponse().read().decode()
    connection.close()
    return body


def _check(page_of_agent: str) -> None:
    """Raise unless the agent sees everything that it shall be measured with."""
    seen = {
        "processes on GPUs": page_of_agent.count("\ngpuward_process_gpu_memory_bytes{"),
        "tapped processes": page_of_agent.count("\ngpuward_process_memory_reserved_bytes{"),
        "requests of the service": page_of_agent.count("\ngpuward_service_requests_total{"),
    }
    if list(seen.values()) != [PROCESSES, PROCESSES, 1]:
        raise RuntimeError(f"the agent sees {seen}")


def _check_health(page_of_agent: str, *, in_trouble: bool) -> None:
    """Raise unless the node was what it was measured as."""
    lines = [line for line in page_of_agent.splitlines() if line.startswith(FINDING)]
    # That of the machine which measures is not of the made-up node.
    found = [line for line in lines if HOST_FINDING not in line]
    if bool(found) != in_trouble:
        raise RuntimeError(f"{len(found)} findings are open, in trouble: {in_trouble}: {found[:3]}")


def _engine(parts: ExitStack, *, in_trouble: bool) -> int:
    """Serve an engine's pages in a process of its own; returns its port."""
    process = subprocess.Popen(
        [sys.executable, __file__, "engine", str(int(in_trouble))],
        stdout=subprocess.PIPE,
        text=True,
    )
    parts.callback(process.wait)
    parts.callback(process.kill)
    return int(process.stdout.readline())


def _holder(
    number: int, folder: Path, env: dict[str, str], parts: ExitStack, *, in_trouble: bool
) -> None:
    """Start a process that holds memory of one GPU, works on it, and publishes its tap file.

    It goes by the name of an engine and its model, so that each is a process of its own in metrics.
    """
    program = folder / "vllm"
    if not program.exists():
        program.symlink_to(Path(__file__).resolve())
    process = subprocess.Popen(
        [sys.executable, program, "serve", f"model-{number}", folder / "tap", str(int(in_trouble))],
        env=env,
        stdout=subprocess.PIPE,
        text=True,
    )
    parts.callback(process.wait)
    parts.callback(process.kill)
    process.stdout.readline()


def _serve_engine(*, in_trouble: bool) -> None:
    Engine.in_trouble = in_trouble
    server = ThreadingHTTPServer(("127.0.0.1", 0), Engine)
    print(server.server_address[1], flush=True)
    server.serve_forever()


def _hold(number: int, directory: str, *, is_idle: bool) -> None:
    state, gpu = State.open(), number % GPUS
    if not state.take(gpu, os.getpid(), HELD_BYTES):
        raise RuntimeError(f"GPU {gpu} has no {HELD_BYTES} bytes left")
    uuid = bytes.fromhex(state.gpu(gpu).uuid.decode().removeprefix("GPU-").replace("-", ""))
    publisher, stats = Publisher(directory, [(uuid, 0)]), statistics(HELD_BYTES)
    print(flush=True)
    while True:
        if not is_idle:
            _work(state.gpu(gpu), swing=int(time.monotonic()) % 7)
        publisher.publish(0, stats)
        time.sleep(1)


def _work(row: GpuRow, swing: int) -> None:
    """Be as busy as a GPU that serves: below every ceiling, and another figure each second."""
    row.utilization_gpu_percent = 70 + swing
    row.utilization_memory_percent = 40 + swing
    row.gpm_sm_active_permille = 550 + 10 * swing
    row.gpm_tensor_permille = 250 + 10 * swing
    row.gpm_dram_permille = 400 + 10 * swing
    row.power_draw_milliwatts = 430_000 + 9_000 * swing
    row.sm_clock_megahertz = row.graphics_clock_megahertz = row.sm_clock_max_megahertz - 15 * swing
    row.temperature_celsius = 55 + swing
    row.memory_temperature_celsius = 65 + swing


if __name__ == "__main__":
    if sys.argv[1] == "engine":
        _serve_engine(in_trouble=sys.argv[2] == "1")
    else:
        number = int(sys.argv[2].removeprefix("model-"))
        _hold(number, sys.argv[3], is_idle=sys.argv[4] == "1")
