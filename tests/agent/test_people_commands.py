"""The commands for people as processes: exit status, JSON, a terminal given back as it was."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from concurrent import futures
from pathlib import Path

import grpc
import pytest

from gpuward.v1 import agent_pb2, agent_pb2_grpc

GPUWARD = Path(sys.executable).with_name("gpuward")
SCENARIO = """
profile = "h100-sxm-x8"
[[steps]]
at_s = 0
do = "set"
gpus = [3]
values = { pcie_link_width = 8 }
"""


@pytest.fixture
def node(tmp_path):
    """Run a command of the agent on a simulated node."""
    pytest.importorskip("gpuward.simulator")
    config = tmp_path / "agent.toml"

    def run(scenario, *words):
        root = tmp_path / "root"
        config.write_text(
            f'[node]\nname = "n1"\n[state]\ndirectory = "{tmp_path}/state"\n'
            f'[grpc]\naddress = "unix:{tmp_path}/a.sock"\n[tap]\ndirectory = "{tmp_path}/tap"\n'
            f'[kmsg]\npath = "{root}/dev/kmsg"\n'
            f'[pci]\ndevices = "{root}/sys/bus/pci/devices"\n'
        )
        simulate = (GPUWARD, "simulate", "--root", root, scenario, "--")
        done = subprocess.run(
            (*simulate, GPUWARD, "agent", *words, "--config", config),
            capture_output=True,
            text=True,
            check=False,
            timeout=200,
        )
        assert "Traceback" not in done.stderr
        return done

    return run


@pytest.mark.simulator
def test_scan_of_a_healthy_node(node):
    done = node("h100-sxm-x8", "scan", "--json")

    seen = json.loads(done.stdout)
    assert (done.returncode, seen["status"], seen["schema"]) == (0, "nothing", 1), done.stdout
    assert [gpu["index"] for gpu in seen["gpus"]] == list(range(8))
    assert {gpu["verdict"] for gpu in seen["gpus"]} == {"ok"}
    assert all(gpu["pcie_width"] == 16 and gpu["ecc_uncorrected"] == 0 for gpu in seen["gpus"])
    assert seen["findings"] == []
    assert seen["gpus_expected"] == 8


@pytest.mark.simulator
def test_scan_of_a_sick_node(node, tmp_path):
    scenario = tmp_path / "sick.toml"
    scenario.write_text(SCENARIO)

    done = node(scenario, "scan")

    assert done.returncode == 2, done.stdout
    assert "GPU 3 has 8 of 16 PCIe lanes." in done.stdout
    assert "  5x8<16  " in done.stdout
    assert "\x1b" not in done.stdout
    assert not (tmp_path / "state").exists()


@pytest.mark.simulator
def test_a_scan_knows_what_the_agent_has_learned_and_changes_nothing(node, tmp_path):
    """That card had more lanes once; the others are seen to have sixteen, which nobody keeps."""
    state = tmp_path / "state"
    state.mkdir()
    kept = json.dumps({"1652622031501": {"pcie_link_width": 32.0}})
    (state / "gpu-best.json").write_text(kept)

    done = node("h100-sxm-x8", "scan")

    assert "GPU 0 has 16 PCIe lanes; it had 32 before." in done.stdout
    assert {file.name: file.read_text() for file in state.iterdir()} == {"gpu-best.json": kept}


def test_scan_with_a_file_that_cannot_be_used_is_no_page(tmp_path):
    words = (GPUWARD, "agent", "scan", "--config", tmp_path / "no.toml")
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=200)

    assert (done.returncode, done.stderr.count("\n")) == (3, 1), done.stderr


def test_scan_of_a_node_without_a_driver(tmp_path):
    """It says so, in three seconds, and takes it for no health."""
    config = tmp_path / "agent.toml"
    config.write_text(
        f'[state]\ndirectory = "{tmp_path}/state"\n[kmsg]\npath = "{tmp_path}/kmsg"\n'
        f'[pci]\ndevices = "{tmp_path}/pci"\n[tap]\ndirectory = "{tmp_path}/tap"\n'
    )
    done = subprocess.run(
        (GPUWARD, "agent", "scan", "--config", config, "--json"),
        env={**os.environ, "LD_LIBRARY_PATH": ""},
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    seen = json.loads(done.stdout)
    if seen["driver_up"]:
        pytest.skip("there is a driver here")
    assert (done.returncode, seen["status"], seen["gpus"]) == (3, "could_not_look", [])
    assert any(row["what"] == "GPUs" for row in seen["unchecked"])


class Agent(agent_pb2_grpc.AgentServiceServicer):
    """An agent of one GPU."""

    def GetSnapshot(self, request, context):  # noqa: N802
        values = [
            {"series": {"signal": name, "gpu_uuid": "GPU-1"}, "value": 40.0}
            for name in ("gpu_memory_used_bytes", "gpu_temperature_celsius")
        ]
        gpus = [{"uuid": "GPU-1", "index": 0, "name": "NVIDIA H100"}]
        snapshot = {"node": "n1", "driver_up": True, "gpus": gpus, "values": values}
        return agent_pb2.GetSnapshotResponse(snapshot=snapshot)


@pytest.fixture
def address(tmp_path):
    server = grpc.server(futures.ThreadPoolExecutor(1))
    agent_pb2_grpc.add_AgentServiceServicer_to_server(Agent(), server)
    address = f"unix:{tmp_path}/a.sock"
    server.add_insecure_port(address)
    server.start()
    yield address
    server.stop(None).wait()


class Terminal:
    """`gpuward agent top` in a terminal of its own."""

    def __init__(self, address):
        self.ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 80))
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        self.screen = b""
        self.process = subprocess.Popen(
            (GPUWARD, "agent", "top", "--address", address),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )

    def read_until(self, words, within_s=200):
        """Read until the screen holds ``words``."""
        until_s = time.monotonic() + within_s
        while words not in self.screen and time.monotonic() < until_s:
            if select.select([self.ours], [], [], 0.1)[0]:
                self.screen += os.read(self.ours, 65_536)
        assert words in self.screen, self.screen

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)
        os.close(self.theirs)


@pytest.fixture
def terminal(address):
    terminal = Terminal(address)
    yield terminal
    terminal.close()


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(lambda terminal: os.write(terminal.ours, b"q"), id="q"),
        pytest.param(lambda terminal: terminal.process.send_signal(signal.SIGINT), id="SIGINT"),
        pytest.param(lambda terminal: terminal.process.send_signal(signal.SIGTERM), id="SIGTERM"),
    ],
)
def test_top_gives_the_terminal_back(terminal, leave):
    terminal.read_until(b"n1  ")
    assert b"\x1b[?1049h\x1b[?25l" in terminal.screen

    leave(terminal)

    terminal.read_until(b"\x1b[?25h\x1b[?1049l")
    assert terminal.process.wait(timeout=200) == 0
    assert termios.tcgetattr(terminal.theirs) == terminal.before


def test_top_follows_the_size_of_its_window(terminal):
    terminal.read_until(b"n1  ")
    termios.tcsetwinsize(terminal.theirs, (24, 12))
    terminal.process.send_signal(signal.SIGWINCH)
    terminal.read_until(b"n1  00:00...")


def test_top_in_a_pipe_is_one_frame(address):
    done = subprocess.run(
        (GPUWARD, "agent", "top", "--address", address),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert "n1  00:00:00 UTC  0 page, 0 ticket" in done.stdout
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("command", ["top", "inject gpu.lost"])
def test_nobody_answers(tmp_path, command):
    words = [*command.split(), "--address", f"unix:{tmp_path}/no.sock"]
    done = subprocess.run(
        (GPUWARD, "agent", *words), capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 1
    assert done.stderr.startswith("gpuward agent: unix:")
    assert "no agent answers there" in done.stderr
    assert done.stderr.count("\n") == 1
