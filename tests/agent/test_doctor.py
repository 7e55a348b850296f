"""`gpuward agent doctor`: both sides of each check, a way to mend beside each that is not OK."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest

from gpuward.agent import doctor_facts as facts
from gpuward.agent.doctor_check import Check, Level, Machine
from gpuward.agent.doctor_checks import checks
from gpuward.agent.doctor_command import as_text, worst
from gpuward.agent.model import (
    ComponentHealth,
    Driver,
    Gpu,
    Process,
    Result,
    Sample,
    SeriesKey,
    Snapshot,
)

MIB = 2**20
TAP = facts.Folder(mode=0o3773, uid=0, group="gpuward")
WELL = Machine(
    capabilities=1 << 34 | 1 << 19,
    sees_every_pid=True,
    hides_processes=False,
    tap_directory="/run/gpuward/tap",
    tap_folder=TAP,
    state_directory="/var/lib/gpuward-agent",
    state_free_bytes=10_000 * MIB,
    clock_is_synchronised=True,
    programs=frozenset({"systemd", "nv-fabricmanage"}),
    torch={},
    agent="127.0.0.1:9478",
    agent_trouble="",
    agent_parts=(ComponentHealth("sampler.probe", Result.OK),),
    taken_ports=(),
    coordinator="centre:9479",
    coordinator_trouble="",
)
READ = ComponentHealth("sampler.kmsg", Result.OK)
SHUT_OUT = ComponentHealth("sampler.tap", Result.UNKNOWN, "/run/gpuward/tap: Permission denied")
BLIND = ComponentHealth("sampler.kmsg", Result.UNKNOWN, "/dev/kmsg: Operation not permitted")
CARD = Gpu("GPU-1", 0, "H100", "00000000:1B:00.0")


def snapshot(values=(), **changes):
    samples = {
        key: Sample(key, 1.0, value)
        for signal, value in dict(values).items()
        if (key := SeriesKey(signal, gpu="GPU-1"))
    }
    fields = {
        "driver": Driver(up=True, version="580.95.05"),
        "gpus": (CARD,),
        "components": (READ,),
    }
    return Snapshot(
        node="n1", boot_id="b", at_s=1.0, wall_offset_s=0.0, samples=samples, **(fields | changes)
    )


def bad(shown=None, machine=WELL):
    found = checks(shown or snapshot(), machine)
    # Whatever is not well says how to mend it, in a line.
    assert all(check.mend and "\n" not in check.mend for check in found if check.level)
    assert all(not check.mend for check in found if not check.level)
    return [(check.level.name, check.what) for check in found if check.level]


def test_all_is_well():
    assert bad() == []
    assert worst(checks(snapshot(), WELL)) == 0


SERVER = Process("vllm:x", 7, 1, gpus=("GPU-1",))


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        pytest.param(snapshot(driver=Driver(up=False)), ("FAIL", "driver"), id="no driver"),
        pytest.param(
            snapshot(driver=Driver(up=True, version="579.99")),
            ("WARN", "driver version"),
            id="old driver",
        ),
        pytest.param(
            snapshot({"gpu_persistence_mode": 0.0}), ("WARN", "persistence mode"), id="persistence"
        ),
        pytest.param(snapshot({"gpu_persistence_mode": 1.0}), None, id="persistence is on"),
        pytest.param(snapshot({"gpu_ecc_mode": 0.0}), ("WARN", "ECC"), id="ECC"),
        pytest.param(snapshot({"gpu_ecc_mode": 1.0}), None, id="ECC is on"),
        pytest.param(snapshot({"gpu_compute_mode": 3.0}), ("WARN", "compute mode"), id="exclusive"),
        pytest.param(snapshot({"gpu_compute_mode": 2.0}), ("WARN", "compute mode"), id="nobody"),
        pytest.param(snapshot({"gpu_compute_mode": 0.0}), None, id="default"),
        pytest.param(
            snapshot({"gpu_confidential_mode": 1.0}),
            ("WARN", "confidential mode"),
            id="confidential",
        ),
        pytest.param(snapshot({"gpu_confidential_mode": 0.0}), None, id="not confidential"),
        pytest.param(snapshot({"gpu_mig_mode": 1.0}), ("WARN", "MIG"), id="MIG"),
        pytest.param(snapshot({"gpu_mig_mode": 0.0}), None, id="no MIG"),
        pytest.param(snapshot({"gpu_fabric_state": 3.0}), None, id="fabric manager runs"),
        pytest.param(snapshot(components=(BLIND,)), ("FAIL", "kernel log"), id="kmsg"),
        pytest.param(snapshot(components=()), ("FAIL", "kernel log"), id="kmsg not read"),
        pytest.param(snapshot(processes=(SERVER,)), ("WARN", "taps"), id="no tap"),
        pytest.param(
            snapshot(processes=(SERVER,), components=(READ, SHUT_OUT)),
            ("FAIL", "taps"),
            id="taps that may not be read",
        ),
        pytest.param(snapshot(processes=(replace(SERVER, tapped=True),)), None, id="tap"),
        pytest.param(snapshot(processes=(replace(SERVER, gpus=()),)), None, id="on no GPU"),
    ],
)
def test_of_driver_and_processes(shown, expected):
    assert ([] if expected is None else [expected]) == bad(shown)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"capabilities": 1 << 34}, ("WARN", "processes"), id="no SYS_PTRACE"),
        pytest.param(
            {"capabilities": 1 << 34, "hides_processes": True},
            ("FAIL", "processes"),
            id="hidepid without SYS_PTRACE",
        ),
        pytest.param({"hides_processes": True}, None, id="hidepid with SYS_PTRACE"),
        pytest.param({"sees_every_pid": False}, ("FAIL", "processes"), id="PID namespace"),
        pytest.param({"tap_folder": None}, ("FAIL", "tap directory"), id="no folder"),
        pytest.param(
            {"tap_folder": replace(TAP, mode=0o1777)}, ("WARN", "tap directory"), id="mode"
        ),
        pytest.param({"tap_folder": replace(TAP, uid=5)}, ("WARN", "tap directory"), id="owner"),
        pytest.param(
            {"tap_folder": replace(TAP, group="root")}, ("WARN", "tap directory"), id="group"
        ),
        pytest.param({"agent_trouble": "nobody"}, ("WARN", "agent"), id="no agent"),
        pytest.param(
            {"agent_parts": (ComponentHealth("sampler.probe", Result.UNKNOWN, "cpu: no worker"),)},
            ("WARN", "probes"),
            id="a probe worker that does not measure",
        ),
        pytest.param({"coordinator": ""}, ("WARN", "coordinator"), id="no coordinator"),
        pytest.param({"coordinator_trouble": "refused"}, ("FAIL", "coordinator"), id="unreachable"),
        pytest.param({"state_free_bytes": 256 * MIB}, None, id="room"),
        pytest.param({"state_free_bytes": 256 * MIB - 1}, ("WARN", "state folder"), id="little"),
        pytest.param({"state_free_bytes": 64 * MIB - 1}, ("FAIL", "state folder"), id="none"),
        pytest.param({"clock_is_synchronised": False}, ("WARN", "clock"), id="clock"),
        pytest.param({"clock_is_synchronised": None}, None, id="nobody says"),
        pytest.param({"programs": frozenset({"nsys"})}, ("WARN", "other tools"), id="profiler"),
        pytest.param({"programs": frozenset({"dcgm-exporter"})}, None, id="DCGM"),
    ],
)
def test_of_the_machine(changes, expected):
    assert ([] if expected is None else [expected]) == bad(machine=replace(WELL, **changes))


def test_gpus_on_a_switch_need_their_manager():
    without = replace(WELL, programs=frozenset())
    assert bad(snapshot({"gpu_fabric_state": 3.0}), without) == [("FAIL", "fabric manager")]
    assert bad(snapshot(), without) == []


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        pytest.param(BLIND, [("FAIL", "agent")], id="the agent may not read the log, and we may"),
        pytest.param(READ, [], id="both may"),
        pytest.param(
            ComponentHealth("state", Result.FAIL, "it was deleted: restart the agent"),
            [("FAIL", "agent")],
            id="what only the agent knows",
        ),
    ],
)
def test_what_the_agent_sees_less_of_than_the_user_who_asks(part, expected):
    assert bad(machine=replace(WELL, agent_parts=(part,))) == expected


def test_what_neither_of_them_sees_is_told_once():
    both = replace(WELL, agent_parts=(BLIND,))
    assert bad(snapshot(components=(BLIND,)), both) == [("FAIL", "kernel log")]


def test_a_port_that_is_taken():
    taken = replace(WELL, agent_trouble="nobody", taken_ports=("127.0.0.1:9477",))
    assert bad(machine=taken) == [("WARN", "agent"), ("FAIL", "ports")]


@pytest.mark.parametrize(
    ("torch", "level", "words"),
    [
        pytest.param(True, Level.WARN, "gpuward tap run -- ...`", id="torch"),
        pytest.param(None, Level.WARN, "if it is torch", id="perhaps torch"),
        pytest.param(False, Level.OK, "", id="no torch"),
    ],
)
def test_a_process_without_a_tap(torch, level, words):
    shown = snapshot(processes=(SERVER,))
    found = [c for c in checks(shown, replace(WELL, torch={7: torch})) if c.what == "taps"]
    assert [level] == [check.level for check in found]
    assert words in found[0].mend
    assert "vllm:x (pid 7)" in found[0].found


def test_the_text():
    found = (
        Check(Level.OK, "driver", "answers"),
        Check(Level.FAIL, "kernel log", "no \x1b", "do it"),
    )
    text = as_text(found, colours=False).split("\n")
    assert text[1:] == [
        "OK    driver            answers",
        "FAIL  kernel log        no \ufffd",
        "                        mend: do it",
    ]
    assert worst(found) == 2


def test_facts_of_a_folder(tmp_path):
    tmp_path.chmod(0o1751)
    found = facts.folder(tmp_path)
    assert (found.mode, found.uid) == (0o1751, os.getuid())
    assert facts.folder(tmp_path / "no") is None
    assert facts.free_bytes(tmp_path / "not" / "yet") > 0


@pytest.mark.parametrize(
    ("options", "hides"),
    [
        ("rw,hidepid=2", True),
        ("rw,hidepid=invisible", True),
        ("rw,hidepid=0", False),
        ("rw", False),
    ],
)
def test_facts_of_proc(tmp_path, options, hides):
    own = tmp_path / "self"
    own.mkdir()
    (own / "mounts").write_text(f"tmpfs /tmp tmpfs rw 0 0\nproc /proc proc {options} 0 0\n")
    (own / "status").write_text("Name:\tx\nCapEff:\t0000000400000000\n")
    for pid, name, mapped in ((7, "nv-hostengine", "libtorch_cuda.so"), (8, "bash", "libc.so")):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "comm").write_text(f"{name}\n")
        (tmp_path / str(pid) / "maps").write_text(f"7f00 r-xp /x/{mapped}\n")

    assert hides == facts.hides_processes(tmp_path)
    assert facts.capabilities(tmp_path) == 1 << 34
    assert facts.program_names(tmp_path) == {"nv-hostengine", "bash"}
    assert [facts.has_torch(tmp_path, pid) for pid in (7, 8, 9)] == [True, False, None]


def test_facts_of_the_network():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert facts.connects(address) == ""
        assert not facts.is_free(address)
    assert facts.connects(address) == "Connection refused"
    assert facts.is_free(address)


def test_the_clock_is_asked():
    assert facts.clock_is_synchronised() in (True, False, None)


@pytest.mark.parametrize(
    ("probes", "found"),
    [
        pytest.param(None, [], id="no agent that could say, or none that measures"),
        pytest.param(("ok", ""), ["measure"], id="they measure"),
        pytest.param(
            ("ok", "GPU-1: not now: vllm is 3 s old"),
            ["GPU-1: not now: vllm is 3 s old"],
            id="not now",
        ),
    ],
)
def test_probes(probes, found):
    """Why a GPU is not measured now is told, and is nothing to mend."""
    parts = (ComponentHealth("sampler.probe", Result(probes[0]), probes[1]),) if probes else ()
    lines = [c for c in checks(snapshot(), replace(WELL, agent_parts=parts)) if c.what == "probes"]

    assert [line.found for line in lines] == found
    assert {line.level for line in lines} <= {Level.OK}
