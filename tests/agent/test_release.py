"""`gpuward agent release`, from the command to the driver that nobody holds and back."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from gpuward.agent.__main__ import agent
from gpuward.agent.agent_client import NoAnswerError, connected
from gpuward.agent.app import App
from gpuward.agent.config import AgentConfig
from gpuward.agent.release_answer import is_on_this_node
from gpuward.agent.release_command import ask
from gpuward.daemon.clock import SystemClock
from gpuward.daemon.config import parse

libraries = pytest.importorskip("gpuward.simulator.libraries")
profile = pytest.importorskip("gpuward.simulator.profile")
state_module = pytest.importorskip("gpuward.simulator.state")

pytestmark = pytest.mark.usefixtures("one_loop")


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        pytest.param("unix:", True, id="a socket"),
        pytest.param("unix:/run/gpuward/agent.sock", True, id="a socket by its path"),
        pytest.param("ipv4:127.0.0.1:41212", True, id="loopback"),
        pytest.param("ipv6:[::1]:41212", True, id="loopback, the newer"),
        pytest.param("ipv6:%5B::1%5D:41212", True, id="as gRPC writes it"),
        pytest.param("ipv4:10.0.0.7:41212", False, id="another node"),
        pytest.param("ipv4:12.127.0.0:1", False, id="only looks like it"),
        pytest.param("ipv6:[::ffff:10.0.0.7]:1", False, id="another node, mapped"),
        pytest.param("ipv6:[::1:2]:41212", False, id="another node, short"),
        pytest.param("", False, id="nobody knows"),
    ],
)
def test_who_may_ask(peer, expected):
    assert is_on_this_node(peer) is expected


@pytest.mark.parametrize("words", ["0s", "25h", "30", "m", "-5m", "1d", "1.5h", ""])
def test_durations_that_are_none(words):
    outcome = CliRunner().invoke(agent, ["release", "--for", words])

    assert outcome.exit_code == 2
    assert "--for" in outcome.output


def test_no_agent_is_one_line(tmp_path):
    address = f"unix:{tmp_path}/nobody.sock"
    outcome = CliRunner().invoke(agent, ["release", "--address", address])

    assert outcome.exit_code == 1
    assert outcome.output.count("\n") == 1
    assert "no agent answers there" in outcome.output


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Four simulated GPUs, and the configuration of an agent of theirs."""
    machine = profile.load("l40s-x4")
    state = state_module.State.create(tmp_path / "sim", len(machine.gpus))
    machine.write_to(state)
    try:
        env = libraries.environment(state.path, tmp_path)
    except libraries.NotBuiltError as error:
        pytest.skip(str(error))
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    for folder in ("state", "tap"):
        (tmp_path / folder).mkdir()
    (tmp_path / "kmsg").touch()
    tables = {
        "state": {"directory": str(tmp_path / "state")},
        "http": {"address": "127.0.0.1:0"},
        "grpc": {"address": f"unix:{tmp_path}/agent.sock"},
        "tap": {"directory": str(tmp_path / "tap")},
        "kmsg": {"path": str(tmp_path / "kmsg")},
        "pci": {"devices": str(tmp_path)},
        "probes": {"mode": "off"},
    }
    lines = [
        f"{table}.{key} = {json.dumps(value)}"
        for table, keys in tables.items()
        for key, value in keys.items()
    ]
    yield parse("\n".join(lines), AgentConfig, name="agent.toml")
    state.row.closed = 1
    state.close()


@pytest.fixture
def running(notifier):
    """Run an agent for the length of a block, from when it is ready."""

    @contextlib.asynccontextmanager
    async def run(config):
        stop, notifier.told = asyncio.Event(), []
        async with asyncio.TaskGroup() as group:
            group.create_task(App(config, clock=SystemClock(), notifier=notifier).run(stop))
            while "ready" not in notifier.told:  # noqa: ASYNC110 - told by a call, not an event
                await asyncio.sleep(0.01)
            yield config.grpc.address
            stop.set()

    return run


def seen(address):
    with connected(address) as there:
        return there.snapshot()


async def until(address, wanted):
    while True:
        snapshot = await asyncio.to_thread(seen, address)
        if wanted(snapshot):
            return snapshot
        await asyncio.sleep(0.05)


def values(snapshot):
    return {v.series.signal: v.value for v in snapshot.values if not v.series.gpu_uuid}


def children():
    """Return the pids of the NVML children of this process."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            is_one = b"gpuward.agent.nvml_child" in (folder / "cmdline").read_bytes()
            if is_one and parent(folder) == os.getpid():
                found.append(int(folder.name))
    return found


def parent(folder):
    return int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])


async def release(address, *arguments):
    """Run the command; returns its exit status and what it printed."""
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gpuward.agent", "release", "--address", address, *arguments),
        stdout=subprocess.PIPE,
    )
    printed, _ = await command.communicate()
    return command.returncode, printed.decode()


def in_maintenance(snapshot):
    return [f.kind for f in snapshot.findings if f.kind == "node.maintenance"]


async def test_released_over_a_restart_and_back(node, running):
    """Nobody holds the driver until it is ended, and everybody who asks is told so."""
    async with running(node) as address:
        await until(address, lambda snapshot: snapshot.driver_up)
        before = children()
        said = await release(address, "--for", "30m", "--reason", "driver 590")
        after = children()
        released = await until(address, in_maintenance)
    async with running(node) as address:
        restarted = await until(address, in_maintenance)
        after_restart = children()
        said_at_end = await release(address, "--end")
        back = await until(address, lambda snapshot: snapshot.driver_up)
        await until(address, lambda snapshot: not in_maintenance(snapshot))

    assert len(before) == 1
    assert after == after_restart == []
    end_s = values(released)["node_maintenance_end_timestamp_seconds"]
    end = datetime.fromtimestamp(end_s, UTC)
    assert said[0] == said_at_end[0] == 0
    assert said[1].startswith(f"Maintenance until {end:%Y-%m-%d %H:%M}:")
    assert said_at_end[1] == "The agent opens the driver again.\n"
    assert values(released)["node_maintenance"] == values(restarted)["node_maintenance"] == 1.0
    (finding,) = released.findings
    assert finding.summary == "Maintenance: driver 590."
    assert len(back.gpus) == 4


@pytest.mark.parametrize("for_s", [0, 86_401])
async def test_a_time_that_is_none_is_refused(node, running, for_s):
    async with running(node) as address:
        with pytest.raises(NoAnswerError, match="is not within"):
            await asyncio.to_thread(ask, address, for_s, "", end=False)
