"""`gpuward agent record` against a running agent, and `replay` of what it wrote, as processes."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import time

import pytest

from gpuward.agent.recording import Judged
from gpuward.agent.recording_file import RecordingReader

AGENT = [sys.executable, "-P", "-m", "gpuward.agent"]
XID_79 = "3,7,{usec},-;NVRM: Xid (PCI:0000:1B:00): 79, pid=1, name=x, GPU has fallen off the bus.\n"


def wait_for(condition, within_s=200):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def gpuward(*arguments):
    return subprocess.run(
        [*AGENT, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=200
    )


@pytest.fixture
def driver(tmp_path):
    """The environment of a simulated node of eight H100."""
    libraries = pytest.importorskip("gpuward.simulator.libraries")
    profile = pytest.importorskip("gpuward.simulator.profile")
    state_module = pytest.importorskip("gpuward.simulator.state")
    machine = profile.load("h100-sxm-x8")
    state = state_module.State.create(tmp_path / "driver", len(machine.gpus))
    machine.write_to(state)
    try:
        env = libraries.environment(state.path, tmp_path)
    except libraries.NotBuiltError as error:
        pytest.skip(str(error))
    yield env
    state.row.closed = 1
    state.close()


@pytest.fixture
def start(tmp_path):
    """Start an agent; returns its configuration file."""
    processes = []

    def run(*, allowed, env=None):
        config = tmp_path / "agent.toml"
        (tmp_path / "kmsg").touch()
        config.write_text(
            f'[node]\nname = "secret-host"\n[state]\ndirectory = "{tmp_path}/state"\n'
            '[http]\naddress = "127.0.0.1:0"\n[grpc]\naddress = "127.0.0.1:0"\n'
            f'[tap]\ndirectory = "{tmp_path}/tap"\n[kmsg]\npath = "{tmp_path}/kmsg"\n'
            f'[probes]\nmode = "off"\n[recording]\nallowed = {str(allowed).lower()}\n'
        )
        addresses = tmp_path / "state" / "addresses.json"
        process = subprocess.Popen(
            [*AGENT, "run", "--config", str(config)],
            env=env,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        processes.append(process)
        wait_for(lambda: addresses.exists() or process.poll() is not None)
        assert process.poll() is None, process.stderr.read()
        return config

    yield run
    for process in processes:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=200)


@pytest.mark.simulator
def test_record_and_replay(start, driver, tmp_path):
    config = start(allowed=True, env=driver)
    (tmp_path / "kmsg").write_text(XID_79.format(usec=int(time.monotonic() * 1e6)))
    file = tmp_path / "node.rec"
    # It is read and judged within the recording, or is of the time before it.
    done = gpuward("record", "--config", config, "--for", "3s", "-o", file)
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith(f"{file}: ")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600

    first, second = gpuward("replay", file, "--json"), gpuward("replay", file, "--json")
    assert (0, "") == (first.returncode, first.stderr)
    assert first.stdout == second.stdout
    found = [json.loads(line) for line in first.stdout.splitlines()]
    assert ("raised", "gpu.xid", 79) in {(it["turn"], it["kind"], it["code"]) for it in found}
    assert "secret-host" not in first.stdout
    text = gpuward("replay", file).stdout
    with file.open("rb") as opened:
        judged = [one for one in RecordingReader(opened) if isinstance(one, Judged)]
    assert "gpu.xid 79" in text
    assert int(text.splitlines()[-1].split()[2]) == len(judged)
    # None is missing; there is one a second where the machine is not too busy, and never more.
    assert [one.number for one in judged] == [*range(judged[0].number, judged[-1].number + 1)]
    assert len(judged) <= judged[-1].at_s - judged[0].at_s + 2


def test_without_consent_nothing_is_written(start, tmp_path):
    config = start(allowed=False)
    file = tmp_path / "node.rec"
    done = gpuward("record", "--config", config, "--for", "1s", "-o", file)

    assert done.returncode == 1
    assert "[recording] allowed is false: set it to true" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not file.exists()


def test_without_an_agent_it_is_one_line(tmp_path):
    file = tmp_path / "node.rec"
    done = gpuward("record", "--address", "127.0.0.1:1", "-o", file)

    assert done.returncode == 1
    assert "no agent answers there" in done.stderr
    assert not file.exists()


def test_a_file_that_cannot_be_written_is_one_line(tmp_path):
    done = gpuward("record", "--address", "127.0.0.1:1", "-o", tmp_path / "no" / "node.rec")

    assert done.returncode == 1
    assert done.stderr.endswith("No such file or directory\n")


def test_an_interrupted_recording_can_be_replayed(start, tmp_path):
    config = start(allowed=True)
    file = tmp_path / "node.rec"
    recording = subprocess.Popen(
        [*AGENT, "record", "--config", str(config), "--for", "10m", "-o", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for(lambda: file.exists() and file.stat().st_size > len("gpuward recording\n"))
    recording.send_signal(signal.SIGINT)
    said, wrong = recording.communicate(timeout=200)
    replayed = gpuward("replay", file)

    assert (recording.returncode, wrong) == (0, "")
    assert said.startswith(f"{file}: ")
    assert "judgements" in replayed.stdout
    assert replayed.stderr.endswith("not all of it: it was cut off\n")
