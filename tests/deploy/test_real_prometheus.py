"""A real Prometheus, as Debian has it, reads the agent's page through its own configuration."""

import asyncio
import json
import shutil
import socket
from types import MappingProxyType
from urllib.parse import quote

import pytest

from gpuward.agent.exporter import Exporter
from gpuward.agent.model import Driver, Gpu, Sample, SeriesKey, Snapshot
from gpuward.daemon.testing import FakeClock

pytestmark = pytest.mark.debian

GPU = "GPU-3c0f2b5e"
USED = SeriesKey("gpu_memory_used_bytes", gpu=GPU)
SNAPSHOT = Snapshot(
    "n1",
    "boot-1",
    1_000.0,
    0.0,
    Driver(up=True, version="580.95.05"),
    gpus=(Gpu(GPU, 3, "NVIDIA H100", "00000000:1B:00.0"),),
    samples=MappingProxyType({USED: Sample(USED, 1_000.0, float(80 << 30))}),
)
# Of "secret", four rounds.
USERS = (
    "basic_auth_users:\n"
    "  prometheus: $2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"
)
CONFIG = """
global: {{evaluation_interval: 1s, scrape_interval: 1s, scrape_timeout: 1s}}
rule_files: [{rules}/gpuward.alerts.yml, {rules}/dcgm_names.rules.yml]
scrape_configs:
  - job_name: gpuward
    basic_auth: {{username: prometheus, password: secret}}
    static_configs: [{{targets: ["{target}"]}}]
"""


@pytest.fixture
async def agent(tmp_path):
    """Serve a node behind a password; gives the address."""
    (tmp_path / "web.yml").write_text(USERS)
    exporter = Exporter(
        clock=FakeClock(), snapshot=lambda: SNAPSHOT, is_started=lambda: True, self_metrics=()
    )
    server = exporter.server(str(tmp_path / "web.yml"))
    host, port = await server.start("127.0.0.1", 0)
    yield f"{host}:{port}"
    await server.close()


@pytest.fixture
async def ask(agent, deployed, tmp_path):
    """Run Prometheus beside the agent; asks it for the result of a query."""
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus (Debian package prometheus)")
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(rules=deployed / "prometheus", target=agent))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
        stderr=asyncio.subprocess.DEVNULL,
    )

    async def ask(query):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        path = f"/api/v1/query?query={quote(query)}"
        writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        return [(one["metric"], one["value"][1]) for one in json.loads(body)["data"]["result"]]

    yield ask
    process.kill()
    await process.wait()


async def once_there(ask, query):
    """Return the result as soon as there is one; Prometheus takes a moment to start."""
    async with asyncio.timeout(200):
        while True:
            try:
                if result := await ask(query):
                    return result
            except (ConnectionError, ValueError, KeyError):
                pass
            await asyncio.sleep(0.1)


async def test_it_scrapes_and_its_rules_speak(agent, ask):
    """OpenMetrics, compressed, with a password: the way from the driver to DCGM's name."""
    ((labels, used_mib),) = await once_there(ask, "DCGM_FI_DEV_FB_USED")

    assert "81920" == used_mib
    assert {
        "__name__": "DCGM_FI_DEV_FB_USED",
        "job": "gpuward",
        "instance": agent,
        "UUID": GPU,
        "gpu": "3",
        "device": "nvidia3",
        "modelName": "NVIDIA H100",
        "pci_bus_id": "00000000:1B:00.0",
        "Hostname": "127.0.0.1",
    } == labels
    assert ["1"] == [value for _, value in await ask('up{job="gpuward"}')]
    assert [] == await ask('ALERTS{alertstate="firing"}')
