"""How long the daemons take from their start until they serve, by what a client sees.

Agent: until a scrape of /metrics has every fast gauge of all eight GPUs of the simulated driver;
this is the command that a user runs, console script and imports included.  Coordinator: until
/readyz says 200, on a new database, which is the slower of the two starts.  Wall time, so the runs
of both are interleaved; the CPU time beside it does not depend on who else uses the machine.
Modules are compiled beforehand, as pip does it: the first round does that and is dropped.
"""

from __future__ import annotations

import http.client
import os
import socket
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from figures import of_runs
from machine import agent_config, coordinator_config, simulated
from processes import GPUWARD, children, cpu_s, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from figures import Figure
    from timing import Effort

AGENT_BUDGET_S = 0.5
COORDINATOR_BUDGET_S = 2.0
GPUS = 8
FAST_GAUGES = (
    *("memory_total_bytes", "memory_used_bytes", "memory_free_bytes", "memory_reserved_bytes"),
    *("utilization_ratio", "memory_bandwidth_utilization_ratio", "sm_clock_hertz"),
    *("memory_clock_hertz", "clock_event_reasons", "power_draw_watts", "energy_joules_total"),
    *("temperature_celsius", "memory_temperature_celsius"),
)
LOOK_EVERY_S = 0.002
GIVE_UP_S = 30.0


def measure(effort: Effort) -> Iterator[Figure]:
    walls: dict[str, list[float]] = {"agent": [], "coordinator": []}
    cpus: dict[str, list[float]] = {"agent": [], "coordinator": []}
    with tempfile.TemporaryDirectory() as compiled:
        installed = {"PYTHONPYCACHEPREFIX": compiled, "PYTHONDONTWRITEBYTECODE": ""}
        for turn in range(1 + effort.times(11)):
            for name, start in (("agent", _agent), ("coordinator", _coordinator)):
                with tempfile.TemporaryDirectory() as folder:
                    wall_s, used_s = start(Path(folder), installed)
                if turn > 0:
                    walls[name].append(wall_s)
                    cpus[name].append(used_s)
    yield of_runs(
        "agent's first complete /metrics, wall",
        walls["agent"],
        "s",
        budget=AGENT_BUDGET_S,
        ratio=f"{statistics.median(cpus['agent']):.2f} s CPU, parent and NVML child",
    )
    yield of_runs(
        "coordinator ready, new database, wall",
        walls["coordinator"],
        "s",
        budget=COORDINATOR_BUDGET_S,
        ratio=f"{statistics.median(cpus['coordinator']):.2f} s CPU",
    )


def _agent(folder: Path, installed: Mapping[str, str]) -> tuple[float, float]:
    port = _free_port()
    config = agent_config(folder)
    text = config.read_text().replace("127.0.0.1:0", f"127.0.0.1:{port}", 1)
    config.write_text(text)
    with simulated(folder) as (_, env):
        whole = {**env, **installed}
        return _started("agent", config, whole, lambda: _is_complete(_get(port, "/metrics")))


def _coordinator(folder: Path, installed: Mapping[str, str]) -> tuple[float, float]:
    port = _free_port()
    config = coordinator_config(folder)
    before, _, after = config.read_text().rpartition("127.0.0.1:0")
    config.write_text(f"{before}127.0.0.1:{port}{after}")
    env = {**os.environ, **installed}
    return _started("coordinator", config, env, lambda: bool(_get(port, "/readyz")))


def _started(
    name: str, config: Path, env: Mapping[str, str], serves: Callable[[], bool]
) -> tuple[float, float]:
    """Return wall and CPU seconds from the start of the command until ``serves``."""
    began_s = time.monotonic()
    command = [GPUWARD, name, "run", "--config", config]
    with started(command, config.with_suffix(".log"), env) as process:
        while not serves():
            if process.poll() is not None or time.monotonic() - began_s > GIVE_UP_S:
                raise RuntimeError(f"{name} does not serve: {config.with_suffix('.log')}")
            time.sleep(LOOK_EVERY_S)
        wall_s = time.monotonic() - began_s
        own = [process.pid, *children(process.pid).values()]
        return wall_s, sum(cpu_s(pid) for pid in own)


def _is_complete(page: str) -> bool:
    return all(page.count(f"\ngpuward_gpu_{name}{{") == GPUS for name in FAST_GAUGES)


def _get(port: int, path: str) -> str:
    """Return the page, empty when it cannot be had (yet)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        text = answer.read().decode()
    except OSError:
        return ""
    finally:
        connection.close()
    return text if answer.status == http.HTTPStatus.OK else ""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]
