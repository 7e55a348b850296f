"""The whole agent in one process: starts, serves, says goodbye, refuses what it cannot do."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path

import grpc.aio
import pytest
from structlog.testing import capture_logs

from gpuward.agent.app import App
from gpuward.agent.config import AgentConfig
from gpuward.agent.maintenance_keeper import MaintenanceKeeper
from gpuward.agent.nvml_ahead import nvml_sampler
from gpuward.agent.starting import StartError
from gpuward.daemon.clock import SystemClock
from gpuward.daemon.config import parse
from gpuward.v1 import agent_pb2, agent_pb2_grpc

pytestmark = pytest.mark.usefixtures("one_loop")


@pytest.fixture
def make_config(tmp_path):
    """Build a configuration in a temporary folder, free ports, nobody to report to."""

    def make(**tables):
        for folder in ("state", "tap"):
            (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / "kmsg").touch()
        values = {
            "node": {"name": "n1"},
            "state": {"directory": str(tmp_path / "state")},
            "http": {"address": "127.0.0.1:0"},
            "grpc": {"address": "127.0.0.1:0"},
            "tap": {"directory": str(tmp_path / "tap")},
            "kmsg": {"path": str(tmp_path / "kmsg")},
            "probes": {"mode": "off"},
        } | tables
        text = "\n".join(
            f"[{table}]\n"
            + "\n".join(f"{key} = {json.dumps(value)}" for key, value in keys.items())
            for table, keys in values.items()
        )
        return parse(text, AgentConfig, name="agent.toml")

    return make


@pytest.fixture
def running(notifier, tmp_path):
    """Run an agent for the length of a block; gives its addresses once it is ready."""

    @contextlib.asynccontextmanager
    async def run(config):
        stop = asyncio.Event()
        addresses = tmp_path / "state" / "addresses.json"
        async with asyncio.TaskGroup() as group:
            app = App(config, clock=SystemClock(), notifier=notifier)
            group.create_task(app.run(stop))
            while "ready" not in notifier.told:  # noqa: ASYNC110 - told by a call, not an event
                await asyncio.sleep(0.01)
            yield json.loads(addresses.read_text())
            stop.set()

    return run


async def get(address, path, headers=""):
    host, port = address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer.decode()


async def test_without_a_driver_it_runs_and_says_so_once(make_config, running, notifier):
    with capture_logs() as logs:
        async with running(make_config()) as addresses:
            metrics = ""
            while "\ngpuward_driver_up 0.0\n" not in metrics or "watchdog" not in notifier.told:
                metrics = await get(addresses["http"], "/metrics")
            # It is looked for again, and not found again.
            await asyncio.sleep(2.5)
            ready = await get(addresses["http"], "/readyz")

    assert "\ngpuward_driver_up 0.0\n" in metrics
    assert ready.startswith("HTTP/1.1 200 ")
    assert [log["event"] for log in logs].count("driver.missing") == 1
    assert notifier.told[-1] == "stopping"
    assert "watchdog" in notifier.told


async def test_it_answers_queries_over_a_socket(make_config, running, tmp_path):
    address = f"unix:{tmp_path}/a.sock"
    async with (
        running(make_config(grpc={"address": address})) as addresses,
        grpc.aio.insecure_channel(addresses["grpc"]) as channel,
    ):
        stub = agent_pb2_grpc.AgentServiceStub(channel)
        answer = await stub.GetSnapshot(agent_pb2.GetSnapshotRequest(), timeout=200)

    assert addresses["grpc"] == address
    assert answer.snapshot.node == "n1"
    assert not answer.snapshot.driver_up
    assert answer.snapshot.boot_id


async def test_a_coordinator_that_is_not_there_keeps_nobody_waiting(make_config, running):
    """Neither at the start nor at the end."""
    config = make_config(coordinator={"address": "127.0.0.1:1"})
    loop = asyncio.get_running_loop()
    with capture_logs() as logs:
        async with running(config) as addresses:
            metrics = await get(addresses["http"], "/metrics")
            stopped_at = loop.time()
        took_s = loop.time() - stopped_at

    assert "\ngpuward_agent_coordinator_connected 0.0\n" in metrics
    assert took_s < 15
    assert "coordinator.unreachable" in [log["event"] for log in logs]


@pytest.mark.parametrize("table", ["http", "grpc"])
async def test_a_taken_port_is_one_line(make_config, notifier, table):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        app = App(
            make_config(**{table: {"address": address}}), clock=SystemClock(), notifier=notifier
        )
        with pytest.raises(StartError) as error:
            await app.run(asyncio.Event())

    assert str(error.value).startswith(f"[{table}] address {address}: ")
    assert "choose another" in str(error.value)
    assert notifier.told == []


async def test_pages_are_behind_the_web_configuration(make_config, running, tmp_path):
    """Each of them, health too, as with every exporter of the toolkit."""
    web_config = tmp_path / "web.yml"
    # Of "secret", four rounds.
    web_config.write_text(
        "basic_auth_users:\n"
        "  prometheus: $2y$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"
    )
    http = {"address": "127.0.0.1:0", "web_config": str(web_config)}

    async with running(make_config(http=http)) as addresses:
        stranger = await get(addresses["http"], "/healthz")
        known = await get(
            addresses["http"], "/metrics", "Authorization: Basic cHJvbWV0aGV1czpzZWNyZXQ=\r\n"
        )

    assert stranger.startswith("HTTP/1.1 401 ")
    assert known.startswith("HTTP/1.1 200 ")


async def test_a_web_configuration_that_cannot_be_is_one_line(make_config, notifier, tmp_path):
    """Rather no agent than one whose pages are open against somebody's word."""
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {}\n")
    config = make_config(http={"address": "127.0.0.1:0", "web_config": str(path)})

    with pytest.raises(StartError) as error:
        await App(config, clock=SystemClock(), notifier=notifier).run(asyncio.Event())

    assert str(error.value).startswith(f"[http] web_config: {path}: line 1: ")


async def test_a_state_folder_that_cannot_be_is_one_line(make_config, notifier, tmp_path):
    file = tmp_path / "file"
    file.touch()
    config = make_config(state={"directory": str(file / "state")})

    with pytest.raises(StartError) as error:
        await App(config, clock=SystemClock(), notifier=notifier).run(asyncio.Event())

    assert str(error.value).startswith(f"[state] directory {file}/state: Not a directory")


def is_running(pid):
    return Path(f"/proc/{pid}/stat").exists()


async def test_a_child_that_started_ahead_is_used_and_ends_with_us(make_config, notifier, tmp_path):
    """It is the agent's own, and no other is started; also where the agent cannot start."""
    file = tmp_path / "file"
    file.touch()
    config = make_config(state={"directory": str(file / "state")})
    nvml = nvml_sampler(config, SystemClock())
    nvml.start_child()
    ahead = nvml.child_pid
    nvml.start_child()
    again = nvml.child_pid
    runs = is_running(ahead)

    with pytest.raises(StartError):
        await App(config, clock=SystemClock(), notifier=notifier, nvml=nvml).run(asyncio.Event())

    assert (ahead, True) == (again, runs)
    assert nvml.child_pid is None
    assert not is_running(ahead)


@pytest.mark.parametrize("is_released", [False, True])
async def test_no_child_starts_ahead_of_a_maintenance(make_config, tmp_path, written, is_released):
    """A person has asked that nothing of the driver be held open."""
    config = make_config()
    if is_released:
        keeper = MaintenanceKeeper(tmp_path / "state" / "maintenance.json", SystemClock())
        keeper.begin_release(600.0, "driver upgrade")
        written()
    nvml = nvml_sampler(config, SystemClock())

    nvml.start_child()
    has_child = nvml.child_pid is not None
    await nvml.stop()

    assert (not is_released) == has_child
